"""What the fleet says of itself on `keyriver.intake.v1`: workers' certificates and intake keys, signed (S1).

To accept one: 1. it is readable (nothing unknown, nothing missing), 2. its names fit its key, 3. it is our fleet's,
4. its life is not too long, 5. it holds now, 6. the pinned P-256 fleet key signed it, or one that belongs to it by its
`lineage`. Times are Unix milliseconds.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, Self, TypeVar

from pydantic import Field, ValidationError

from worker.model.fields import Base64, Body
from worker.model.rows import Algorithm, Suite
from worker.seal import hpke, lineage, signatures
from worker.seal.errors import BadCertificate, BadKey, BadSignature
from worker.seal.frames import framed
from worker.seal.lineage import FleetKey

CERTIFICATE = b"keyriver-certificate/1"
INTAKE = b"keyriver-intake/1"
SKEW_MS = 5 * 60_000
"""How far a reader's clock may be behind the fleet's."""
OVERLAP_MS = 10 * 60_000
"""Freshness is five minutes either way: for that long two intake keys hold at once (S3, S4)."""
MAX_LIFE_MS = 24 * 3_600_000 + OVERLAP_MS
_B = TypeVar("_B", bound=Body)


class CertificateBody(Body):
    """A worker's certificate on the wire."""

    kind: Literal["certificate"] = "certificate"
    fleet: str
    kid: str
    public_key: Base64
    not_before_ms: int = Field(ge=0)
    not_after_ms: int = Field(ge=0)
    signature: Base64


class IntakeBody(Body):
    """An intake key on the wire."""

    kind: Literal["intake"] = "intake"
    fleet: str
    suite: Suite
    sequence: int = Field(ge=1)
    public_key: Base64
    not_before_ms: int = Field(ge=0)
    not_after_ms: int = Field(ge=0)
    signature: Base64


def kid_of(public_key: bytes) -> str:
    """The name of a worker's key: the first 16 bytes of its SHA-256, in hex."""
    return sha256(public_key).digest()[:16].hex()


@dataclass(frozen=True, slots=True)
class WorkerCertificate:
    """The key that one worker signs its answers with, from when to when."""

    fleet: str
    kid: str
    public_key: bytes
    not_before_ms: int
    not_after_ms: int

    @property
    def record_key(self) -> bytes:
        """The key of its Kafka record."""
        return f"certificate/{self.kid}".encode()

    def payload(self) -> bytes:
        """The bytes that the fleet's key signs."""
        return framed(
            CERTIFICATE,
            self.fleet.encode(),
            self.kid.encode(),
            self.public_key,
            str(self.not_before_ms).encode(),
            str(self.not_after_ms).encode(),
        )

    def to_json(self, signature: bytes) -> bytes:
        """The record's value. `signature`: 64 bytes r ‖ s over `payload`."""
        body = CertificateBody(
            fleet=self.fleet,
            kid=self.kid,
            public_key=self.public_key,
            not_before_ms=self.not_before_ms,
            not_after_ms=self.not_after_ms,
            signature=signature,
        )
        return body.model_dump_json().encode()

    @classmethod
    def parse(cls, value: bytes, fleet: str, fleet_key: FleetKey, now_ms: int) -> Self:
        """The certificate, or BadCertificate."""
        body = _read(CertificateBody, value)
        said = cls(body.fleet, body.kid, body.public_key, body.not_before_ms, body.not_after_ms)
        if said.kid != kid_of(said.public_key):
            raise _refused("its kid is not its key's")
        try:
            signatures.check_public_key(Algorithm.ED25519, said.public_key)
        except BadKey:
            raise _refused("its key is not an Ed25519 key") from None
        _check(said, body.signature, fleet, fleet_key, now_ms)
        return said


@dataclass(frozen=True, slots=True)
class IntakeAnnouncement:
    """A key to seal DEKs to, from when to when."""

    fleet: str
    suite: Suite
    sequence: int
    public_key: bytes
    not_before_ms: int
    not_after_ms: int

    @property
    def record_key(self) -> bytes:
        """The key of its Kafka record."""
        return f"intake/{self.suite}/{self.sequence}".encode()

    def payload(self) -> bytes:
        """The bytes that the fleet's key signs."""
        return framed(
            INTAKE,
            self.fleet.encode(),
            self.suite.encode(),
            str(self.sequence).encode(),
            self.public_key,
            str(self.not_before_ms).encode(),
            str(self.not_after_ms).encode(),
        )

    def to_json(self, signature: bytes) -> bytes:
        """The record's value. `signature`: 64 bytes r ‖ s over `payload`."""
        body = IntakeBody(
            fleet=self.fleet,
            suite=self.suite,
            sequence=self.sequence,
            public_key=self.public_key,
            not_before_ms=self.not_before_ms,
            not_after_ms=self.not_after_ms,
            signature=signature,
        )
        return body.model_dump_json().encode()

    @classmethod
    def parse(cls, value: bytes, fleet: str, fleet_key: FleetKey, now_ms: int, lowest: int = 1) -> Self:
        """Or BadCertificate. `lowest` is the highest sequence accepted before; older ones are refused."""
        body = _read(IntakeBody, value)
        said = cls(body.fleet, body.suite, body.sequence, body.public_key, body.not_before_ms, body.not_after_ms)
        if said.sequence < lowest:
            raise _refused("a newer one was accepted before")
        try:
            hpke.check_public_key(said.suite, said.public_key)
        except BadKey:
            raise _refused("its key is not one of its suite") from None
        _check(said, body.signature, fleet, fleet_key, now_ms)
        return said


Announcement = WorkerCertificate | IntakeAnnouncement


class UnknownSigner(BadCertificate):
    """No key that is known to be the fleet's signed it; a rotation that was not heard of yet may explain that."""


def _refused(why: str) -> BadCertificate:
    return BadCertificate(f"the announcement is refused: {why}")


def _read(kind: type[_B], value: bytes) -> _B:
    try:
        return kind.model_validate_json(value)
    except ValidationError:
        raise _refused("it is not readable") from None


def _check(said: Announcement, signature: bytes, fleet: str, fleet_key: FleetKey, now_ms: int) -> None:
    if said.fleet != fleet:
        raise _refused("it is another fleet's")
    if not 0 < said.not_after_ms - said.not_before_ms <= MAX_LIFE_MS:
        raise _refused("its life is too long or none")
    if now_ms < said.not_before_ms - SKEW_MS:
        raise _refused("it does not hold yet")
    if now_ms > said.not_after_ms:
        raise _refused("it has expired")
    try:
        lineage.verify(fleet_key, signature, said.payload(), said.not_before_ms)
    except BadSignature:
        raise UnknownSigner("the announcement is refused: the fleet's key did not sign it") from None
