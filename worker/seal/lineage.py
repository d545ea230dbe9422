"""The fleet's signing keys: the one that somebody pinned, and those that provably follow it or came before it (S1).

A rotation is announced on `keyriver.intake.v1` and signed by both keys. To accept one: 1. it is readable, 2. it is our
fleet's, 3. its keys are two different P-256 points, 4. the old key signed it, 5. the new one did, 6. one of them is
known already, 7. the old one has no other successor and the new one no other predecessor: who has a leaked key can't
put a second branch beside what was accepted. Times are Unix milliseconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, Self

from pydantic import Field, ValidationError

from worker.model.fields import MAX_INT, Base64, Body
from worker.model.fleet import FleetKey as FleetKeyRow
from worker.model.fleet import FleetKeyState, FleetKind
from worker.model.rows import Algorithm
from worker.seal import signatures
from worker.seal.errors import BadCertificate, BadKey, BadSignature
from worker.seal.frames import framed

SUCCESSION = b"keyriver-fleet-key/1"
LATE_MS = 5 * 60_000
"""A worker learns of a new key within seconds; what the old key signed up to so long after its end is believed."""
MOST = 1000
"""Rotations that one reader follows."""


class SuccessionBody(Body):
    """A new fleet key on the wire, signed by the one before it and by itself."""

    kind: Literal["fleet-key"] = "fleet-key"
    fleet: str
    number: int = Field(ge=2, le=MAX_INT)
    predecessor: Base64
    public_key: Base64
    not_before_ms: int = Field(ge=0, le=MAX_INT)
    by_predecessor: Base64
    by_itself: Base64


@dataclass(frozen=True, slots=True)
class Succession:
    """From `not_before_ms` on the fleet's key is `public_key`, of this number, and no more `predecessor`."""

    fleet: str
    number: int
    predecessor: bytes
    public_key: bytes
    not_before_ms: int
    told: bytes = field(default=b"", compare=False, repr=False)
    """The announcement that it was read from."""

    @property
    def record_key(self) -> bytes:
        """The key of its Kafka record."""
        return f"fleet-key/{self.number}".encode()

    def payload(self) -> bytes:
        """The bytes that both keys sign."""
        return framed(
            SUCCESSION,
            self.fleet.encode(),
            str(self.number).encode(),
            self.predecessor,
            self.public_key,
            str(self.not_before_ms).encode(),
        )

    def to_json(self, by_predecessor: bytes, by_itself: bytes) -> bytes:
        """The record's value. Both signatures: 64 bytes r ‖ s over `payload`."""
        body = SuccessionBody(
            fleet=self.fleet,
            number=self.number,
            predecessor=self.predecessor,
            public_key=self.public_key,
            not_before_ms=self.not_before_ms,
            by_predecessor=by_predecessor,
            by_itself=by_itself,
        )
        return body.model_dump_json().encode()

    @classmethod
    def parse(cls, value: bytes, fleet: str) -> Self:
        """One that both its keys signed, or BadCertificate; whether its keys are our fleet's the lineage knows."""
        try:
            body = SuccessionBody.model_validate_json(value)  # 1
        except ValidationError:
            raise _refused("it is not readable") from None
        said = cls(body.fleet, body.number, body.predecessor, body.public_key, body.not_before_ms, value)
        if said.fleet != fleet:  # 2
            raise _refused("it is another fleet's")
        if said.predecessor == said.public_key:  # 3
            raise _refused("a key can't follow itself")
        try:
            signatures.verify_raw(Algorithm.ES256, said.predecessor, body.by_predecessor, said.payload())  # 4
            signatures.verify_raw(Algorithm.ES256, said.public_key, body.by_itself, said.payload())  # 5
        except (BadKey, BadSignature):
            raise _refused("the old key and the new one did not both sign it") from None
        return said


@dataclass(slots=True)
class Lineage:
    """The keys that one pinned key leads to. Starts with the pin alone; `accept` makes it longer, never another one."""

    fleet: str
    pin: bytes
    _after: dict[bytes, Succession] = field(default_factory=dict)
    _before: dict[bytes, Succession] = field(default_factory=dict)
    _loose: dict[bytes, Succession] = field(default_factory=dict)
    """Rotations whose neighbours were not heard of yet, by their new key."""

    @property
    def newest(self) -> bytes:
        """The key that the fleet signs with now, as far as is known."""
        key = self.pin
        while key in self._after:
            key = self._after[key].public_key
        return key

    @property
    def keys(self) -> tuple[bytes, ...]:
        """All of them, the newest first: it is the likeliest."""
        keys = [self.newest]
        while keys[-1] in self._before:
            keys.append(self._before[keys[-1]].predecessor)
        return tuple(keys)

    @property
    def links(self) -> list[bytes]:
        """The announcements that lead from key to key, as they were accepted."""
        return [said.told for said in self._after.values()]

    def accept(self, value: bytes) -> Succession:
        """Take one announcement. Raises `BadCertificate`, and then nothing has changed."""
        said = Succession.parse(value, self.fleet)
        known = set(self.keys)
        if {said.predecessor, said.public_key} & known:  # 6
            self._join(said)
            self._join_loose()
        elif len(self._loose) < MOST:
            self._loose[said.public_key] = said
        return said

    def verify(self, signature: bytes, payload: bytes, at_ms: int) -> None:
        """Raise `BadSignature` unless one of the keys signed this that was the fleet's at the time it speaks of."""
        for key in self.keys:
            ended = self._after.get(key)
            if ended is not None and at_ms > ended.not_before_ms + LATE_MS:
                continue
            try:
                signatures.verify_raw(Algorithm.ES256, key, signature, payload)
            except BadSignature:
                continue
            return
        raise BadSignature("no key of this fleet that held then signed it")

    def _join(self, said: Succession) -> None:
        after = self._after.get(said.predecessor, said)
        before = self._before.get(said.public_key, said)
        if (after, before) != (said, said) or len(self._after) >= MOST:  # 7
            raise _refused("another one was accepted before")
        if said not in self._after.values() and {said.predecessor, said.public_key} <= set(self.keys):
            raise _refused("it leads back to where it came from")
        self._after[said.predecessor] = self._before[said.public_key] = said

    def _join_loose(self) -> None:
        for _ in range(len(self._loose)):
            known = set(self.keys)
            fits = [one for one in self._loose.values() if {one.predecessor, one.public_key} & known]
            if not fits:
                return
            for one in fits:
                del self._loose[one.public_key]
                try:
                    self._join(one)
                except BadCertificate:
                    continue


def follow(rows: Iterable[FleetKeyRow], lineage: Lineage) -> dict[FleetKind, int]:
    """The newest version of each kind as the rows have it, version 1 where there is none; signing keys are joined."""
    newest = dict.fromkeys(FleetKind, 1)
    for row in sorted(rows, key=lambda row: row.number):
        if row.number > 1 and row.kind is FleetKind.SIGNING:
            lineage.accept(announcement(lineage.fleet, row))
        newest[row.kind] = max(newest[row.kind], row.number)
    return newest


def retired(rows: Iterable[FleetKeyRow]) -> frozenset[int]:
    """The versions of the row MAC key that nobody is to believe any more."""
    return frozenset(row.number for row in rows if row.kind is FleetKind.ROW_MAC and row.state is FleetKeyState.RETIRED)


def announcement(fleet: str, row: FleetKeyRow) -> bytes:
    """What the fleet says of a signing key's rotation; its row has both signatures."""
    said = Succession(fleet, row.number, row.predecessor, row.public_key, row.since_ms)
    return said.to_json(row.by_predecessor, row.by_itself)


FleetKey = bytes | Lineage
"""What a reader trusts: one pinned key alone, or all that are known to belong to it."""


def verify(key: FleetKey, signature: bytes, payload: bytes, at_ms: int) -> None:
    """Raise `BadSignature` unless the fleet signed this; `at_ms` is the time that the payload speaks of."""
    if isinstance(key, Lineage):
        key.verify(signature, payload, at_ms)
    else:
        signatures.verify_raw(Algorithm.ES256, key, signature, payload)


def _refused(why: str) -> BadCertificate:
    return BadCertificate(f"the fleet key is refused: {why}")
