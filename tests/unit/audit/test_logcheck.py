"""What the check of one log says of rows and checkpoints. On real rows, tampering is a contract of its own."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import pytest

from tests.unit.audit.book import TENANT, Book, leaves, signed
from worker.chain import logcheck
from worker.chain.logcheck import LogCheck
from worker.model.audit import Checkpoint, Fault, Head, LogRow

Found = list[tuple[Fault, int, int]]


class Shelf:
    """An honest log of 600 records with a checkpoint after each 100."""

    def __init__(self) -> None:
        self.book = Book()
        self.rows: list[LogRow] = []
        self.said: list[Checkpoint] = []
        for start in range(0, 600, 100):
            batch = leaves(100, start)
            growth = self.book.grow(batch)
            self.rows += [LogRow(entry, one) for entry, one in zip(growth.entries, batch, strict=True)]
            self.said.append(self.book.sign())


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def run(
    shelf: Shelf, told: Sequence[Checkpoint] = (), *, chunk: int = 250, rows: Sequence[LogRow] | None = None
) -> LogCheck:
    check = LogCheck(TENANT, told)
    rows = shelf.rows if rows is None else rows
    for start in range(0, len(rows), chunk):
        part = rows[start : start + chunk]
        first, last = part[0].entry.index, part[-1].entry.index
        nodes = check.take(part, [said for said in shelf.said if first < said.size <= last + 1])
        check.indexed(nodes, shelf.book.nodes)
    check.finish(shelf.book.head, [said for said in shelf.said if said.size > check.size])
    return check


def found(check: LogCheck) -> Found:
    return [(flaw.fault, flaw.first, flaw.last) for flaw in check.flaws]


@pytest.mark.parametrize("chunk", [1, 99, 100, 101, 600])
def test_an_honest_log_is_whole_however_it_is_read(shelf: Shelf, chunk: int) -> None:
    check = run(shelf, shelf.said, chunk=chunk)
    assert check.is_whole
    assert check.confirmed == shelf.said[-1]
    assert check.frontier == shelf.book.head.frontier


def test_neighbours_with_one_fault_are_told_once(shelf: Shelf) -> None:
    for index in (10, 11, 12, 14):
        leaf = shelf.rows[index].leaf
        assert leaf is not None
        shelf.rows[index] = replace(shelf.rows[index], leaf=replace(leaf, body=b"x"))
    check = run(shelf)
    assert found(check) == [(Fault.ALTERED, 10, 12), (Fault.ALTERED, 14, 14)]
    assert check.flaws[0].leaf == UUID(int=10)
    assert check.confirmed == shelf.said[-1]


def test_flaws_beyond_the_most_are_counted(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logcheck, "MOST", 2)
    for index in range(0, 10, 2):
        shelf.rows[index] = replace(shelf.rows[index], leaf=None)
    check = run(shelf)
    assert (len(check.flaws), check.more) == (2, 3)


def test_moved_records_say_how_far(shelf: Shelf) -> None:
    entries = [row.entry for row in shelf.rows]
    shelf.rows[50] = replace(shelf.rows[50], entry=replace(entries[53], index=50))
    shelf.rows[50] = replace(shelf.rows[50], leaf=shelf.rows[53].leaf)
    (flaw, *_) = run(shelf).flaws
    assert (flaw.fault, flaw.text) == (Fault.MOVED, "appended 3 places after the place where it stands")


def test_a_rewritten_stretch_is_between_two_checkpoints(shelf: Shelf) -> None:
    """The records were rewritten with their hashes and all that is made from them, but nobody could sign that."""
    forged = Book()
    batch = leaves(600)
    batch[250] = replace(batch[250], body=b"forged")
    growth = forged.grow(batch)
    rows = [LogRow(entry, one) for entry, one in zip(growth.entries, batch, strict=True)]
    shelf.book.head, shelf.book.nodes = forged.head, forged.nodes
    check = run(shelf, rows=rows)
    assert found(check) == [(Fault.REWRITTEN, 200, 299)]
    assert check.confirmed == shelf.said[1]
    assert found(run(shelf, shelf.said, rows=rows)) == [(Fault.REWRITTEN, 200, 299)]


def test_a_fork_is_between_two_that_were_told(shelf: Shelf) -> None:
    other = Book()
    told = []
    for start in range(0, 600, 200):
        batch = leaves(200, start)
        if start == 200:
            batch[50] = replace(batch[50], body=b"the truth")
        other.grow(batch)
        told.append(other.sign())
    assert found(run(shelf, told)) == [(Fault.FORKED, 200, 399)]
    # A stored checkpoint that the log does not agree with, while later ones do, is a fork as well.
    shelf.said[3] = signed(replace(shelf.said[3], root=b"\1" * 32))
    check = run(shelf)
    assert (Fault.FORKED, 300, 399) in found(check)


def test_a_log_that_ends_early_has_shrunk(shelf: Shelf) -> None:
    check = run(shelf, rows=shelf.rows[:550])
    assert found(check) == [(Fault.SHRUNK, 550, 599), (Fault.REMOVED, 550, 599)]
    shelf.book.head = Head(TENANT, check.size, check.frontier)
    told, shelf.said = shelf.said, shelf.said[:-1]
    assert run(shelf, rows=shelf.rows[:550]).is_whole
    assert found(run(shelf, told, rows=shelf.rows[:550])) == [(Fault.SHRUNK, 550, 599)]


def test_a_head_that_is_not_the_records(shelf: Shelf) -> None:
    shelf.book.head = Head(TENANT, 590, ())
    assert found(run(shelf)) == [(Fault.INDEX, 590, 599)]
    assert found(LogCheck(TENANT)) == []
    lost = LogCheck(TENANT)
    lost.take(shelf.rows)
    lost.finish(None)
    assert found(lost) == [(Fault.INDEX, 0, 599)]


def test_a_hole_makes_what_comes_after_it_uncertain_but_not_unread(shelf: Shelf) -> None:
    rows = [row for row in shelf.rows if row.entry.index not in (260, 261)]
    rows[400] = replace(rows[400], leaf=None)
    check = run(shelf, rows=rows)
    assert found(check) == [(Fault.REMOVED, 260, 261), (Fault.REMOVED, 402, 402)]
    assert check.confirmed == shelf.said[1]


def test_a_second_record_at_one_place(shelf: Shelf) -> None:
    rows = [*shelf.rows[:11], *shelf.rows[10:]]
    assert found(run(shelf, rows=rows)) == [(Fault.INSERTED, 10, 10)]


def test_stored_checkpoints_follow_each_other(shelf: Shelf) -> None:
    shelf.said[2] = replace(shelf.said[2], consistency=())
    assert found(run(shelf)) == [(Fault.CHECKPOINT, 200, 299)]
    del shelf.said[2]
    assert found(run(shelf)) == [(Fault.CHECKPOINT, 200, 399)]
    check = LogCheck(TENANT)
    check.bad_checkpoint(shelf.said[0], "not signed")
    assert found(check) == [(Fault.CHECKPOINT, 0, 99)]


def test_the_index_that_proofs_are_made_from(shelf: Shelf) -> None:
    shelf.book.nodes[8, 1] = b"\0" * 32
    assert found(run(shelf)) == [(Fault.INDEX, 256, 511)]
    del shelf.book.nodes[8, 1]
    assert found(run(shelf)) == [(Fault.INDEX, 256, 511)]
