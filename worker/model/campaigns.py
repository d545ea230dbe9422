"""Campaigns as data: what they move, how far they are, and the slices in which it is done (D8)."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

LAST_ID = UUID(int=(1 << 128) - 1)
"""Greater than any other id."""


class CampaignKind(StrEnum):
    """What is moved: what the old version wraps (shallow), or, when that is known to others, all below it (deep).

    A deep campaign gives every key below a new version and moves that key's own things to it, layer by layer.
    """

    SHALLOW = "shallow"
    DEEP = "deep"


class CampaignState(StrEnum):
    """Where a campaign stands; `chain.campaigns` has the table of what leads to what."""

    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"
    VERIFYING = "verifying"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Leased(StrEnum):
    """What a process got when it asked for a slice."""

    SLICE = "slice"
    WAIT = "wait"
    """The throttle, or others that are still at work: ask again."""
    OVER = "over"
    """Every slice of this round is done."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A range of ids, after one and up to another, that is this holder's as long as the epoch is the row's."""

    campaign: UUID
    round: int
    number: int
    after: UUID
    upto: UUID
    epoch: int


@dataclass(frozen=True, slots=True)
class Lease:
    """The answer to a process that asked for work."""

    leased: Leased
    slice: Slice | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that could not be moved. `item` is a DEK's id, or `key/version`; `code` one of the table's."""

    item: str
    code: str
    at_ms: int = 0


@dataclass(frozen=True, slots=True)
class ExposedSlice:
    """The DEKs that one slice moved away from a compromised version. `place` is `round/number`, for the next page."""

    place: str
    deks: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a campaign is, beside the census: failures listed, slices done, items moved, and the measured rate.

    `rate` is items per second of the slices that were done in the last minute, all processes together;
    `one_at_a_time` that of the last slices of any campaign, each for itself; 0 where nothing was measured.
    """

    failed: int = 0
    slices: int = 0
    moved: int = 0
    rate: float = 0.0
    one_at_a_time: float = 0.0


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What a scan found under the old version: how many, how many of them are listed as failed, and where the others are."""

    rows: int = 0
    failed: int = 0
    first: UUID = LAST_ID
    last: UUID = LAST_ID
