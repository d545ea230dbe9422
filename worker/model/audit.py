"""The audit log as data (S16): leaves as `settle` wrote them, the logs they are appended to, and signed checkpoints."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal
from uuid import UUID

from pydantic import Field

from worker.model.fields import Base64, Body

HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class AuditLeaf:
    """One leaf, committed with its effects. `number` is the row's, `at_us` the database's clock in microseconds."""

    number: int
    id: UUID
    tenant: str
    at_us: int
    body: bytes


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A leaf's place in its tenant's log, from 0, and the hash under which it stands there."""

    index: int
    number: int
    leaf: UUID
    hash: bytes


@dataclass(frozen=True, slots=True)
class Node:
    """The root of a full subtree: of the leaves from `index << level` on, `1 << level` of them."""

    level: int
    index: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """Where a tenant's log ends: its size and the roots of its full subtrees, largest first."""

    tenant: str
    size: int = 0
    frontier: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Growth:
    """What is appended to one tenant's log in one go, from `was` to the head's size."""

    was: int
    head: Head
    entries: tuple[LogEntry, ...]
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the fleet says of a tenant's log. `consistency` proves that the log of `previous_size` is its beginning."""

    fleet: str
    tenant: str
    size: int
    root: bytes
    time_ms: int
    previous_size: int
    consistency: tuple[bytes, ...]
    signature: bytes = b""


class CheckpointBody(Body):
    """A checkpoint of one tenant's audit log, signed by the fleet's key."""

    kind: Literal["checkpoint"] = "checkpoint"
    fleet: str
    tenant: str
    size: int = Field(ge=1)
    root: Base64
    time_ms: int = Field(ge=0)
    previous_size: int = Field(ge=0)
    consistency: list[Base64] = Field(max_length=64)
    signature: Base64


@dataclass(frozen=True, slots=True)
class Due:
    """A log that grew past its last checkpoint (None: it never had one), by the database's clock."""

    head: Head
    last: Checkpoint | None
    now_ms: int


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring nodes of one level of a tenant's log."""

    tenant: str
    level: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class LogRow:
    """An entry as it is read for verification, with the leaf that it names; None if there is no such leaf."""

    entry: LogEntry
    leaf: AuditLeaf | None


class Fault(StrEnum):
    """What is wrong with a log."""

    ALTERED = "altered"
    REMOVED = "removed"
    INSERTED = "inserted"
    MOVED = "moved"
    REWRITTEN = "rewritten"
    """The records fit their hashes, and the hashes are not those that were signed."""
    FORKED = "forked"
    """Two logs were shown under one name."""
    SHRUNK = "shrunk"
    CHECKPOINT = "checkpoint"
    """A stored or published checkpoint is not what the fleet signed, or one is missing."""
    INDEX = "index"
    """The records are whole; what proofs are made from is not."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing found: the record at `first`, or all to `last`, both counted from 0. `leaf` where it is one record."""

    tenant: str
    fault: Fault
    first: int
    last: int
    leaf: UUID | None
    text: str


@dataclass(frozen=True, slots=True)
class Stray:
    """A record that stands beside the log: written by nobody's `settle` (INSERTED), or gone before its turn (REMOVED).

    `number` is its row's; tenant and leaf are unknown for one that is gone.
    """

    fault: Fault
    number: int
    tenant: str = ""
    leaf: UUID | None = None
