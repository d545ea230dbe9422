"""Lazy rewrap: an unwrap through an old version gives the blob under the current one as well, if it was asked for."""

import json
from dataclasses import replace

import pytest

from tests.unit.chain.world import (
    CARDS,
    EU,
    PAYMENTS,
    ROOT,
    World,
    blob_of,
    chain_refs,
    key_ref,
    seen_of,
    uid,
    version_ref,
)
from worker.chain import blob, context
from worker.chain.conclude import conclude
from worker.chain.plan import Plan
from worker.chain.work import Refreshing, Unwrapping
from worker.model.bodies import DekItem, UnwrapBody
from worker.model.codes import Code
from worker.model.effects import Count, Leaf
from worker.model.hsm import Fault, HsmFault, HsmResult, WrappedDek
from worker.model.ids import NO_ID
from worker.model.operations import Operation
from worker.model.outcomes import Failed, Outcome, Unwrapped
from worker.model.rows import Client, RowRef, State

OLD = blob_of(PAYMENTS, 1, uid(77))
DEK = b"d" * 32
MADE = WrappedDek(b"N" * 12, b"R" * 81, DEK, context.EMPTY)


def rotated() -> World:
    world = World()
    world.rotate(PAYMENTS)
    return world


def plan(world: World, *items: DekItem, rewrap: bool = True) -> Plan:
    return world.plan(world.request(Operation.UNWRAP, UnwrapBody(items=list(items), rewrap=rewrap)))


def outcome(world: World, result: HsmResult) -> Outcome:
    return conclude(plan(world, DekItem(blob=OLD)), [result], world.new_ids).outcomes[0]


def test_the_blob_comes_back_under_the_current_version() -> None:
    world = rotated()
    planned = plan(world, DekItem(blob=OLD))
    (step,) = planned.steps
    assert isinstance(step, Refreshing)
    header = blob.header(PAYMENTS, 2, NO_ID)
    assert (step.op.source.version, step.op.target.version, step.op.reveal) == (1, 2, True)
    assert (step.header, step.op.target_aad) == (header, blob.aad(header, "acme"))
    assert step.op.source_aad == blob.aad(blob.parse(OLD).header, "acme")
    new = {key_ref(PAYMENTS), version_ref(PAYMENTS), version_ref(PAYMENTS, 2)}
    rests = seen_of(world, RowRef(Client.TABLE, "billing"), *chain_refs(ROOT, EU, PAYMENTS), *new)
    assert set(planned.seen) == rests, "the answer rests on both versions"
    assert outcome(world, MADE) == Unwrapped(PAYMENTS, 1, DEK, header + MADE.nonce + MADE.ciphertext, 2)


def test_it_counts_as_issued_and_stands_on_the_trail_of_both_versions() -> None:
    world = rotated()
    done = conclude(plan(world, DekItem(blob=OLD), DekItem(blob=OLD)), [MADE, MADE], world.new_ids)
    assert done.settlement.ledger is None, "it makes no state; a redelivery makes another blob"
    effects = done.settlement.effects
    assert [one for one in effects if isinstance(one, Count)] == [Count(PAYMENTS, 2, 0, 2)]
    leaves = [json.loads(one.body) for one in effects if isinstance(one, Leaf)]
    assert [(leaf["version"], leaf["counts"]) for leaf in leaves] == [(1, {"OK": 2}), (2, {"OK": 2})]


def test_who_does_not_know_the_context_gets_no_blob() -> None:
    other = replace(MADE, context_digest=context.digest({"customer": "42"}))
    assert outcome(rotated(), other) == Failed(Code.UNWRAP_FAILED)


@pytest.mark.parametrize(
    ("fault", "code"), [(Fault.BAD_CIPHERTEXT, Code.UNWRAP_FAILED), (Fault.UNAVAILABLE, Code.DEFERRED)]
)
def test_faults_have_the_codes_of_an_unwrap(fault: Fault, code: Code) -> None:
    world = rotated()
    done = conclude(plan(world, DekItem(blob=OLD)), [HsmFault(fault)], world.new_ids)
    assert done.outcomes[0] == Failed(code)
    (leaf,) = [one for one in done.settlement.effects if isinstance(one, Leaf)]
    assert json.loads(leaf.body)["version"] == 1


def test_what_is_current_or_stored_or_not_asked_for_is_only_unwrapped() -> None:
    world = rotated()
    current, stored = DekItem(blob=blob_of(PAYMENTS, 2, uid(7))), DekItem(id=world.stored(1, PAYMENTS).id)
    assert [type(step) for step in plan(world, current, stored).steps] == [Unwrapping, Unwrapping]
    assert [type(step) for step in plan(world, DekItem(blob=OLD), rewrap=False).steps] == [Unwrapping]


def test_who_may_not_rewrap_is_refused_and_harms_no_neighbour() -> None:
    world = rotated()
    world.put(replace(world.client("billing"), permissions=("unwrap",)))
    stored = DekItem(id=world.stored(1, CARDS).id)
    first, second = plan(world, DekItem(blob=OLD), stored).steps
    assert first == Failed(Code.NOT_FOUND)
    assert isinstance(second, Unwrapping)


@pytest.mark.parametrize("state", [State.SUSPENDED, State.DEACTIVATED, State.COMPROMISED, State.DESTROY_SCHEDULED])
def test_a_current_version_that_wraps_nothing_leaves_the_unwrap(state: State) -> None:
    world = rotated()
    world.set_state(PAYMENTS, state, 2)
    assert [type(step) for step in plan(world, DekItem(blob=OLD)).steps] == [Unwrapping]


def test_a_version_that_may_be_unwrapped_but_not_moved_is_only_unwrapped() -> None:
    world = rotated()
    world.set_state(PAYMENTS, State.SUSPENDED, 1)
    assert [type(step) for step in plan(world, DekItem(blob=OLD)).steps] == [Unwrapping]


def test_a_refused_version_is_refused() -> None:
    world = rotated()
    world.set_state(PAYMENTS, State.COMPROMISED, 1)
    assert plan(world, DekItem(blob=OLD)).steps == (Failed(Code.KEY_STATE),)
