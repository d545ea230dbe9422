"""A batch on its way through the token: grouped by KEK, shared out over threads, filled in place.

A result that is None is not done: whoever waits reads it as `Fault.UNAVAILABLE` when the time is up, and a thread that
had to leave the gate goes on with what is None when it comes back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from time import monotonic, perf_counter
from typing import cast

from worker.edges.hsm.ck import CkError
from worker.edges.hsm.config import Observer
from worker.edges.hsm.crew import Crew
from worker.edges.hsm.deks import Results, rewrap_group, unwrap_group, wrap_group
from worker.edges.hsm.fleet_objects import create_fleet_key
from worker.edges.hsm.imports import import_master
from worker.edges.hsm.keeper import Entry, Keeper, Refused
from worker.edges.hsm.keys import create_key, rewrap_key
from worker.edges.hsm.masters import create_master, destroy_master
from worker.edges.hsm.pairs import destroy_pair, have_pair
from worker.model.hsm import (
    CreateFleetKey,
    CreateKey,
    CreateLink,
    CreateMaster,
    CreateOutside,
    DestroyMaster,
    Fault,
    HsmFault,
    HsmOp,
    HsmResult,
    OpenedKey,
    OpenKey,
    RewrapDek,
    RewrapKey,
    UnwrapDek,
    WrapDek,
    keks_of,
)
from worker.model.import_ops import (
    CreateImportPair,
    DestroyImportPair,
    ImportMaster,
)

OPERATIONS: dict[type, str] = {
    WrapDek: "wrap",
    UnwrapDek: "unwrap",
    RewrapDek: "rewrap",
    CreateKey: "create_key",
    RewrapKey: "rewrap_key",
    CreateMaster: "create_master",
    DestroyMaster: "destroy_master",
    CreateFleetKey: "create_fleet_key",
    CreateImportPair: "create_import_pair",
    ImportMaster: "import_master",
    DestroyImportPair: "destroy_import_pair",
    OpenKey: "open_key",
    CreateOutside: "create_outside",
    CreateLink: "create_link",
}
_AT_ONCE = 64
"""Operations between two looks at the clock."""


def grouped(ops: Sequence[HsmOp], at: Sequence[int]) -> list[list[int]]:
    """Positions with the same operation under the same KEKs."""
    groups: dict[object, list[int]] = {}
    quick: dict[object, list[int]] = {}
    for i in at:
        op = ops[i]
        # A batch mostly repeats the same Kek objects, and hashing their UUIDs is dear.
        mark = _mark(op)
        group = quick.get(mark)
        if group is None:
            group = quick[mark] = groups.setdefault(_name(op), [])
        group.append(i)
    return list(groups.values())


def _mark(op: HsmOp) -> tuple[object, ...]:
    if isinstance(op, (WrapDek, UnwrapDek)):
        return type(op), id(op.kek)
    return (RewrapDek, id(op.source), id(op.target)) if isinstance(op, RewrapDek) else _name(op)


def _name(op: HsmOp) -> tuple[object, ...]:
    return type(op), *((kek.key, kek.version, kek.revision) for kek in keks_of(op))


class Chunk:
    """The part of a batch that one thread does."""

    def __init__(
        self, ops: Sequence[HsmOp], at: Sequence[int], results: Results, deadline: float, finish: Callable[[], None]
    ) -> None:
        self.ops, self.at, self.results, self.deadline, self.finish = ops, at, results, deadline, finish

    def over(self) -> bool:
        """Whether the time is up."""
        return monotonic() >= self.deadline

    def work(self, crew: Crew, keeper: Keeper, observer: Observer) -> None:
        """Do what is not done yet. Raises `Away`."""
        todo = [i for i in self.at if self.results[i] is None]
        for group in grouped(self.ops, todo):
            if self.over():
                return
            began = perf_counter()
            self._group(group, crew, keeper)
            self._report(group, perf_counter() - began, observer)

    def _report(self, group: list[int], seconds: float, observer: Observer) -> None:
        operation = OPERATIONS[type(self.ops[group[0]])]
        ended = Counter(r.fault if isinstance(r, HsmFault) else None for r in map(self.results.__getitem__, group))
        for fault, count in ended.items():
            observer.done(operation, count, seconds, fault)

    def _group(self, group: list[int], crew: Crew, keeper: Keeper) -> None:
        held: list[Entry] = []
        try:
            for kek in keks_of(self.ops[group[0]]):
                held += [keeper.hold(kek, crew)]
            for piece in _pieces(group):
                if not self.over():
                    self._piece(piece, [entry.handle for entry in held], crew, keeper)
        except Refused as refused:
            for i in group:
                self.results[i] = refused.fault
        finally:
            for entry in held:
                keeper.release(entry, crew)

    def _piece(self, at: list[int], handles: list[int], crew: Crew, keeper: Keeper) -> None:
        ops, results = self.ops, self.results
        call: Callable[[], None]
        match ops[at[0]]:
            case WrapDek():
                call = partial(wrap_group, crew, handles[0], cast("Sequence[WrapDek]", ops), at, results)
            case UnwrapDek():
                call = partial(unwrap_group, crew, handles[0], cast("Sequence[UnwrapDek]", ops), at, results)
            case RewrapDek():
                call = partial(rewrap_group, crew, handles, cast("Sequence[RewrapDek]", ops), at, results)
            case OpenKey():
                call = partial(self._open, at, crew, keeper)
            case CreateOutside() | CreateLink():
                call = partial(self._refuse, at)
            case _:
                call = partial(self._keys, at, handles, crew)
        try:
            call()
        except CkError as error:
            # The draw of random bytes failed: nothing of this piece is done.
            crew.confirm(error)
            call()

    def _open(self, at: list[int], crew: Crew, keeper: Keeper) -> None:
        for i in at:
            op = cast("OpenKey", self.ops[i])
            try:
                keeper.admit(op.kek, op.inner, crew)
                self.results[i] = OpenedKey()
            except Refused as refused:
                self.results[i] = refused.fault

    def _refuse(self, at: list[int]) -> None:
        for i in at:
            self.results[i] = HsmFault(Fault.UNSUPPORTED, "no keystore is called from here")

    def _keys(self, at: list[int], handles: list[int], crew: Crew) -> None:
        for i in at:
            op = self.ops[i]
            make: Callable[[], HsmResult]
            match op:
                case CreateMaster():
                    make = partial(create_master, op, crew, self.deadline)
                case DestroyMaster():
                    make = partial(destroy_master, op, crew)
                case CreateFleetKey():
                    make = partial(create_fleet_key, op, crew, self.deadline)
                case CreateImportPair():
                    make = partial(have_pair, op, crew)
                case ImportMaster():
                    make = partial(import_master, op, crew)
                case RewrapKey():
                    make = partial(rewrap_key, op, handles[0], handles[1], crew)
                case DestroyImportPair():
                    make = partial(destroy_pair, op, crew)
                case _:
                    make = partial(create_key, cast("CreateKey", op), handles[0], crew)
            try:
                self.results[i] = make()
            except CkError as error:
                # A key that does not unwrap twice on a well token is not what was wrapped.
                blamed = Fault.INTEGRITY if isinstance(op, RewrapKey) else Fault.UNAVAILABLE
                self.results[i] = crew.again(error, blamed, make)


def _pieces(group: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(group), _AT_ONCE):
        yield group[start : start + _AT_ONCE]
