"""Commands on tenants and keys: what they write, what they rest on, and when they are refused."""

from dataclasses import replace

import pytest

from tests.unit.chain.orders import ANN, CREATE, NEW, TENANT, ask, code, done, puts, replace_body, result, step_of
from tests.unit.chain.world import (
    BOLT_EU,
    EU,
    NOW,
    ROOT,
    World,
    chain_refs,
    key_ref,
    seen_of,
    uid,
    version_ref,
)
from worker.chain.conclude import conclude
from worker.chain.work import Commanding
from worker.model.bodies import AnyBody, KeyCreateBody, KeyRotateBody, TenantCreateBody
from worker.model.codes import Code
from worker.model.effects import Announce, LedgerEntry
from worker.model.hsm import CreateKey, CreateMaster, Fault, HsmFault, Purpose, WrappedDek, Wrapping
from worker.model.outcomes import Failed
from worker.model.replies import TenantResult
from worker.model.rows import FLEET_TENANT, Alias, Key, Origin, Region, RowRef, State, Suite, Table, Tenant, Version

# Tenants.


def test_a_tenant_comes_with_its_l1_in_the_token() -> None:
    world = World()
    concluded = done(world, NEW)
    tenant, key, alias, version = puts(concluded)
    assert tenant == Tenant("nord", 2, Suite.X25519, True, 1)
    assert isinstance(key, Key)
    wraps = Purpose.WRAPS_KEYS
    assert key == Key(key.id, "nord", None, 1, wraps, Origin.GENERATED, "", True, 1, 1, 1)
    assert alias == Alias("nord", "nord", key.id, 1)
    assert isinstance(version, Version)
    assert version.material is not None
    assert version == Version(key.id, 1, State.ACTIVE, Wrapping.TOKEN, b"", 0, version.material, "token-9", NOW, 1)
    assert concluded.plan.ops == [CreateMaster(key.id, 1, version.material)]
    assert concluded.settlement.seen == tuple(seen_of(world, ANN))
    assert concluded.settlement.changes == ()
    told = result(concluded)
    assert isinstance(told, TenantResult)
    assert (told.tenant, told.layers, told.key.id, told.key.alias) == ("nord", 2, key.id, "nord")
    assert [view.number for view in told.key.versions] == [1]


def test_a_redelivery_names_the_same_objects_and_another_request_others() -> None:
    """So a crash between the token and the store leaves no second L1."""
    first, again, other = (World().run(ask(World(), NEW, id_)) for id_ in ("r1", "r1", "r2"))
    assert puts(first) == puts(again)
    ids = {row.id for concluded in (first, other) for row in puts(concluded) if isinstance(row, Key)}
    materials = {row.material for concluded in (first, other) for row in puts(concluded) if isinstance(row, Version)}
    assert (len(ids), len(materials)) == (2, 2)


@pytest.mark.parametrize("name", ["fleet", "acme"])
def test_a_tenant_that_is_there_is_not_made_again(name: str) -> None:
    assert code(World(), TenantCreateBody(tenant=name)) is Code.EXISTS


@pytest.mark.parametrize("ref", [RowRef(Table.TENANTS, "nord"), RowRef(Table.ALIASES, "nord")])
def test_a_tampered_row_takes_its_name(ref: RowRef) -> None:
    world = World()
    world.tampered.add(ref)
    assert code(world, NEW) is Code.EXISTS


def test_an_alias_without_its_tenant_takes_the_name_too() -> None:
    world = World()
    world.put(Alias("nord", "nord", uid(70), 1))
    assert code(world, NEW) is Code.EXISTS


# Creating.


@pytest.mark.parametrize(
    ("layers", "parent", "purpose"),
    [(3, "acme", Purpose.WRAPS_KEYS), (3, "acme/eu", Purpose.WRAPS_DEKS), (2, "acme", Purpose.WRAPS_DEKS)],
)
def test_what_a_key_wraps_follows_from_its_layer(layers: int, parent: str, purpose: Purpose) -> None:
    world = World()
    world.put(replace(world.tenant(), layers=layers))
    concluded = done(world, KeyCreateBody(tenant="acme", parent=parent, alias="acme/new"))
    key, alias, version = puts(concluded)
    above = world.key(ROOT if parent == "acme" else EU)
    assert isinstance(key, Key)
    assert key == Key(key.id, "acme", above.id, above.layer + 1, purpose, Origin.GENERATED, "", True, 1, 1, 1)
    assert alias == Alias("acme/new", "acme", key.id, 1)
    made = Version(key.id, 1, State.ACTIVE, Wrapping.AES_KW, b"wrapped" * 6, 1, None, "", NOW, 1)
    assert version == made
    (op,) = concluded.plan.ops
    assert isinstance(op, CreateKey)
    assert (op.parent.key, op.key, op.version, op.purpose) == (above.id, key.id, 1, purpose)


def test_a_new_key_rests_on_its_parents_whole_chain_and_tenant() -> None:
    world = World()
    plan = world.plan(ask(world, CREATE))
    assert set(plan.seen) == seen_of(world, ANN, *chain_refs(ROOT, EU))


def test_a_new_key_stands_under_its_parents_active_version() -> None:
    world = World()
    world.rotate(EU)
    step = step_of(world, CREATE)
    assert step.version is not None
    assert step.version.parent_version == 2
    assert isinstance(step.op, CreateKey)
    assert step.op.parent.version == 2


@pytest.mark.parametrize(("parents", "asked", "region"), [("", "eu-1", "eu-1"), ("eu-1", "", "eu-1"), ("", "", "")])
def test_a_region_is_the_parents_unless_it_is_named(parents: str, asked: str, region: str) -> None:
    world = World()
    world.put(replace(world.key(EU), region=parents), Region("eu-1", FLEET_TENANT, ("token-1",), 1))
    (key, *_) = puts(done(world, replace_body(CREATE, region=asked)))
    assert isinstance(key, Key)
    assert key.region == region


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"parent": "acme/nothing"}, Code.NOT_FOUND),
        ({"parent": "bolt/eu"}, Code.NOT_FOUND),
        ({"parent": str(BOLT_EU)}, Code.NOT_FOUND),
        ({"parent": str(uid(99))}, Code.NOT_FOUND),
        ({"tenant": "nord"}, Code.NOT_FOUND),
        ({"tenant": "bolt"}, Code.NOT_FOUND),
        ({"alias": "bolt/eu/new"}, Code.MALFORMED),
        ({"alias": "acme"}, Code.MALFORMED),
        ({"alias": "acmex/new"}, Code.MALFORMED),
        ({"alias": "acme/eu/payments"}, Code.EXISTS),
        ({"parent": "acme/eu/payments"}, Code.WRONG_LAYER),
    ],
)
def test_what_can_not_be_created(changes: dict[str, str], expected: Code) -> None:
    assert code(World(), replace_body(CREATE, **changes)) is expected


@pytest.mark.parametrize("state", State)
def test_only_an_active_parent_wraps_a_new_key(state: State) -> None:
    world = World()
    world.set_state(EU, state)
    (step,) = world.plan(ask(world, CREATE)).steps
    assert isinstance(step, Commanding) if state is State.ACTIVE else step == Failed(Code.KEY_STATE)


@pytest.mark.parametrize("body", [CREATE, KeyRotateBody(tenant="acme", key="acme/eu/payments")])
def test_nothing_is_made_under_a_disabled_key_or_tenant(body: AnyBody) -> None:
    for key in (ROOT, EU):
        world = World()
        world.disable(key)
        assert code(world, body) is Code.KEY_DISABLED
    world = World()
    world.put(replace(world.tenant(), enabled=False))
    assert code(world, body) is Code.KEY_DISABLED


@pytest.mark.parametrize(
    "ref",
    [TENANT, key_ref(EU), version_ref(EU), RowRef(Table.ALIASES, "acme/eu"), key_ref(ROOT), version_ref(ROOT)],
    ids=str,
)
def test_a_tampered_row_on_the_way_makes_nothing(ref: RowRef) -> None:
    world = World()
    world.tamper(ref)
    assert code(world, CREATE) is Code.INTEGRITY
    assert code(world, KeyRotateBody(tenant="acme", key="acme/eu")) is Code.INTEGRITY


def test_a_tampered_alias_takes_its_name_and_a_tampered_key_its_id() -> None:
    world = World()
    world.tampered |= {RowRef(Table.ALIASES, "acme/eu/new"), key_ref(uid(99))}
    assert code(world, CREATE) is Code.EXISTS
    assert code(world, replace_body(CREATE, parent=str(uid(99)))) is Code.INTEGRITY


# When the token does not do it.


@pytest.mark.parametrize("body", [NEW, CREATE, KeyRotateBody(tenant="acme", key="acme/eu")])
@pytest.mark.parametrize(("fault", "expected"), [(Fault.UNAVAILABLE, Code.DEFERRED), (Fault.INTEGRITY, Code.INTEGRITY)])
def test_without_the_token_nothing_is_written(body: AnyBody, fault: Fault, expected: Code) -> None:
    world = World()
    request = ask(world, body)
    concluded = conclude(world.plan(request), [HsmFault(fault)], world.new_ids)
    assert concluded.outcomes == (Failed(expected),)
    assert puts(concluded) == []
    assert not [effect for effect in concluded.settlement.effects if isinstance(effect, Announce)]
    entry = concluded.settlement.ledger
    assert entry is not None
    assert (entry.outcomes[0] is None) is (fault is Fault.UNAVAILABLE)


def test_a_command_that_was_answered_is_answered_again_and_an_open_one_is_done() -> None:
    world = World()
    request = ask(world, CREATE)
    world.keep(conclude(world.plan(request), [HsmFault(Fault.UNAVAILABLE)], world.new_ids))
    concluded = world.run(request)
    assert concluded.settlement.opened == LedgerEntry(request.key, request.operation, request.body_digest, (None,))
    world.keep(concluded)
    world.put(*puts(concluded))
    again = world.run(request)
    assert again.outcomes == concluded.outcomes
    assert (again.plan.ops, puts(again), again.settlement.ledger) == ([], [], None)
    assert again.settlement.seen == tuple(seen_of(world, ANN))


def test_the_token_answers_in_kind() -> None:
    world = World()
    with pytest.raises(TypeError, match="another kind"):
        conclude(world.plan(ask(world, CREATE)), [WrappedDek(b"n", b"c")], world.new_ids)
