"""Campaigns as data: what they move, how far they are, and the slices in which it is done (D8)."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from worker.model.words import RowRef, Table

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


@dataclass(frozen=True, slots=True)
class Campaign:
    """Everything under (key, from_version) goes to to_version; the id follows from these three, so there is one.

    `items` is what there was to move at the start. `items_s` (0: no limit) and `hsm_share` (percent of the token's
    time, all processes together) are the throttle. A `round` goes through the ids after `after` up to `upto`. `parent`
    is the deep campaign that made this one; `compromised` whether others had the old version. `certificate` is JSON,
    signed.
    """

    TABLE: ClassVar[Table] = Table.CAMPAIGNS
    id: UUID
    tenant: str
    key: UUID
    from_version: int
    to_version: int
    kind: CampaignKind
    state: CampaignState
    parent: UUID | None
    compromised: bool
    items: int
    items_s: int
    hsm_share: int
    round: int
    after: UUID
    upto: UUID
    asked_by: str
    why: str
    created_ms: int
    started_ms: int
    ended_ms: int
    certificate: bytes
    revision: int
    destroy_after_s: int = 0
    """The grace with which the old version is scheduled for destruction once nothing needs it; 0: it is kept."""

    @property
    def ref(self) -> RowRef:
        """The row's name."""
        return RowRef(Table.CAMPAIGNS, str(self.id))


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
    `one_at_a_time` that of one process in the last slices of any campaign; 0 where nothing was measured.
    """

    failed: int = 0
    slices: int = 0
    moved: int = 0
    rate: float = 0.0
    one_at_a_time: float = 0.0
    pace: float = 1.0


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What a scan found under the old version: how many, how many listed as failed, and where the others are."""

    rows: int = 0
    failed: int = 0
    first: UUID = LAST_ID
    last: UUID = LAST_ID
