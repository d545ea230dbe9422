"""What tests of the audit log share: leaves, a fleet key in memory, a bus that keeps what it got."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key

from worker.chain import audit, tiles
from worker.model.audit import AuditLeaf, Checkpoint, Due, Growth, Head
from worker.model.fleet import FleetKey, FleetKind
from worker.model.records import Outgoing, Undeliverable
from worker.ports import Mac
from worker.seal import checkpoints
from worker.seal.lineage import Lineage
from worker.seal.signatures import ES256Signer

FLEET = "dev-books"
TENANT = "acme"
AT_US = 1_795_471_200_000_000


@cache
def signer(number: int = 1) -> ES256Signer:
    """A fleet's key; another number is another fleet's."""
    return ES256Signer("fleet", derive_private_key(number, SECP256R1()))


def leaf(number: int, tenant: str = TENANT, body: bytes = b"") -> AuditLeaf:
    return AuditLeaf(number, UUID(int=number), tenant, AT_US + number, body or b'{"request":"r%d"}' % number)


def leaves(count: int, first: int = 0) -> list[AuditLeaf]:
    return [leaf(number) for number in range(first, first + count)]


def signed(said: Checkpoint, number: int = 1) -> Checkpoint:
    return checkpoints.signed(said, signer(number).sign(checkpoints.payload(said)))


@dataclass
class Book:
    """A log in memory that grows and is signed as the sequencer's."""

    head: Head = field(default_factory=lambda: Head(TENANT))
    nodes: dict[tuple[int, int], bytes] = field(default_factory=dict)
    last: Checkpoint | None = None

    def grow(self, more: Sequence[AuditLeaf]) -> Growth:
        growth = audit.grow(self.head, more)
        self.head = growth.head
        self.nodes |= {(0, entry.index): entry.hash for entry in growth.entries}
        self.nodes |= {(node.level, node.index): node.hash for node in growth.nodes}
        return growth

    def sign(self, now_ms: int = 7) -> Checkpoint:
        due = Due(self.head, self.last, now_ms)
        self.last = signed(audit.next_checkpoint(FLEET, due, tiles.roots(audit.bridge(due), self.nodes)))
        return self.last


class MemoryKeys:
    """`FleetKeys` with the signing key only."""

    def __init__(self) -> None:
        self.away: Exception | None = None

    @property
    def signing_key(self) -> bytes:
        return signer().public_key

    @property
    def lineage(self) -> Lineage:
        return Lineage(FLEET, self.signing_key)

    def follow(self, rows: Iterable[FleetKey]) -> None:
        raise NotImplementedError

    def newest(self, kind: FleetKind) -> int:
        raise NotImplementedError

    @property
    def retired(self) -> frozenset[int]:
        raise NotImplementedError

    async def bury(self) -> int:
        raise NotImplementedError

    async def sign(self, message: bytes) -> bytes:
        if self.away is not None:
            raise self.away
        return signer().sign(message)

    async def mac(self, messages: Sequence[bytes]) -> list[Mac]:
        raise NotImplementedError

    async def verify(self, messages: Sequence[bytes], macs: Sequence[Mac]) -> list[bool]:
        raise NotImplementedError

    async def wrap_secret(self, secret: bytes, aad: bytes) -> bytes:
        raise NotImplementedError

    async def unwrap_secret(self, wrapped: bytes, aad: bytes) -> bytes:
        raise NotImplementedError


@dataclass
class Shelf:
    """A `Sink` that keeps what it got, and refuses when told to."""

    records: list[Outgoing] = field(default_factory=list)
    refuses: bool = False

    async def publish(self, records: Sequence[Outgoing]) -> list[Undeliverable | None]:
        if self.refuses:
            return [Undeliverable.NO_TOPIC for _ in records]
        self.records += records
        return [None] * len(records)
