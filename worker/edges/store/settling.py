"""A batch of settlements as the arguments of `keyriver.settle_v3`: parallel arrays, first the slot of the request."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from worker.edges.store.rows import json_of
from worker.model.effects import Announce, Count, Effect, Leaf, LedgerEntry, MoveDek, PutRow, Settlement, StoreDeks
from worker.model.operations import Operation
from worker.model.requests import LedgerKey
from worker.model.rows import Dek, RowRef

_OPERATIONS = frozenset(each.value for each in Operation)


class Batch:
    """Collects settlements, slot by slot."""

    def __init__(self) -> None:
        self._entries: list[tuple[Any, ...]] = []
        self._refs: dict[RowRef, int] = {}
        self._exclusive: list[bool] = []
        self._fresh: list[bool] = []
        self._expected: list[tuple[int, int, int]] = []
        self._deks: list[tuple[int, tuple[Dek, ...]]] = []
        self._moves: list[tuple[int, MoveDek]] = []
        self._puts: list[dict[str, Any]] = []
        self._counts: list[tuple[int, Count]] = []
        self._leaves: list[tuple[int, Leaf]] = []
        self._events: list[tuple[int, Announce]] = []

    def add(self, slot: int, settlement: Settlement) -> None:
        """One settlement that stands in no other's way."""
        if settlement.ledger is not None:
            self._entries.append(_entry(slot, settlement.ledger, settlement.opened))
        for seen in settlement.seen:
            self._expected.append((slot, self._ref(seen.ref), seen.revision))
        for ref in settlement.changes:
            self._exclusive[self._ref(ref)] = True
        for effect in settlement.effects:
            self._effect(slot, effect)

    def _effect(self, slot: int, effect: Effect) -> None:
        """Those that are settled alone have statements of their own: `alone`."""
        match effect:
            case StoreDeks():
                self._deks.append((slot, effect.deks))
            case Count():
                self._counts.append((slot, effect))
            case Leaf():
                self._leaves.append((slot, effect))
            case MoveDek():
                self._moves.append((slot, effect))
            case PutRow():
                self._put(slot, effect)
            case Announce():
                self._events.append((slot, effect))

    def _put(self, slot: int, put: PutRow) -> None:
        ref = self._ref(put.row.ref)
        self._exclusive[ref] = True
        self._fresh[ref] = self._fresh[ref] or put.row.revision == 1
        self._expected.append((slot, ref, put.row.revision - 1))
        self._puts.append({"slot": slot, "table": put.row.TABLE.value, "row": json_of(put)})

    def _ref(self, ref: RowRef) -> int:
        number = self._refs.setdefault(ref, len(self._refs))
        if number == len(self._exclusive):
            self._exclusive.append(False)
            self._fresh.append(False)
        return number

    def arguments(self) -> Sequence[object]:
        """What the statement `settle` takes, in its order."""
        return (
            self._entries,
            [ref.table.value for ref in self._refs],
            [ref.key for ref in self._refs],
            self._exclusive,
            self._fresh,
            [slot for slot, _, _ in self._expected],
            [number + 1 for _, number, _ in self._expected],  # arrays count from 1 there
            [revision for _, _, revision in self._expected],
            *self._dek_columns(),
            *self._move_columns(),
            json.dumps(self._puts) if self._puts else None,
            *_columns(self._counts, "key", "version", "stored", "issued_outside"),
            *_columns(self._leaves, "id", "tenant", "body"),
            *_columns(self._events, "id", "type", "tenant", "body"),
        )

    def _dek_columns(self) -> Iterable[list[Any]]:
        flat = [dek for _, deks in self._deks for dek in deks]
        return (
            [slot for slot, deks in self._deks for _ in deks],
            [dek.id for dek in flat],
            [dek.key for dek in flat],
            [dek.version for dek in flat],
            [dek.blob for dek in flat],
        )

    def _move_columns(self) -> Iterable[list[Any]]:
        return (
            [slot for slot, _ in self._moves],
            [move.dek.id for _, move in self._moves],
            [move.dek.key for _, move in self._moves],
            [move.dek.version for _, move in self._moves],
            [move.dek.blob for _, move in self._moves],
            [move.old_blob for _, move in self._moves],
        )


def _columns(rows: Sequence[tuple[int, object]], *names: str) -> Iterable[list[Any]]:
    yield [slot for slot, _ in rows]
    for name in names:
        yield [getattr(row, name) for _, row in rows]


def _entry(slot: int, entry: LedgerEntry, opened: LedgerEntry | None) -> tuple[Any, ...]:
    key = entry.key
    assert entry.operation is not None  # noqa: S101 - what is written comes from a request
    return (
        slot,
        opened is not None,
        None if opened is None else opened.outcomes,
        key.tenant,
        key.client,
        key.source,
        key.id,
        entry.operation.value,
        entry.digest,
        entry.outcomes,
    )


def entry_of(stored: Sequence[Any] | None) -> LedgerEntry | None:
    """The winner's entry, as `keyriver.entry_v1` brings it."""
    if stored is None:
        return None
    _, _, _, *columns = stored
    return entry_from(*columns)


def entry_from(
    tenant: str, client: str, source: str, id_: str, operation: str, digest: bytes, outcomes: list[Any]
) -> LedgerEntry:
    """The entry. The ledger carries no MAC: a row that nobody of ours wrote costs its own request, not the batch."""
    is_ours = operation in _OPERATIONS and all(one is None or isinstance(one, bytes) for one in outcomes)
    key = LedgerKey(tenant, client, source, id_)
    if not is_ours:
        return LedgerEntry(key, None, digest, ())
    return LedgerEntry(key, Operation(operation), digest, tuple(outcomes))
