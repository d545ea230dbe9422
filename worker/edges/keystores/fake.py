"""Keystores in memory, kept honest by the contract suite that the real ones pass; for tests of what stands above."""

import os
from collections.abc import Iterable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from worker.model.keystores import (
    KeystoreAddress,
    KeystoreFault,
    KeystoreForbidden,
    KeystoreKey,
    KeystoreMisconfigured,
    KeystoreRefused,
)

_VERSION_BYTES = 4
_NONCE_BYTES = 12


class FakeKeystore:
    """One key with versions. Set `enabled`, `exists` or `fault` to have it refuse."""

    def __init__(self, key: str, *, exists: bool = True) -> None:
        self._key = key
        self._versions: list[AESGCM] = []
        self.exists = exists
        self.enabled = True
        """Off: described, and neither encrypts nor decrypts."""
        self.fault: KeystoreFault | None = None
        """Raised by every call while it is set."""
        self.calls = 0
        self.rotate()

    def rotate(self) -> None:
        """A new version, which encrypts from now on; the old ones still decrypt."""
        self._versions.append(AESGCM(os.urandom(32)))

    async def describe(self) -> KeystoreKey:
        """See `worker.ports.Keystore`."""
        self._called()
        return KeystoreKey(self._key, str(len(self._versions)), self.enabled)

    async def encrypt(self, plaintext: bytes, aad: bytes) -> bytes:
        """See `worker.ports.Keystore`."""
        self._use()
        nonce = os.urandom(_NONCE_BYTES)
        version = len(self._versions).to_bytes(_VERSION_BYTES, "big")
        return version + nonce + self._versions[-1].encrypt(nonce, plaintext, aad)

    async def decrypt(self, ciphertext: bytes, aad: bytes) -> bytes:
        """See `worker.ports.Keystore`."""
        self._use()
        version, rest = int.from_bytes(ciphertext[:_VERSION_BYTES], "big"), ciphertext[_VERSION_BYTES:]
        if not 1 <= version <= len(self._versions):
            raise KeystoreRefused("no such version")
        try:
            return self._versions[version - 1].decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], aad)
        except (InvalidTag, ValueError):
            raise KeystoreRefused("not of this key and this AAD") from None

    async def close(self) -> None:
        """See `worker.ports.Keystore`."""

    def _called(self) -> None:
        self.calls += 1
        if self.fault is not None:
            raise self.fault
        if not self.exists:
            raise KeystoreForbidden("there is no such key")

    def _use(self) -> None:
        self._called()
        if not self.enabled:
            raise KeystoreForbidden("the key is off")


class FakeKeystores:
    """Implements `worker.ports.Keystores`; `credentials` are the names that it knows."""

    def __init__(self, credentials: Iterable[str]) -> None:
        self._credentials = frozenset(credentials)
        self._open: dict[KeystoreAddress, FakeKeystore] = {}

    def of(self, where: KeystoreAddress) -> FakeKeystore:
        """See `worker.ports.Keystores`."""
        if where.credential not in self._credentials:
            raise KeystoreMisconfigured("keystore_credentials: there is none of this name")
        return self._open.setdefault(where, FakeKeystore(where.key))
