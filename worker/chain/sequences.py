"""The highest sequence of every row that was ever told, and which rows are older than that (S7). Pure.

A row is suspect when its revision is below the highest that was told; or it is the same revision under an older MAC, or
under another MAC of the same version; or when it is gone. About 250 bytes for each row of the fleet.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from worker.model.facts import Answer, Question, StoredRow
from worker.model.rows import Alias, Key, Row
from worker.model.words import RowRef, Table

WHOLE = frozenset({Table.FLEET_KEYS})
"""Tables of which a page is all there is: a row that is not on it is gone."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The highest that was told of a row. `tag` is the version of the row MAC key that vouches for it."""

    revision: int
    mac_version: int
    mac: bytes
    tag: int = field(default=0, compare=False)


@dataclass(slots=True)
class Sequences:
    """What is known. `learn` only what the fleet said."""

    _marks: dict[str, Mark] = field(default_factory=dict)
    _whole: set[RowRef] = field(default_factory=set)

    def learn(self, ref: RowRef, mark: Mark) -> bool:
        """Take what was told; False if something newer, or something else of the same number, was told before."""
        known = self._marks.get(_name(ref))
        if known is None or (known.revision, known.mac_version) < (mark.revision, mark.mac_version):
            self._marks[_name(ref)] = mark
            if ref.table in WHOLE:
                self._whole.add(ref)
            return True
        if known == mark and mark.tag > known.tag:
            self._marks[_name(ref)] = mark
        return known == mark

    def refs(self) -> list[RowRef]:
        """Every row that was ever told of."""
        names = (name.split("/", 1) for name in self._marks)
        return [RowRef(Table(table), key) for table, key in names]

    def tags(self) -> Counter[int]:
        """How many rows each version of the row MAC key vouches for. It looks at all: for people."""
        return Counter(mark.tag for mark in self._marks.values())

    def mark(self, ref: RowRef) -> Mark | None:
        """The highest that was told of this row."""
        return self._marks.get(_name(ref))

    def __len__(self) -> int:
        return len(self._marks)

    def suspects(self, question: Question, answer: Answer) -> dict[RowRef, Mark]:
        """Rows of the answer that are older than what was told, and rows asked for by name that are gone."""
        found = {stored.row.ref: stored for stored in answer.rows}
        gone = [ref for ref in (*_named(question, answer), *self._paged(question)) if ref not in found]
        marks = [(ref, self._marks.get(_name(ref)), found.get(ref)) for ref in (*found, *gone)]
        return {ref: mark for ref, mark, stored in marks if mark is not None and not stands(stored, mark)}

    def _paged(self, question: Question) -> Iterable[RowRef]:
        tables = {page.table for page in question.pages if page.table in WHOLE and not page.after}
        return [ref for ref in self._whole if ref.table in tables]


def stands(stored: StoredRow | None, mark: Mark) -> bool:
    """Whether the row is at least what was told of it."""
    if stored is None:
        return False
    have, told = (stored.row.revision, stored.mac_version), (mark.revision, mark.mac_version)
    return have > told or (have == told and stored.mac == mark.mac)


def _named(question: Question, answer: Answer) -> Iterable[RowRef]:
    """The rows that the question names, and those that it leads to."""
    yield from (RowRef(Table.CLIENTS, name) for name in question.clients)
    yield from (RowRef(Table.TENANTS, name) for name in question.tenants)
    yield from (RowRef(Table.ALIASES, name) for name in question.aliases)
    yield from (RowRef(Table.KEYS, str(key)) for key in (*question.keys, *question.trees))
    yield from (RowRef(Table.VERSIONS, f"{key}/{number}") for key, number in question.versions)
    yield from (RowRef(Table.INTAKE_KEYS, str(sequence)) for sequence in question.intake_keys)
    yield from (RowRef(Table.QUOTAS, name) for name in question.quotas)
    yield from question.refs
    for refs in answer.pages.values():
        yield from refs
    for stored in answer.rows:
        yield from _led_to(stored.row)


def _led_to(row: Row) -> Iterable[RowRef]:
    """What the store brings along with a row. Not the parent: a key without an active version leads to none."""
    if isinstance(row, Alias):
        yield RowRef(Table.KEYS, str(row.key))
    elif isinstance(row, Key):
        yield RowRef(Table.VERSIONS, f"{row.id}/{row.active_version}")


def _name(ref: RowRef) -> str:
    return f"{ref.table}/{ref.key}"
