"""The worker's voice: a signing key for this run, certified by the fleet's key and published before it is used (S1)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from secrets import token_bytes

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from worker.flow.fresh import now_ms
from worker.model.records import Outgoing
from worker.ports import BusUnavailable, FleetKeys, Sink
from worker.seal.announcements import WorkerCertificate, kid_of
from worker.seal.signatures import Ed25519Signer, Signer

LIFE_MS = 24 * 3_600_000
RENEW_MS = LIFE_MS // 2
BACKDATED_MS = 60_000
"""A reader's clock may be a little behind ours."""
SPARE_MS = 60_000
"""Or ahead, and an answer takes a moment to be read: so long before its end a certificate is used no more."""


@dataclass(slots=True)
class RunVoice:
    """Signs answers and events. `renew` before the first use, and then once in a while."""

    fleet: str
    intake_topic: str
    fleet_keys: FleetKeys
    sink: Sink
    clock: Callable[[], int] = now_ms
    """Unix milliseconds."""
    _signer: Signer | None = field(default=None, repr=False)
    _until_ms: int = 0
    _certified_by: bytes = b""

    @property
    def signer(self) -> Signer:
        """The key that is certified now. Raises `BusUnavailable` when none is: what can't be answered comes again."""
        if self._signer is None:
            raise BusUnavailable("the voice has no certificate yet")
        if self.clock() > self._until_ms - SPARE_MS:
            raise BusUnavailable("the voice's certificate has expired, and there is no new one yet")
        return self._signer

    async def renew(self, at_ms: int) -> None:
        """Take a new key when the present one has passed half its life, or the fleet has a newer key to certify it.

        Raises `TokenUnavailable`, `BusUnavailable`.
        """
        fleet_key = self.fleet_keys.signing_key
        if self._until_ms - at_ms > LIFE_MS - RENEW_MS and self._certified_by == fleet_key:
            return
        private = Ed25519PrivateKey.from_private_bytes(token_bytes(32))
        public = private.public_key().public_bytes_raw()
        begins = at_ms - BACKDATED_MS
        certificate = WorkerCertificate(self.fleet, kid_of(public), public, begins, begins + LIFE_MS)
        value = certificate.to_json(await self.fleet_keys.sign(certificate.payload()))
        await announce(self.sink, self.intake_topic, certificate.record_key, value)
        self._signer = Ed25519Signer(certificate.kid, private)
        self._until_ms = certificate.not_after_ms
        self._certified_by = fleet_key


async def announce(sink: Sink, topic: str, key: bytes, value: bytes) -> None:
    """Publish on the intake topic, or raise: what nobody can read must not be used."""
    (refused,) = await sink.publish([Outgoing(topic, key, value, (("content-type", b"application/json"),))])
    if refused is not None:
        raise BusUnavailable(f"{topic} does not take announcements: {refused}")
