"""What `settle` may write: a closed union, so that every write of the river goes through one door."""

from dataclasses import dataclass
from uuid import UUID

from worker.model.campaigns import Failure, Slice
from worker.model.operations import Operation
from worker.model.requests import LedgerKey
from worker.model.rows import Dek, Row, RowRef


@dataclass(frozen=True, slots=True)
class StoreDeks:
    """Insert wrapped DEKs. Their ids are new."""

    deks: tuple[Dek, ...]


@dataclass(frozen=True, slots=True)
class MoveDek:
    """Replace a stored blob, if it is still the one that was read; otherwise the whole request goes back to `know`."""

    dek: Dek
    old_blob: bytes


@dataclass(frozen=True, slots=True)
class PutRow:
    """Insert the row (revision 1) or replace its predecessor (the revision before); anything else is a conflict.

    `mac_version` and `mac` are filled in `execute`, by the token.
    """

    row: Row
    mac_version: int = 0
    mac: bytes = b""


@dataclass(frozen=True, slots=True)
class Count:
    """A delta of the census of one key version (D2 d): rows stored, and blobs that left the database."""

    key: UUID
    version: int
    stored: int = 0
    issued_outside: int = 0


@dataclass(frozen=True, slots=True)
class Leaf:
    """One audit leaf (S16): one per request and key version. `body` is canonical JSON without secrets."""

    id: UUID
    tenant: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Announce:
    """An event for the outbox (D9): published until acknowledged, always with this `id` as its `ce_id`."""

    id: UUID
    type: str
    tenant: str
    body: bytes


@dataclass(frozen=True, slots=True)
class MoveDeks:
    """Replace stored blobs by those of another version of their key, column by column (D8).

    Every row must still be the one that was read; else nothing of the settlement is written. Settled alone.
    """

    version: int
    ids: tuple[UUID, ...]
    old_blobs: tuple[bytes, ...]
    blobs: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class FinishSlice:
    """The slice is done, if its lease is still ours; else nothing of the settlement is written. Settled alone.

    `items` were moved, and `digest` is over what they became; `failures` could not be. `exposed` are the ids that were
    moved, kept for the day when the old version turns out to be known to others: whoever had it had these DEKs.
    """

    slice: Slice
    items: int
    digest: bytes
    failures: tuple[Failure, ...] = ()
    exposed: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class Vacant:
    """Nothing may be left under this key version: no stored DEK by the census, no version of another key.

    Counted after its row was locked, in the settlement's own transaction; else nothing is written. Settled alone.
    With `retired_only` versions below may be left that are retired themselves.
    """

    key: UUID
    version: int
    retired_only: bool = False


Effect = StoreDeks | MoveDek | PutRow | Count | Leaf | Announce | MoveDeks | FinishSlice | Vacant
ALONE = (MoveDeks, FinishSlice, Vacant)
"""Effects whose settlement is a transaction of its own."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A request that was seen, with one encoded outcome per item; None is an item still open (D1).

    `digest` is the request's body digest. `outcomes` are encoded by `chain.outcomes`, without plaintext.
    `operation`: None in a row that no release of ours wrote.
    """

    key: LedgerKey
    operation: Operation | None
    digest: bytes
    outcomes: tuple[bytes | None, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """A row that a decision rested on, and its revision at `know`; settle refuses when it has moved."""

    ref: RowRef
    revision: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """All that one request leaves behind, in one transaction or not at all.

    `ledger` None: not ledgered. `opened` is the entry that `know` saw (to be filled further) or None for a new one.
    `seen` rows are locked FOR SHARE and compared; those in `changes` are locked FOR UPDATE.
    """

    ledger: LedgerEntry | None
    opened: LedgerEntry | None
    seen: tuple[Seen, ...]
    changes: tuple[RowRef, ...]
    effects: tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """The settlement is committed."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Another delivery of the same request settled first: this is what it left. Nothing of ours was written."""

    entry: LedgerEntry


@dataclass(frozen=True, slots=True)
class Moved:
    """A row that the decision rested on has changed: back to `know`. Nothing of this request was written."""


Settling = Settled | Lost | Moved
