"""Successors of imported keys, what a refusal of the token costs, and a version without its material."""

from dataclasses import replace

import pytest

from tests.unit.chain.imports import (
    PARAMETERS,
    REFUSED,
    asked,
    code,
    done,
    expired,
    facts,
    leaf,
    order,
    parameters,
    row_of,
    waiting,
)
from tests.unit.chain.orders import puts, result
from tests.unit.chain.world import EU, NOW, ROOT, World, key_ref, version_ref
from worker.model.bodies import KeyRotateBody
from worker.model.codes import Code
from worker.model.control import KeyActivateBody, KeyDestroyBody
from worker.model.hsm import Fault, HsmFault
from worker.model.import_ops import ImportMaster
from worker.model.imports import ATTEMPTS, ImportState
from worker.model.operations import Operation
from worker.model.outcomes import Failed
from worker.model.replies import PendingResult
from worker.model.rows import Approval, Origin, State

# Rotation by import.


def test_a_successor_becomes_the_active_version() -> None:
    world = expired()
    concluded = done(world, order(rotate=True, not_after_ms=NOW + 9))
    key, old, new = world.key(ROOT), world.version(ROOT), world.version(ROOT, 2)
    assert (key.active_version, key.latest_version, key.origin) == (2, 2, Origin.IMPORTED)
    assert (old.state, new.state, new.canary, new.not_after_ms) == (
        State.DEACTIVATED,
        State.ACTIVE,
        b"canary",
        NOW + 9,
    )
    assert (new.serial, new.parent_version) == ("token-9", 0)
    (op,) = concluded.plan.ops
    assert isinstance(op, ImportMaster)
    assert (op.version, op.canary) == (2, b""), "of a successor nothing is known"
    assert [event for event, _ in facts(concluded)] == ["keyriver.key.imported.v1", "keyriver.key.deactivated.v1"]
    assert key_ref(ROOT) in concluded.settlement.changes


def test_a_successor_that_lost_its_number_to_another_is_an_object_of_its_own_number() -> None:
    """The token has made the object of the first try by then, as version 2: found again, it would be another key's."""
    world = expired()
    request = asked(world, order(rotate=True))
    (first,) = world.plan(request).ops
    world.put(replace(world.key(ROOT), latest_version=2))
    (second,) = world.plan(request).ops
    assert isinstance(first, ImportMaster)
    assert isinstance(second, ImportMaster)
    assert (first.version, second.version) == (2, 3)
    assert first.material != second.material
    assert [*world.plan(request).ops] == [second], "done again, it is found again"


def test_a_successor_of_a_version_that_never_came_leaves_that_one_alone() -> None:
    world = waiting()
    done(world, order(rotate=True))
    assert world.version(ROOT).state is State.PRE_ACTIVE
    world = waiting()
    world.tamper(version_ref(ROOT))
    assert code(world, order(rotate=True)) is Code.INTEGRITY


def test_taking_a_key_over_from_the_fleet_needs_two_officers() -> None:
    """S14: it is a provider move."""
    world = World()
    world.put(parameters())
    request = asked(world, order(rotate=True))
    asked_for = world.run(request)
    assert isinstance(result(asked_for), PendingResult)
    (approval,) = puts(asked_for)
    assert isinstance(approval, Approval)
    assert f"imports {PARAMETERS} 1" in approval.touched
    world = World()
    world.put(parameters())
    world.put(*puts(world.approved(request)))
    assert (world.key(ROOT).origin, world.version(ROOT, 2).state) == (Origin.IMPORTED, State.ACTIVE)
    assert row_of(world).state is ImportState.USED


def test_an_imported_key_is_not_rotated_by_making_one() -> None:
    world = expired()
    request = world.request(Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key="acme"), "ann")
    assert world.run(request).outcomes == (Failed(Code.WRONG_ORIGIN),)


# What the token refuses.


def test_each_refusal_is_counted_and_the_fifth_burns() -> None:
    world = waiting()
    for count in range(1, ATTEMPTS + 1):
        concluded = done(world, order(why="try"), REFUSED)
        assert concluded.outcomes == (Failed(Code.IMPORT_REFUSED),)
        state = ImportState.BURNED if count == ATTEMPTS else ImportState.OPEN
        assert (row_of(world).failures, row_of(world).state) == (count, state)
        assert world.version(ROOT).absent, "the version is as it was"
        ((event, said),) = facts(concluded)
        assert (event, said["failures"], said["state"]) == ("keyriver.import.refused.v1", count, state.value)
        assert leaf(concluded)["told"] == said
        assert leaf(concluded)["counts"] == {"IMPORT_REFUSED": 1}
        assert concluded.settlement.ledger is not None, "told again, it is not counted again"
    assert code(world, order()) is Code.IMPORT_BURNED


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault.UNAVAILABLE, Code.DEFERRED),
        (Fault.UNSUPPORTED, Code.UNSUPPORTED),
        (Fault.INTEGRITY, Code.INTEGRITY),
    ],
)
def test_the_tokens_own_trouble_costs_nothing(fault: Fault, expected: Code) -> None:
    world = waiting()
    concluded = done(world, order(), HsmFault(fault))
    assert concluded.outcomes == (Failed(expected),)
    assert (puts(concluded), facts(concluded)) == ([], [])


# Without its material.


def test_nothing_works_without_material_or_past_its_time() -> None:
    world = expired()
    chains, key = world.chains(), world.key(EU)
    from worker.chain.lifecycle import Use  # noqa: PLC0415

    for use in (Use.WRAP, Use.UNWRAP):
        assert chains.usable(key, 1, use) is Code.KEY_STATE
    world = World()
    world.put(replace(world.version(ROOT), not_after_ms=NOW))
    assert world.chains().usable(world.key(EU), 1, Use.WRAP) is Code.KEY_STATE
    world.put(replace(world.version(ROOT), not_after_ms=NOW + 1))
    assert not isinstance(world.chains().usable(world.key(EU), 1, Use.WRAP), Code)


def test_what_waits_for_its_material_is_not_activated_but_may_be_destroyed() -> None:
    world = waiting()
    body = KeyActivateBody(tenant="acme", key="acme")
    assert world.run(world.request(Operation.KEY_ACTIVATE, body, "ann")).outcomes == (Failed(Code.KEY_STATE),)
    world.limits = replace(world.limits, recoverable_ms=1)
    destroy = KeyDestroyBody(tenant="acme", key="acme", version=1)
    assert isinstance(result(world.run(world.request(Operation.KEY_DESTROY, destroy, "ann"))), PendingResult)
