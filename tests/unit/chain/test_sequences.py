"""Rows that are older than what was told of them are found, and no row that is newer (S7)."""

from dataclasses import replace
from uuid import UUID

import pytest

from worker.chain.sequences import Mark, Sequences, stands
from worker.model.facts import Answer, Question, RowPage, StoredRow
from worker.model.hsm import Purpose
from worker.model.rows import Alias, Key, Origin, Suite, Tenant
from worker.model.words import RowRef, Table

ID = UUID(int=7)
ACME = StoredRow(Tenant("acme", 3, Suite.P256, enabled=True, revision=5), 2, b"mac")
REF = ACME.row.ref


def known(mark: Mark) -> Sequences:
    made = Sequences()
    assert made.learn(REF, mark)
    return made


def answer(*rows: StoredRow) -> Answer:
    return Answer(0, {}, rows, {})


@pytest.mark.parametrize(
    ("mark", "fits"),
    [
        (Mark(4, 9, b"x"), True),
        (Mark(5, 1, b"x"), True),
        (Mark(5, 2, b"mac"), True),
        (Mark(5, 2, b"another"), False),
        (Mark(5, 3, b"mac"), False),
        (Mark(6, 1, b"mac"), False),
    ],
)
def test_a_row_stands_when_it_is_at_least_what_was_told(mark: Mark, fits: bool) -> None:
    assert stands(ACME, mark) is fits
    assert known(mark).suspects(Question(), answer(ACME)) == ({} if fits else {REF: mark})


def test_of_what_was_never_told_nothing_is_suspected() -> None:
    assert Sequences().suspects(Question(tenants=frozenset({"acme"})), answer(ACME)) == {}
    assert len(Sequences()) == 0


def test_only_what_is_newer_is_learnt() -> None:
    made = known(Mark(5, 2, b"mac"))
    assert made.learn(REF, Mark(5, 2, b"mac")), "told again"
    for older in (Mark(4, 9, b"x"), Mark(5, 1, b"x"), Mark(5, 2, b"another")):
        assert not made.learn(REF, older)
        assert made.mark(REF) == Mark(5, 2, b"mac")
    for newer in (Mark(5, 3, b"y"), Mark(6, 1, b"z")):
        assert made.learn(REF, newer)
        assert made.mark(REF) == newer
    assert len(made) == 1


PAGE = RowPage(Table.APPROVALS, "", "", 9)
REFS = {
    RowRef(Table.CLIENTS, "c"): Question(clients=frozenset({"c"})),
    RowRef(Table.TENANTS, "t"): Question(tenants=frozenset({"t"})),
    RowRef(Table.ALIASES, "a"): Question(aliases=frozenset({"a"})),
    RowRef(Table.KEYS, str(ID)): Question(keys=frozenset({ID})),
    RowRef(Table.VERSIONS, f"{ID}/3"): Question(versions=frozenset({(ID, 3)})),
    RowRef(Table.INTAKE_KEYS, "8"): Question(intake_keys=frozenset({8})),
    RowRef(Table.APPROVALS, str(ID)): Question(refs=frozenset({RowRef(Table.APPROVALS, str(ID))})),
    RowRef(Table.QUOTAS, "acme"): Question(quotas=frozenset({"acme"})),
    RowRef(Table.FLEET_KEYS, "signing/2"): Question(pages=frozenset({RowPage(Table.FLEET_KEYS, "fleet", "", 9)})),
    RowRef(Table.APPROVALS, "paged"): Question(pages=frozenset({PAGE})),
}


@pytest.mark.parametrize("ref", REFS, ids=lambda ref: f"{ref.table}")
def test_a_row_that_is_asked_for_by_name_and_gone_is_missed(ref: RowRef) -> None:
    made, question = Sequences(), REFS[ref]
    told = replace(answer(ACME), pages=dict.fromkeys(question.pages & {PAGE}, (RowRef(Table.APPROVALS, "paged"),)))
    assert made.suspects(question, told) == {}
    mark = Mark(1, 1, b"m")
    made.learn(ref, mark)
    assert made.suspects(question, told) == {ref: mark}


def test_a_key_is_missed_by_its_tree_too_and_one_that_is_there_is_not() -> None:
    made = Sequences()
    made.learn(RowRef(Table.KEYS, str(ID)), Mark(1, 1, b"m"))
    made.learn(RowRef(Table.ALIASES, "acme"), Mark(1, 1, b"m"))
    alias = StoredRow(Alias("acme", "acme", UUID(int=9), 1), 1, b"m")
    question = Question(trees=frozenset({ID}), aliases=frozenset({"acme"}))
    assert list(made.suspects(question, answer(alias))) == [RowRef(Table.KEYS, str(ID))]


@pytest.mark.parametrize(
    "ref",
    [RowRef(Table.KEYS, str(ID)), RowRef(Table.VERSIONS, f"{UUID(int=9)}/3")],
)
def test_what_a_row_leads_to_is_missed_too(ref: RowRef) -> None:
    made, mark = Sequences(), Mark(1, 1, b"m")
    made.learn(ref, mark)
    root = Key(UUID(int=8), "acme", None, 1, Purpose.WRAPS_KEYS, Origin.GENERATED, "", True, 1, 1, 1)
    below = replace(root, id=UUID(int=9), parent=UUID(int=8), layer=2, active_version=3)
    rows = [StoredRow(row, 1, b"m") for row in (Alias("acme", "acme", ID, 1), below)]
    assert made.suspects(Question(), answer(*rows)) == {ref: mark}
    there = StoredRow(replace(root, id=ID), 1, b"m")
    expected = {} if ref.key == str(ID) else {ref: mark}
    assert made.suspects(Question(), answer(*rows, there)) == expected


def test_who_vouches_for_a_mark_is_the_newest_that_did() -> None:
    made = known(Mark(5, 2, b"mac", tag=1))
    for tag, newest in ((2, 2), (1, 2), (3, 3)):
        assert made.learn(REF, Mark(5, 2, b"mac", tag=tag))
        assert made.tags() == {newest: 1}
    assert made.refs() == [REF]
