"""From an address to a customer's token: `module/label`, the module by its nickname in the settings."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.edges.hsm.config import Pin
from worker.edges.hsm.customer import TokenKeystore
from worker.edges.hsm.desk import CustomerModule, Desk
from worker.model.keystores import KeystoreAddress, KeystoreMisconfigured, Provider


@dataclass(frozen=True, slots=True)
class TokenCredential:
    """A PIN, and the tokens (`module/label`) that it is for."""

    pin: Pin
    endpoints: Sequence[str]


class CustomerTokens:
    """Opens keys in tokens that are not the worker's. Each token has one desk, whatever number of keys it holds."""

    def __init__(
        self, modules: Mapping[str, Path], ours: Path, credentials: Mapping[str, TokenCredential], timeout_s: float
    ) -> None:
        """`ours` is the worker's own module: one process must not log in to it twice, nor finalise it under itself.

        Raises `KeystoreMisconfigured` when a customer's module is the same file.
        """
        for name, path in modules.items():
            if path.samefile(ours):
                raise KeystoreMisconfigured(
                    f"keystore_modules: {name} is the worker's own module; name a copy of the file"
                )
        self._modules = {name: CustomerModule(path) for name, path in modules.items()}
        self._credentials, self._timeout_s = credentials, timeout_s
        self._desks: dict[str, tuple[str, Desk]] = {}

    def places(self) -> list[KeystoreAddress]:
        """Every token of every credential, without a key: for `look`."""
        return [
            KeystoreAddress(Provider.PKCS11, endpoint, "", name)
            for name, each in self._credentials.items()
            for endpoint in each.endpoints
        ]

    def open(self, where: KeystoreAddress) -> TokenKeystore:
        """The key at this address; the token is not touched yet. Raises `KeystoreMisconfigured`."""
        credential = self._credentials.get(where.credential)
        if credential is None:
            raise KeystoreMisconfigured(f"keystore_credentials: there is no {where.provider} one of this name")
        if where.endpoint not in credential.endpoints:
            raise KeystoreMisconfigured("keystore_credentials: the credential is not for this endpoint")
        return TokenKeystore(self._desk(where, credential), where.key, self._timeout_s)

    def _desk(self, where: KeystoreAddress, credential: TokenCredential) -> Desk:
        nickname, _, label = where.endpoint.partition("/")
        module = self._modules.get(nickname)
        if module is None:
            raise KeystoreMisconfigured(f"keystore_modules: there is no {nickname}")
        by, desk = self._desks.get(where.endpoint, (where.credential, None))
        if by != where.credential:
            # The token takes a second login for granted: a wrong PIN would do.
            raise KeystoreMisconfigured("keystore_credentials: this token was opened by another credential")
        if desk is None:
            desk = Desk(module, label, credential.pin)
            self._desks[where.endpoint] = (by, desk)
        return desk

    async def close(self) -> None:
        """Log out of every token. Those that hang are left alone."""
        desks, self._desks = self._desks, {}
        await asyncio.gather(*(asyncio.to_thread(desk.stop) for _, desk in desks.values()))
