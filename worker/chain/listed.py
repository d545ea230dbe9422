"""What a page of a list says besides its rows: which of them nobody can believe, and where the next page begins."""

from collections.abc import Sequence
from uuid import UUID

from worker.model.facts import Facts
from worker.model.rows import RowRef, Table


def unbelieved(facts: Facts, shown: Sequence[RowRef]) -> list[str] | None:
    """The names of rows on this page whose MAC does not hold, or that are older than was told; None for none.

    A list that left them out in silence would hide what somebody changed, or end where he wants it to.
    """
    return [ref.key for ref in shown if not _believed(facts, ref)] or None


def next_after(shown: Sequence[RowRef], *, more: bool) -> str | None:
    """The name of the page's last row, believed or not, if another page follows."""
    return shown[-1].key if more and shown else None


def _believed(facts: Facts, ref: RowRef) -> bool:
    if ref.table is Table.KEYS:
        return UUID(ref.key) in facts.keys
    if ref.table is Table.CLIENTS:
        return ref.key in facts.clients
    if ref.table is Table.APPROVALS:
        return UUID(ref.key) in facts.approvals
    return ref in facts.rows
