"""Rotating and showing keys: what a rotation writes and rests on, and how keys are read."""

from dataclasses import replace
from uuid import UUID

import pytest

from tests.unit.chain.orders import ANN, ask, code, done, puts, result
from tests.unit.chain.world import (
    BOLT_ROOT,
    CARDS,
    EU,
    NOW,
    PAYMENTS,
    ROOT,
    World,
    chain_refs,
    key_ref,
    seen_of,
    version_ref,
    version_row,
)
from worker.chain.work import Commanding
from worker.model.bodies import KeyListBody, KeyRotateBody, KeyShowBody
from worker.model.codes import Code
from worker.model.facts import Paging
from worker.model.hsm import CreateMaster, Wrapping
from worker.model.replies import KeyListResult, KeyResult
from worker.model.rows import Alias, Key, RowRef, State, Table, Version

# Rotating.


def test_a_rotation_promotes_a_new_version_and_retires_the_old_one() -> None:
    world = World()
    before = world.key(PAYMENTS)
    concluded = done(world, KeyRotateBody(tenant="acme", key="acme/eu/payments"))
    key, retired, made = puts(concluded)
    assert key == replace(before, active_version=2, latest_version=2, revision=2)
    assert retired == replace(version_row(before), state=State.DEACTIVATED, revision=2)
    assert made == Version(PAYMENTS, 2, State.ACTIVE, Wrapping.AES_KW, b"wrapped" * 6, 1, None, "", NOW, 1)
    assert set(concluded.settlement.changes) == {key_ref(PAYMENTS), version_ref(PAYMENTS)}
    told = result(concluded)
    assert isinstance(told, KeyResult)
    assert (told.key.alias, told.key.active_version) == ("acme/eu/payments", 2)
    assert [(view.number, view.state) for view in told.key.versions] == [(1, State.DEACTIVATED), (2, State.ACTIVE)]


def test_a_rotation_rests_on_what_it_changes_and_on_its_parents_chain() -> None:
    world = World()
    plan = world.plan(ask(world, KeyRotateBody(tenant="acme", key="acme/eu/payments")))
    refs = (ANN, *chain_refs(ROOT, EU), key_ref(PAYMENTS), version_ref(PAYMENTS))
    assert set(plan.seen) == seen_of(world, *refs)


def test_after_the_parents_rotation_the_new_version_stands_under_the_new_one() -> None:
    world = World()
    done(world, KeyRotateBody(tenant="acme", key="acme/eu"), "r1")
    concluded = done(world, KeyRotateBody(tenant="acme", key="acme/eu/payments"), "r2")
    *_, made = puts(concluded)
    assert isinstance(made, Version)
    assert made.parent_version == 2
    assert world.version(PAYMENTS).parent_version == 1


def test_an_l1_rotates_into_a_new_object_of_the_token() -> None:
    world = World()
    concluded = done(world, KeyRotateBody(tenant="acme", key="acme"))
    *_, made = puts(concluded)
    assert isinstance(made, Version)
    assert (made.wrapping, made.parent_version, made.serial) == (Wrapping.TOKEN, 0, "token-9")
    assert made.material is not None
    assert made.material != world.version(ROOT).material
    assert concluded.plan.ops == [CreateMaster(ROOT, 2, made.material)]
    assert set(concluded.plan.seen) == seen_of(World(), ANN, *chain_refs(ROOT))


def test_rotations_of_an_l1_that_meet_share_the_object_of_each_version() -> None:
    """One that was overtaken goes on with the next version's: a label is one version's for ever, by its CKA_ID."""
    world = World()
    (late,) = world.plan(ask(world, KeyRotateBody(tenant="acme", key="acme"), "late")).ops
    assert done(world, KeyRotateBody(tenant="acme", key="acme"), "early").plan.ops == [late]
    (again,) = world.plan(ask(world, KeyRotateBody(tenant="acme", key="acme"), "late")).ops
    assert isinstance(late, CreateMaster)
    assert isinstance(again, CreateMaster)
    assert (late.version, again.version) == (2, 3)
    assert late.material != again.material


def test_numbers_go_on_after_the_latest_not_after_the_active() -> None:
    world = World()
    world.put(replace(world.key(PAYMENTS), latest_version=5))
    key, _, made = puts(done(world, KeyRotateBody(tenant="acme", key=str(PAYMENTS))))
    assert isinstance(made, Version)
    assert isinstance(key, Key)
    assert (made.number, key.active_version, key.latest_version) == (6, 6, 6)


@pytest.mark.parametrize(("key", "expected"), [("acme/x", Code.NOT_FOUND), (str(BOLT_ROOT), Code.NOT_FOUND)])
def test_an_unknown_or_foreign_key_is_not_rotated_nor_shown(key: str, expected: Code) -> None:
    assert code(World(), KeyRotateBody(tenant="acme", key=key)) is expected
    assert code(World(), KeyShowBody(tenant="acme", key=key)) is expected


@pytest.mark.parametrize("state", State)
def test_a_version_in_any_state_is_followed_by_another(state: State) -> None:
    world = World()
    world.set_state(PAYMENTS, state)
    (step,) = world.plan(ask(world, KeyRotateBody(tenant="acme", key="acme/eu/payments"))).steps
    assert isinstance(step, Commanding)
    retired = [row.state for row in step.rows if isinstance(row, Version)]
    assert retired == ([State.DEACTIVATED] if state in (State.ACTIVE, State.SUSPENDED) else [])


def test_a_parent_that_opens_but_does_not_wrap_lets_nothing_rotate() -> None:
    world = World()
    world.set_state(EU, State.SUSPENDED)
    assert code(world, KeyRotateBody(tenant="acme", key="acme/eu/payments")) is Code.KEY_STATE


# Reading.


def test_a_key_is_shown_with_all_its_versions_in_order() -> None:
    world = World()
    world.rotate(PAYMENTS)
    world.put(Alias("acme/a-second-name", "acme", PAYMENTS, 1))
    concluded = world.run(ask(world, KeyShowBody(tenant="acme", key="acme/eu/payments")))
    told = result(concluded)
    assert isinstance(told, KeyResult)
    assert (told.key.alias, told.key.parent, told.key.layer) == ("acme/a-second-name", EU, 3)
    assert [(view.number, view.state) for view in told.key.versions] == [(1, State.DEACTIVATED), (2, State.ACTIVE)]
    assert (concluded.settlement.ledger, puts(concluded)) == (None, [])


def test_a_key_without_a_name_has_an_empty_one() -> None:
    world = World()
    del world.rows[RowRef(Table.ALIASES, "acme/eu/payments")]
    for body in (KeyShowBody(tenant="acme", key=str(PAYMENTS)), KeyRotateBody(tenant="acme", key=str(PAYMENTS))):
        told = result(world.run(ask(world, body)))
        assert isinstance(told, KeyResult)
        assert told.key.alias == ""


def listed(world: World, body: KeyListBody, page: list[UUID]) -> KeyListResult:
    after = "" if body.after is None else str(body.after)
    world.key_pages = {Paging(body.tenant, after, body.limit + 1): tuple(page)}
    told = result(world.run(ask(world, body)))
    assert isinstance(told, KeyListResult)
    return told


def test_pages_of_keys() -> None:
    world = World()
    full = listed(world, KeyListBody(tenant="acme", limit=2), [ROOT, EU, PAYMENTS])
    assert ([view.id for view in full.keys], full.more) == ([ROOT, EU], True)
    last = listed(world, KeyListBody(tenant="acme", limit=2, after=EU), [PAYMENTS, CARDS])
    assert ([view.alias for view in last.keys], last.more) == (["acme/eu/payments", "acme/eu/cards"], False)
    assert listed(world, KeyListBody(tenant="acme"), []) == KeyListResult(keys=[], more=False)
    world.tamper(key_ref(PAYMENTS))
    assert [view.id for view in listed(world, KeyListBody(tenant="acme"), [PAYMENTS, CARDS]).keys] == [CARDS]


def test_an_unknown_tenant_has_no_keys() -> None:
    assert code(World(), KeyListBody(tenant="nord")) is Code.NOT_FOUND


def test_a_page_that_was_not_asked_for_is_empty() -> None:
    assert result(World().run(ask(World(), KeyListBody(tenant="acme")))) == KeyListResult(keys=[], more=False)
