"""A batch of settlements before it is written: which of them stand in each other's way, without asking the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from uuid import UUID

from worker.model.effects import LedgerEntry, Lost, Moved, MoveDek, PutRow, Settled, Settlement, Settling
from worker.model.requests import LedgerKey
from worker.model.rows import RowRef


@dataclass(frozen=True, slots=True)
class Order:
    """What may be written together (`free`, by index); the others yield.

    `behind` shares the fate of an earlier one with the same ledger key; all that are in neither are moved. What is
    written is then the same as if done one after the other, in the batch's order.
    """

    free: tuple[int, ...]
    behind: dict[int, int]


def arrange(settlements: Sequence[Settlement]) -> Order:
    """Of two with one ledger key the later follows; one that saw or changes what an earlier one changes yields."""
    first: dict[LedgerKey, int] = {}
    behind: dict[int, int] = {}
    changed: set[RowRef] = set()
    moved_deks: set[UUID] = set()
    free: list[int] = []
    for index, settlement in enumerate(settlements):
        if settlement.ledger is not None:
            earlier = first.setdefault(settlement.ledger.key, index)
            if earlier != index:
                behind[index] = earlier
                continue
        puts = {e.row.ref for e in settlement.effects if type(e) is PutRow}
        moves = {e.dek.id for e in settlement.effects if type(e) is MoveDek}
        rests_on = chain(puts, settlement.changes, (seen.ref for seen in settlement.seen))
        if (changed and not changed.isdisjoint(rests_on)) or not moved_deks.isdisjoint(moves):
            continue
        changed |= puts
        moved_deks |= moves
        free.append(index)
    return Order(tuple(free), behind)


def fates(settlements: Sequence[Settlement], order: Order, refused: dict[int, LedgerEntry | None]) -> list[Settling]:
    """One answer per settlement. `refused` holds those free ones that were not written: the winner's entry, or None."""
    free = set(order.free)
    answers: list[Settling] = []
    for index in range(len(settlements)):
        if index in order.behind:
            answers.append(_behind(settlements[order.behind[index]], answers[order.behind[index]]))
        elif index not in free:
            answers.append(Moved())
        elif index in refused:
            entry = refused[index]
            answers.append(Moved() if entry is None else Lost(entry))
        else:
            answers.append(Settled())
    return answers


def _behind(earlier: Settlement, fate: Settling) -> Settling:
    if isinstance(fate, Settled) and earlier.ledger is not None:
        return Lost(earlier.ledger)
    return fate
