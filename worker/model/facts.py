"""What `know` asks the store and what it gets: one question and one answer for a whole batch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from worker.model.campaigns import ExposedSlice, Failure, Progress
from worker.model.effects import LedgerEntry
from worker.model.fleet import FleetKind
from worker.model.requests import LedgerKey
from worker.model.rows import Alias, Approval, Client, Dek, IntakeKey, Key, Row, RowRef, Table, Tenant, Version


@dataclass(frozen=True, slots=True)
class Paging:
    """One page of a tenant's keys or clients, in the order of ids, after the given one."""

    tenant: str
    after: str
    limit: int


@dataclass(frozen=True, slots=True)
class RowPage:
    """One page of a table's rows, in the order of ids, after the given one. Without a tenant: of all tenants."""

    table: Table
    tenant: str
    after: str
    limit: int


@dataclass(frozen=True, slots=True)
class Question:
    """Everything a batch needs to know.

    Of every alias the key is found, of every key its active version, and of every version its ancestors up to L1 (the
    versions that wrapped it, and their keys with their active versions); of every DEK id its row, its key and the
    version it stands under. Of every key all aliases are told, for patterns match names. `trees` are keys whose
    versions are all wanted, `below` keys whose whole tree is counted, `needs` versions of which is asked what needs
    them. `refs` are rows of any other table, by name; so are the rows of `pages`. `licences` are clients of which the
    rules and grants in force are wanted, `quotas` the ids of quotas. `progress` are campaigns; pages of their
    `failures` and `exposed` DEKs name the campaign where others name a tenant. `rests`
    are kinds of fleet keys of which is counted what rests on each version: rows, or private halves of intake keys.
    """

    ledger: frozenset[LedgerKey] = frozenset()
    clients: frozenset[str] = frozenset()
    tenants: frozenset[str] = frozenset()
    aliases: frozenset[str] = frozenset()
    keys: frozenset[UUID] = frozenset()
    versions: frozenset[tuple[UUID, int]] = frozenset()
    deks: frozenset[UUID] = frozenset()
    intake_keys: frozenset[int] = frozenset()
    trees: frozenset[UUID] = frozenset()
    key_pages: frozenset[Paging] = frozenset()
    client_pages: frozenset[Paging] = frozenset()
    refs: frozenset[RowRef] = frozenset()
    pages: frozenset[RowPage] = frozenset()
    licences: frozenset[str] = frozenset()
    quotas: frozenset[str] = frozenset()
    below: frozenset[UUID] = frozenset()
    needs: frozenset[tuple[UUID, int]] = frozenset()
    rests: frozenset[FleetKind] = frozenset()
    progress: frozenset[UUID] = frozenset()
    failures: frozenset[Paging] = frozenset()
    exposed: frozenset[Paging] = frozenset()


@dataclass(frozen=True, slots=True)
class Below:
    """One key that hangs on another (or is it), counted for a report; its row is not verified."""

    key: UUID
    alias: str
    layer: int
    region: str
    wraps_deks: bool
    versions: int
    deks: int
    issued_outside: int


@dataclass(frozen=True, slots=True)
class Needs:
    """What needs one key version: DEKs stored under it, blobs outside, and versions of other keys that it wraps."""

    deks: int = 0
    issued_outside: int = 0
    children: int = 0

    @property
    def anything(self) -> bool:
        """Whether destroying the version would make something unreadable."""
        return bool(self.deks or self.issued_outside or self.children)


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row with the MAC that stands beside it, not yet verified."""

    row: Row
    mac_version: int
    mac: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What the store holds, as of one moment. `now_ms` is the database's clock. Rows are not yet verified."""

    now_ms: int
    ledger: Mapping[LedgerKey, LedgerEntry]
    rows: tuple[StoredRow, ...]
    deks: Mapping[UUID, Dek]
    key_pages: Mapping[Paging, tuple[UUID, ...]] = field(default_factory=dict)
    client_pages: Mapping[Paging, tuple[str, ...]] = field(default_factory=dict)
    pages: Mapping[RowPage, tuple[RowRef, ...]] = field(default_factory=dict)
    below: Mapping[UUID, tuple[Below, ...]] = field(default_factory=dict)
    needs: Mapping[tuple[UUID, int], Needs] = field(default_factory=dict)
    rests: Mapping[tuple[FleetKind, int], int] = field(default_factory=dict)
    older: frozenset[RowRef] = frozenset()
    """Rows that are left out: they are gone, or older than the fleet told of them (S7)."""
    progress: Mapping[UUID, Progress] = field(default_factory=dict)
    failures: Mapping[Paging, tuple[Failure, ...]] = field(default_factory=dict)
    exposed: Mapping[Paging, tuple[ExposedSlice, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """The answer after every row's MAC was verified; rows that failed are only named, in `tampered`."""

    now_ms: int
    ledger: Mapping[LedgerKey, LedgerEntry]
    deks: Mapping[UUID, Dek]
    tenants: Mapping[str, Tenant]
    keys: Mapping[UUID, Key]
    versions: Mapping[tuple[UUID, int], Version]
    aliases: Mapping[str, Alias]
    names: Mapping[UUID, tuple[str, ...]]
    clients: Mapping[str, Client]
    intake_keys: Mapping[int, IntakeKey]
    tampered: frozenset[RowRef]
    key_pages: Mapping[Paging, tuple[UUID, ...]]
    client_pages: Mapping[Paging, tuple[str, ...]]
    approvals: Mapping[UUID, Approval] = field(default_factory=dict)
    rows: Mapping[RowRef, Row] = field(default_factory=dict)
    """Those of the tables that have no mapping of their own here."""
    distrusted: frozenset[str] = frozenset()
    """Clients that a rule or a grant names whose MAC does not hold."""
    pages: Mapping[RowPage, tuple[RowRef, ...]] = field(default_factory=dict)
    below: Mapping[UUID, tuple[Below, ...]] = field(default_factory=dict)
    needs: Mapping[tuple[UUID, int], Needs] = field(default_factory=dict)
    rests: Mapping[tuple[FleetKind, int], int] = field(default_factory=dict)
    progress: Mapping[UUID, Progress] = field(default_factory=dict)
    failures: Mapping[Paging, tuple[Failure, ...]] = field(default_factory=dict)
    exposed: Mapping[Paging, tuple[ExposedSlice, ...]] = field(default_factory=dict)
