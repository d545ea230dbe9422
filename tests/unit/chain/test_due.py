"""What falls due: each step by the row alone, repeatable, and never while it is needed."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.chain.test_life_commands import rotated, world
from tests.unit.chain.test_switch_and_approvals import enable
from tests.unit.chain.world import NOW, PAYMENTS, ROOT, World, version_ref
from worker.chain.due import Due, approval_due, version_due
from worker.model.effects import Announce, Leaf, PutRow
from worker.model.facts import Needs
from worker.model.hsm import DestroyMaster
from worker.model.rows import Approval, ApprovalState, Row, State, Version

GRACE = 5


def due(where: World, number: int = 1, key: object = PAYMENTS) -> Due | None:
    facts = where.facts()
    version = where.version(key, number)  # type: ignore[arg-type]
    return version_due(facts, facts.keys[version.key], version, 1000)


def rows(found: Due | None) -> list[Row]:
    assert found is not None
    return [effect.row for effect in found.settlement.effects if isinstance(effect, PutRow)]


def types(found: Due | None) -> list[str]:
    assert found is not None
    return [effect.type for effect in found.settlement.effects if isinstance(effect, Announce)]


def leaves(found: Due | None) -> list[dict[str, Any]]:
    assert found is not None
    return [json.loads(effect.body) for effect in found.settlement.effects if isinstance(effect, Leaf)]


def scheduled(key: object = PAYMENTS, **more: object) -> World:
    where = world()
    row = where.version(key)  # type: ignore[arg-type]
    where.put(replace(row, state=State.DESTROY_SCHEDULED, due_ms=NOW, prior=State.DEACTIVATED, **more))  # type: ignore[arg-type]
    return where


@pytest.mark.parametrize("state", [one for one in State if one not in (State.PRE_ACTIVE, State.DESTROY_SCHEDULED)])
def test_in_other_states_nothing_is_due(state: State) -> None:
    where = world()
    where.put(replace(where.version(PAYMENTS), state=state, due_ms=NOW))
    assert due(where) is None


@pytest.mark.parametrize("due_ms", [0, NOW + 1])
def test_before_its_time_nothing_is_due(due_ms: int) -> None:
    where = world()
    where.put(replace(where.version(PAYMENTS), state=State.PRE_ACTIVE, due_ms=due_ms))
    assert due(where) is None


def test_an_activation() -> None:
    where = world()
    rotated(where, pre_active=True)
    where.put(replace(where.version(PAYMENTS, 2), due_ms=NOW))
    found = due(where, 2)
    states = {row.number: (row.state, row.due_ms) for row in rows(found) if isinstance(row, Version)}
    assert states == {1: (State.DEACTIVATED, 0), 2: (State.ACTIVE, 0)}
    assert types(found) == ["keyriver.key.activated.v1", "keyriver.key.deactivated.v1", "keyriver.hint.v1"]
    assert due(where, 2) == found, "done again, it has the same ids"
    del where.rows[version_ref(PAYMENTS)]
    assert due(where, 2) is None, "the version before it is lost: nobody guesses"


def test_an_activation_that_a_newer_version_overtook_waits_for_nothing_any_more() -> None:
    where = world()
    rotated(where, pre_active=True)
    rotated(where)
    where.put(replace(where.version(PAYMENTS, 2), due_ms=NOW))
    (row,) = rows(due(where, 2))
    assert isinstance(row, Version)
    assert (row.state, row.due_ms, types(due(where, 2))) == (State.PRE_ACTIVE, 0, ["keyriver.key.activation.lapsed.v1"])


def test_a_destruction_takes_the_wrapped_bytes_with_it() -> None:
    found = due(scheduled())
    assert found is not None
    (row,) = rows(found)
    assert isinstance(row, Version)
    assert (row.state, row.wrapped, row.due_ms, row.prior, found.op) == (State.DESTROYED, b"", 0, None, None)
    assert types(found) == ["keyriver.key.destroyed.v1", "keyriver.hint.v1"]
    assert [type(effect) for effect in found.settlement.effects].count(Leaf) == 1


def test_a_token_object_goes_after_its_row_says_so() -> None:
    where = scheduled(ROOT)
    first = due(where, key=ROOT)
    (row,) = rows(first)
    assert isinstance(row, Version)
    assert (row.state, row.due_ms, types(first)) == (State.DESTROYED, NOW, ["keyriver.key.destruction.begun.v1"])
    (told,) = leaves(first)
    assert (told["told"]["was"], told["told"]["now"], told["counts"]) == ("destroy-scheduled", "destroyed", {"OK": 1})
    assert (told["key"], told["version"], told["client"]) == (str(ROOT), 1, "keyriver")
    where.put(row)
    where.needs = None
    assert due(where, key=ROOT) is None, "nobody asked, so there is no report"
    where.needs = {}
    second = due(where, key=ROOT)
    assert second is not None
    assert row.material is not None
    assert second.op == DestroyMaster(ROOT, 1, row.material, "token-1")
    assert types(second) == ["keyriver.key.destroyed.v1", "keyriver.hint.v1"]
    (gone,) = rows(second)
    assert isinstance(gone, Version)
    where.put(gone)
    assert due(where, key=ROOT) is None


def test_what_is_needed_stays_unless_it_was_forced() -> None:
    where = scheduled()
    where.needs = None
    assert due(where) is None, "nobody asked what needs it"
    where.needs = {(PAYMENTS, 1): Needs(deks=1)}
    assert due(where) is None
    where.put(replace(where.version(PAYMENTS), forced=True))
    assert due(where) is not None


def test_an_approval_expires_once() -> None:
    where, row = enable()
    facts = where.facts()
    assert approval_due(facts, row) is None
    over = replace(facts, now_ms=row.expires_ms)
    found = approval_due(over, row)
    (done,) = rows(found)
    assert isinstance(done, Approval)
    assert (done.state, types(found)) == (ApprovalState.EXPIRED, ["keyriver.approval.expired.v1"])
    assert [leaf["counts"] for leaf in leaves(found)] == [{"APPROVAL_EXPIRED": 1}]
    assert approval_due(over, done) is None
