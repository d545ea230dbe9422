"""The store in memory: answers as Postgres does, for tests without a server. A contract suite keeps it honest."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from uuid import UUID

from worker.edges.store.batch import arrange, fates
from worker.edges.store.fake_know import FakeRows
from worker.edges.store.fake_slices import FakeSlices
from worker.edges.store.leases import ROTATION_STARTS, rotation_due
from worker.model.effects import (
    Announce,
    Count,
    Effect,
    FinishSlice,
    Leaf,
    LedgerEntry,
    MoveDek,
    MoveDeks,
    PutRow,
    Settlement,
    Settling,
    StoreDeks,
    Vacant,
)
from worker.model.facts import Answer, Question, StoredRow
from worker.model.hsm import Condemned
from worker.model.imports import Import, ImportState
from worker.model.quotas import Lease, Want
from worker.model.records import Partition
from worker.model.requests import LedgerKey
from worker.model.rows import Approval, ApprovalState, Dek, IntakeKey, Key, RowRef, State, Table, Version
from worker.model.sequences import SEQUENCE


def _system_ms() -> int:
    return time.time_ns() // 1_000_000


def _due_ms(row: Version) -> int:
    return min((at_ms for at_ms in (row.due_ms, row.not_after_ms) if at_ms), default=0)


@dataclass(slots=True)
class FakeStore:
    """Implements `Store`, `Leases`, `QuotaLeases`, `Dues`, `Outbox`, `Attempts` and presence; tests may tamper."""

    clock: Callable[[], int] = _system_ms
    ledger: dict[LedgerKey, LedgerEntry] = field(default_factory=dict)
    rows: dict[RowRef, StoredRow] = field(default_factory=dict)
    deks: dict[UUID, Dek] = field(default_factory=dict)
    census: dict[tuple[UUID, int], tuple[int, int]] = field(default_factory=dict)
    uses: dict[tuple[UUID, int], int] = field(default_factory=dict)
    spent: dict[str, float] = field(default_factory=dict)
    leaves: list[Leaf] = field(default_factory=list)
    outbox: dict[UUID, Announce] = field(default_factory=dict)
    acknowledged: set[UUID] = field(default_factory=set)
    leaders: dict[str, tuple[str, float]] = field(default_factory=dict)
    sessions: dict[UUID, tuple[str, float]] = field(default_factory=dict)
    confirmed: set[tuple[UUID, Condemned]] = field(default_factory=set)
    attempts: dict[tuple[str, Partition], tuple[int, int]] = field(default_factory=dict)
    alone: dict[tuple[str, Partition, int], int] = field(default_factory=dict)
    slices: FakeSlices = field(init=False)

    def __post_init__(self) -> None:
        """Campaigns look at these rows."""
        self.slices = FakeSlices(self)

    async def know(self, question: Question) -> Answer:
        """Never waits."""
        answer = FakeRows(self.rows, self.deks, self.census).answer(question, self.ledger, self.clock())
        return self.slices.answered(question, answer)

    async def settle(self, settlements: Sequence[Settlement]) -> list[Settling]:
        """Never waits: nothing can come between."""
        order = arrange(settlements)
        refused: dict[int, LedgerEntry | None] = {}
        for index in order.free:
            settlement = settlements[index]
            winner = self._winner(settlement)
            if winner is not None or self._has_moved(settlement):
                refused[index] = winner
                continue
            if settlement.ledger is not None:
                self.ledger[settlement.ledger.key] = settlement.ledger
            for effect in settlement.effects:
                self._write(effect)
        return fates(settlements, order, refused)

    def _winner(self, settlement: Settlement) -> LedgerEntry | None:
        """What another delivery left that this one did not know of."""
        if settlement.ledger is None:
            return None
        stored = self.ledger.get(settlement.ledger.key)
        seen = settlement.opened
        if stored is None or (seen is not None and stored.outcomes == seen.outcomes):
            return None
        return stored

    def _has_moved(self, settlement: Settlement) -> bool:
        vanished = settlement.ledger is not None and settlement.opened is not None
        if vanished and settlement.ledger is not None and settlement.ledger.key not in self.ledger:
            return True
        return any(self._revision(seen.ref) != seen.revision for seen in settlement.seen) or any(
            not self._fits(effect) for effect in settlement.effects
        )

    def _fits(self, effect: Effect) -> bool:
        match effect:
            case PutRow():
                return self._revision(effect.row.ref) == effect.row.revision - 1
            case MoveDek():
                held = self.deks.get(effect.dek.id)
                return held is not None and held.blob == effect.old_blob
            case _:
                return self.slices.fits(effect)

    def _revision(self, ref: RowRef) -> int:
        stored = self.rows.get(ref)
        return 0 if stored is None else stored.row.revision

    def _write(self, effect: Effect) -> None:
        match effect:
            case StoreDeks():
                self.deks |= {dek.id: dek for dek in effect.deks}
            case MoveDek():
                self.deks[effect.dek.id] = effect.dek
            case PutRow():
                self.rows[effect.row.ref] = StoredRow(effect.row, effect.mac_version, effect.mac)
            case Count():
                stored, outside = self.census.get((effect.key, effect.version), (0, 0))
                self.census[effect.key, effect.version] = (stored + effect.stored, outside + effect.issued_outside)
            case Leaf():
                self.leaves.append(effect)
            case Announce():
                self.outbox.setdefault(effect.id, effect)
            case MoveDeks() | FinishSlice() | Vacant():
                self.slices.write(effect)

    async def lease(self, key: UUID, version: int, count: int) -> int:
        """As `Leases.lease`."""
        before = self.uses.get((key, version), 0)
        self.uses[key, version] = before + count
        if before < ROTATION_STARTS <= before + count:
            held = self.rows.get(RowRef(Table.KEYS, str(key)))
            tenant = held.row.tenant if held is not None and isinstance(held.row, Key) else ""
            self._write(rotation_due(key, version, tenant))
        return before + count

    async def lease_quotas(self, wants: Sequence[Want]) -> list[Lease]:
        """As `flow.quotas.QuotaLeases.lease_quotas`."""
        return [self._lease_quota(want) for want in wants]

    def _lease_quota(self, want: Want) -> Lease:
        rate, now = want.quota.per_second / 1000, self.clock()
        spent = max(self.spent.get(want.quota.id, 0.0), now - want.quota.burst / rate)
        there = (now - spent) * rate
        granted = 0 if there < 1 else max(min(want.want, int(there)), want.need)
        self.spent[want.quota.id] = spent + granted / rate
        return Lease(granted, ceil((1 - there + granted) / rate) if there - granted < 1 else 0)

    async def lead(self, duty: str, holder: str, seconds: float) -> bool:
        """As `Dues.lead`."""
        leader, until = self.leaders.get(duty, (holder, 0.0))
        if leader != holder and until > self.clock():
            return False
        self.leaders[duty] = (holder, self.clock() + seconds * 1000)
        return True

    async def due(self, limit: int, serial: str) -> tuple[Sequence[tuple[UUID, int]], Sequence[UUID]]:
        """As `Dues.due`."""
        rows = [stored.row for stored in self.rows.values()]
        versions = [row for row in rows if isinstance(row, Version) and 0 < _due_ms(row) <= self.clock()]
        versions = [row for row in versions if row.serial in ("", serial)]
        pending = [row for row in rows if isinstance(row, Approval) and row.state is ApprovalState.PENDING]
        over = [row for row in pending if row.expires_ms <= self.clock()]
        versions.sort(key=_due_ms)
        over.sort(key=lambda row: row.expires_ms)
        return [(row.key, row.number) for row in versions[:limit]], [row.id for row in over[:limit]]

    async def beat(self, run: UUID, name: str, seconds: float) -> bool:
        """As `flow.attendance.Presence.beat`."""
        _, until = self.sessions.get(run, (name, -1.0))
        self.sessions[run] = (name, self.clock() + seconds * 1000)
        return until >= self.clock()

    async def condemned(self, limit: int) -> Sequence[tuple[UUID, int]]:
        """As `flow.attendance.Presence.condemned`."""
        rows = [stored.row for stored in self.rows.values()]
        versions = [row for row in rows if isinstance(row, Version)]
        found = [row for row in versions if row.state is State.DESTROY_SCHEDULED and 0 < row.due_ms <= self.clock()]
        found.sort(key=lambda row: row.due_ms)
        found += [row for row in versions if row.not_after_ms and row.absent and row.material is not None]
        return [*dict.fromkeys((row.key, row.number) for row in found)][:limit]

    async def confirm(self, run: UUID, gone: Sequence[Condemned]) -> None:
        """As `flow.attendance.Presence.confirm`."""
        self.confirmed.update((run, one) for one in gone)

    async def awaited(self, versions: Sequence[Condemned]) -> Mapping[Condemned, Sequence[str]]:
        """As `flow.attendance.Presence.awaited`."""
        alive = {run: name for run, (name, until) in self.sessions.items() if until >= self.clock()}
        found = {one: sorted(alive[run] for run in alive if (run, one) not in self.confirmed) for one in versions}
        return {one: names for one, names in found.items() if names}

    async def imports_due(self, limit: int, serial: str) -> Sequence[UUID]:
        """As `Dues.imports_due`."""
        rows = [stored.row for stored in self.rows.values() if isinstance(stored.row, Import)]
        held = [row for row in rows if row.material is not None and row.serial == serial]
        over = [row for row in held if row.state is not ImportState.OPEN or row.expires_ms <= self.clock()]
        return [row.id for row in sorted(over, key=lambda row: row.expires_ms)[:limit]]

    async def waiting(self, limit: int) -> list[Announce]:
        """As `Outbox.waiting`; the sequences of rows have an outbox of their own."""
        facts = [event for event in self.outbox.values() if event.type != SEQUENCE]
        return [event for event in facts if event.id not in self.acknowledged][:limit]

    async def acknowledge(self, ids: Sequence[UUID]) -> None:
        """As `Outbox.acknowledge`."""
        self.acknowledged.update(ids)

    async def private_halves(self, below: int) -> list[int]:
        """As `chores.private_halves`."""
        keys = (stored.row for stored in self.rows.values() if isinstance(stored.row, IntakeKey))
        return sorted(key.sequence for key in keys if key.sequence < below and key.wrapped_private)

    async def assigned(self, group: str, partition: Partition, offset: int) -> int:
        """As `Attempts.assigned`."""
        last, times = self.attempts.get((group, partition), (offset, 0))
        self.attempts[group, partition] = (offset, times + 1 if last == offset else 1)
        return self.attempts[group, partition][1]

    async def released(self, group: str, partition: Partition) -> None:
        """As `Attempts.released`."""
        self.attempts.pop((group, partition), None)

    async def begin_alone(self, group: str, partition: Partition, offset: int) -> int:
        """As `Attempts.begin_alone`."""
        marker = (group, partition, offset)
        self.alone[marker] = self.alone.get(marker, 0) + 1
        return self.alone[marker]

    async def end_alone(self, group: str, partition: Partition, offset: int) -> None:
        """As `Attempts.end_alone`."""
        self.alone.pop((group, partition, offset), None)
