"""What this client believes of the fleet: certificates and intake keys, each signed by the pinned fleet key (S1). Pure.

`keyriver.intake.v1` is read from its beginning. A record is accepted or changes nothing; of intake keys no older
sequence is taken than the highest accepted. Tombstones are ignored: nobody can un-say what the fleet key signed.
A rotation of that key is followed by its chain (`seal.lineage`); the pin stays.
"""

from worker.model.rows import Suite
from worker.seal.announcements import SKEW_MS, Announcement, IntakeAnnouncement, UnknownSigner, WorkerCertificate
from worker.seal.errors import BadCertificate
from worker.seal.lineage import Lineage, Succession

_CERTIFICATE, _INTAKE, _FLEET_KEY = b"certificate/", b"intake/", b"fleet-key/"
MOST_UNPROVEN = 1000
"""Announcements that wait for a rotation of the fleet's key to be told; forgeries wait, too: the oldest go first."""
LONGEST_BYTES = 8192
"""Of an announcement that is kept; ours have a few hundred."""


class Trust:
    """Accepted announcements. `fleet_key` is pinned: a 65-byte P-256 point."""

    def __init__(self, fleet: str, fleet_key: bytes) -> None:
        self._fleet = fleet
        self._lineage = Lineage(fleet, fleet_key)
        self._unproven: dict[bytes, bytes] = {}
        self._certificates: dict[str, WorkerCertificate] = {}
        self._intake: dict[int, IntakeAnnouncement] = {}
        self._highest: dict[Suite, int] = {}

    @property
    def lineage(self) -> Lineage:
        """The keys that the pinned one leads to."""
        return self._lineage

    def accept(self, key: bytes | None, value: bytes, now_ms: int) -> Announcement | Succession:
        """Take one record of the intake topic. Raises `BadCertificate`, and then nothing that counts has changed."""
        try:
            said = self._parse(key or b"", value, now_ms)
        except UnknownSigner:
            self._keep(key or b"", value)
            raise
        if said.record_key != key:
            raise BadCertificate("the announcement is refused: it stands under another's record key")
        self._forget(now_ms)
        if isinstance(said, WorkerCertificate):
            self._certificates[said.kid] = said
        elif isinstance(said, IntakeAnnouncement):
            self._highest[said.suite] = said.sequence
            self._intake[said.sequence] = said
        return said

    def unproven(self) -> dict[bytes, bytes]:
        """Announcements, by record key, that no known key had signed, to be taken again after a rotation was told."""
        found, self._unproven = self._unproven, {}
        return found

    def _keep(self, key: bytes, value: bytes) -> None:
        if len(value) > LONGEST_BYTES:
            return
        self._unproven[key] = value
        while len(self._unproven) > MOST_UNPROVEN:
            del self._unproven[next(iter(self._unproven))]

    def certificate(self, kid: str, now_ms: int) -> WorkerCertificate | None:
        """This worker key's certificate, or None if it is unknown. Raises `BadCertificate` if it does not hold now."""
        found = self._certificates.get(kid)
        if found is not None and not found.not_before_ms - SKEW_MS <= now_ms <= found.not_after_ms:
            raise BadCertificate("the certificate does not hold now")
        return found

    def intake_key(self, prefer: Suite, now_ms: int, above: int = 0) -> IntakeAnnouncement | None:
        """The newest intake key that holds now, its sequence over `above`; of the preferred suite if there is one."""
        usable = [
            one
            for one in self._intake.values()
            if one.sequence > above and one.not_before_ms - SKEW_MS <= now_ms <= one.not_after_ms
        ]
        preferred = [one for one in usable if one.suite is prefer]
        # A clock that is behind may see no key that has begun; then the next one serves.
        return max(preferred or usable, key=lambda one: (one.not_before_ms <= now_ms, one.sequence), default=None)

    def _parse(self, key: bytes, value: bytes, now_ms: int) -> Announcement | Succession:
        if key.startswith(_CERTIFICATE):
            return WorkerCertificate.parse(value, self._fleet, self._lineage, now_ms)
        if key.startswith(_INTAKE):
            return IntakeAnnouncement.parse(value, self._fleet, self._lineage, now_ms, self._lowest(key))
        if key.startswith(_FLEET_KEY):
            said = Succession.parse(value, self._fleet)
            return self._lineage.accept(value) if said.record_key == key else said
        raise BadCertificate("the announcement is refused: it is of no known kind")

    def _lowest(self, key: bytes) -> int:
        """The highest sequence accepted for the suite that the record key names; `accept` checks that it is its own."""
        suite = key.removeprefix(_INTAKE).partition(b"/")[0].decode(errors="replace")
        return self._highest.get(Suite(suite), 1) if suite in list(Suite) else 1

    def _forget(self, now_ms: int) -> None:
        """Drop what has expired, so that a long-lived client does not grow."""
        self._certificates = {kid: one for kid, one in self._certificates.items() if one.not_after_ms >= now_ms}
        self._intake = {number: one for number, one in self._intake.items() if one.not_after_ms >= now_ms}
