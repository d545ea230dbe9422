"""From an address to a keystore over HTTPS: its credential found, its endpoint allowed, its trust read beforehand."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from ssl import SSLContext

from worker.edges.keystores.credentials import Credential, TransitCredential, XksCredential, trusted
from worker.edges.keystores.endpoints import is_allowed, is_key
from worker.edges.keystores.https import Https
from worker.edges.keystores.transit import TransitKeystore
from worker.edges.keystores.xks import XksKeystore
from worker.model.keystores import KeystoreAddress, KeystoreMisconfigured, Provider

NO_KEY = "-"
Prepared = tuple[Mapping[str, XksCredential | TransitCredential], Mapping[str, SSLContext]]


def _utc() -> datetime:
    return datetime.now(UTC)


class HttpsKeystores:
    """Opens XKS and transit keystores, each with connections of its own: none waits for another's."""

    def __init__(
        self,
        credentials: Mapping[str, Credential],
        allowed: Iterable[str],
        fleet: str,
        budget_s: float,
        now: Callable[[], datetime] = _utc,
    ) -> None:
        """`allowed` are URL prefixes, `budget_s` bounds one exchange. Reads CA files.

        Raises `KeystoreMisconfigured`.
        """
        self._credentials, self._trust = self.prepared(credentials)
        self._allowed, self._fleet, self._budget_s, self._now = tuple(allowed), fleet, budget_s, now

    @staticmethod
    def prepared(credentials: Mapping[str, Credential]) -> Prepared:
        """Those for HTTPS, with their trust. Reads CA files; raises `KeystoreMisconfigured`."""
        https = {
            name: each for name, each in credentials.items() if isinstance(each, (XksCredential, TransitCredential))
        }
        return https, {name: trusted(each.ca_file) for name, each in https.items()}

    def take(self, made: Prepared) -> frozenset[str]:
        """Use these from now on; the names of what is new, changed or gone. What is open keeps what it has."""
        before, (self._credentials, self._trust) = self._credentials, made
        names = before.keys() | self._credentials.keys()
        return frozenset(name for name in names if before.get(name) != self._credentials.get(name))

    def places(self) -> list[KeystoreAddress]:
        """Every endpoint of every credential, without a key: for `look`."""
        return [
            KeystoreAddress(Provider(each.provider), endpoint, NO_KEY, name)
            for name, each in self._credentials.items()
            for endpoint in each.endpoints
        ]

    def open(self, where: KeystoreAddress) -> XksKeystore | TransitKeystore:
        """The keystore at this address; nothing is sent yet. Raises `KeystoreMisconfigured`."""
        credential = self._credentials.get(where.credential)
        if credential is None or credential.provider != where.provider.value:
            raise KeystoreMisconfigured(f"keystore_credentials: there is no {where.provider} one of this name")
        if where.endpoint not in credential.endpoints:
            raise KeystoreMisconfigured("keystore_credentials: the credential is not for this endpoint")
        if not is_allowed(where.endpoint, self._allowed):
            raise KeystoreMisconfigured("keystore_endpoints: this endpoint is not allowed")
        if not is_key(where.key):
            raise KeystoreMisconfigured("key: 1 to 128 of A-Z a-z 0-9 . _ -")
        https = Https(where.endpoint, self._trust[where.credential], self._budget_s)
        if isinstance(credential, XksCredential):
            return XksKeystore(where, credential, self._fleet, https, self._now)
        return TransitKeystore(where, credential, https)
