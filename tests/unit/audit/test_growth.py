"""How a log grows, what continues a checkpoint, and what checkpoints say about each other."""

from dataclasses import replace

import pytest

from tests.unit.audit.book import FLEET, TENANT, Book, leaf, leaves, signed
from worker.chain import audit, merkle, tiles
from worker.chain.audit import KEPT, Told
from worker.model.audit import AuditLeaf, Checkpoint, Due, Fault, Head
from worker.seal.frames import framed


def test_the_hash_of_a_leaf_is_pinned() -> None:
    one = leaf(7, body=b"{}")
    parts = (b"keyriver-leaf/1", b"acme", b"3", one.id.bytes, b"1795471200000007", b"{}")
    assert audit.hash_of(one, 3) == merkle.leaf_hash(framed(*parts))
    assert audit.hash_of(one, 3).hex() == "27b42fa0a539d3161bd0510045e3705dcca5e05758cb6d221db52acc3616177f"


@pytest.mark.parametrize("other", [leaf(8, body=b"{}"), leaf(7, "bank", b"{}"), leaf(7), replace(leaf(7), at_us=1)])
def test_all_of_a_leaf_is_in_its_hash(other: AuditLeaf) -> None:
    assert audit.hash_of(other, 3) != audit.hash_of(leaf(7, body=b"{}"), 3)


def test_a_log_grows_by_entries_in_order() -> None:
    book = Book()
    first, second = book.grow(leaves(300)), book.grow(leaves(300, 300))
    assert [entry.index for entry in (*first.entries, *second.entries)] == list(range(600))
    assert (first.was, second.was, second.head.size) == (0, 300, 600)
    assert [(node.level, node.index) for node in (*first.nodes, *second.nodes)] == [(8, 0), (8, 1)]
    assert first.entries[7].hash == audit.hash_of(leaf(7), 7)


def test_a_checkpoint_proves_that_it_continues_the_last() -> None:
    book = Book()
    book.grow(leaves(300))
    first = book.sign()
    book.grow(leaves(300, 300))
    second = book.sign()
    assert (first.previous_size, first.consistency) == (0, ())
    assert audit.follows(first, second)
    assert not audit.follows(replace(first, root=b"\0" * 32), second)
    assert not audit.follows(first, replace(second, previous_size=299))


def test_what_does_not_continue_is_never_made() -> None:
    book = Book()
    book.grow(leaves(3))
    last = book.sign()
    book.grow(leaves(3, 3))
    for changed in (
        replace(last, root=b"\0" * 32),
        replace(last, size=5),
        replace(last, size=7),
        replace(last, size=0),
    ):
        due = Due(book.head, changed, 1)
        with pytest.raises(merkle.BadProof):
            audit.next_checkpoint(FLEET, due, tiles.roots(audit.bridge(due), book.nodes))


class TestTold:
    def checkpoints(self, count: int) -> list[Checkpoint]:
        book = Book()
        said = []
        for number in range(count):
            book.grow([leaf(number)])
            said.append(book.sign())
        return said

    def test_a_chain_is_no_news_and_of_a_long_one_some_are_kept(self) -> None:
        told, chain = Told(), self.checkpoints(1000)
        assert [flaw for said in chain if (flaw := told.hear(said))] == []
        assert told.all()[-1] == chain[-1]
        assert KEPT // 2 <= len(told.all()) <= KEPT
        assert told.all()[-KEPT // 2 :] == chain[-KEPT // 2 :]
        assert told.all()[0].size < KEPT

    def test_the_same_once_more_is_no_news(self) -> None:
        told, (first, second, third) = Told(), self.checkpoints(3)
        for said in (first, second, second, first, third, third):
            assert told.hear(said) is None
        assert told.all() == [first, second, third]

    def test_after_a_gap_both_sides_are_kept(self) -> None:
        told, chain = Told(), self.checkpoints(5)
        for said in (chain[0], chain[4], chain[2], chain[2]):
            assert told.hear(said) is None
        assert told.all() == [chain[0], chain[2], chain[4]] or set(told.all()) == {chain[0], chain[2], chain[4]}

    def test_two_of_one_size_are_a_fork(self) -> None:
        told, (first, second, third) = Told(), self.checkpoints(3)
        for said in (first, second, third):
            told.hear(said)
        for said in (second, third):
            flaw = told.hear(signed(replace(said, root=b"\1" * 32)))
            assert flaw is not None
            assert (flaw.fault, flaw.tenant, flaw.last) == (Fault.FORKED, TENANT, said.size - 1)

    def test_one_that_denies_what_it_continues_is_a_fork(self) -> None:
        told, (first, second) = Told(), self.checkpoints(2)
        told.hear(first)
        flaw = told.hear(signed(replace(second, root=b"\1" * 32)))
        assert flaw is not None
        assert (flaw.fault, flaw.first, flaw.last) == (Fault.FORKED, 0, 1)


def test_a_head_is_empty_at_first() -> None:
    assert merkle.root(Head(TENANT).frontier) == merkle.EMPTY_ROOT
