"""From a name to what may be used: every row on the way up is asked, and each refusal has its code."""

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest

from tests.unit.chain.world import (
    BOLT_EU,
    BOLT_LEDGER,
    BOLT_ROOT,
    CARDS,
    EU,
    PAYMENTS,
    ROOT,
    World,
    chain_refs,
    key_ref,
    seen_of,
    uid,
    version_ref,
)
from worker.chain.lifecycle import Use
from worker.chain.resolve import Usable
from worker.model.codes import Code
from worker.model.hsm import Kek, Purpose, Wrapping
from worker.model.operations import Permission
from worker.model.rows import Alias, RowRef, State, Table

TENANT = RowRef(Table.TENANTS, "acme")
CHAIN = chain_refs(ROOT, EU, PAYMENTS)


def ask(
    world: World,
    permission: Permission = Permission.WRAP,
    key: UUID = PAYMENTS,
    version: int | None = None,
    use: Use | None = None,
) -> Usable | Code:
    return world.chains().for_client(world.client("billing"), permission, key, version, use)


def test_a_usable_key_rests_on_every_row_up_to_its_tenant() -> None:
    world = World()
    found = ask(world)
    assert isinstance(found, Usable)
    assert (found.key, found.version) == (world.key(PAYMENTS), world.version(PAYMENTS))
    assert set(found.seen) == seen_of(world, *CHAIN)
    assert len(found.seen) == len(CHAIN)


def test_the_way_to_open_it_leads_to_the_token() -> None:
    world = World()
    found = ask(world)
    assert isinstance(found, Usable)
    root = Kek(ROOT, 1, 1, Purpose.WRAPS_KEYS, Wrapping.TOKEN, material=uid(1001), serial="token-1")
    eu = Kek(EU, 1, 1, Purpose.WRAPS_KEYS, Wrapping.AES_KWP, b"w" * 40, root)
    assert found.kek == Kek(PAYMENTS, 1, 1, Purpose.WRAPS_DEKS, Wrapping.AES_KWP, b"w" * 40, eu)


def test_a_version_stays_under_the_version_that_wrapped_it() -> None:
    """After the parent's rotation the old version of it still opens what it wrapped."""
    world = World()
    world.rotate(EU)
    found = ask(world)
    assert isinstance(found, Usable)
    assert found.kek.parent is not None
    assert (found.kek.parent.version, found.kek.parent.revision) == (1, 2)
    assert set(found.seen) == seen_of(world, *CHAIN)


def test_none_is_the_active_version() -> None:
    world = World()
    world.rotate(PAYMENTS)
    found = ask(world)
    assert isinstance(found, Usable)
    assert found.version.number == 2
    assert ask(world, version=1) is Code.KEY_STATE
    assert isinstance(ask(world, Permission.UNWRAP, version=1), Usable)
    assert isinstance(ask(world, Permission.REWRAP_FROM, version=1), Usable)


@pytest.mark.parametrize(
    ("permission", "use"),
    [
        (Permission.WRAP, Use.WRAP),
        (Permission.UNWRAP, Use.UNWRAP),
        (Permission.REWRAP, Use.WRAP),
        (Permission.REWRAP_FROM, Use.REWRAP_FROM),
        (Permission.REWRAP_TO, Use.WRAP),
    ],
)
@pytest.mark.parametrize("state", State)
def test_a_permission_is_one_use_of_the_version(permission: Permission, use: Use, state: State) -> None:
    world = World()
    world.set_state(PAYMENTS, state)
    expected = world.chains().usable(world.key(PAYMENTS), 1, use)
    assert type(ask(world, permission)) is type(expected)
    assert isinstance(expected, Code) is (ask(world, permission) is Code.KEY_STATE)


def test_another_use_than_the_permissions_own_can_be_asked_for() -> None:
    world = World()
    world.set_state(PAYMENTS, State.DEACTIVATED)
    assert ask(world, Permission.WRAP) is Code.KEY_STATE
    assert isinstance(ask(world, Permission.WRAP, use=Use.UNWRAP), Usable)


@pytest.mark.parametrize("key", [ROOT, EU, PAYMENTS])
@pytest.mark.parametrize("permission", Permission)
def test_nothing_under_a_disabled_key_works(key: UUID, permission: Permission) -> None:
    world = World()
    world.disable(key)
    assert ask(world, permission) is Code.KEY_DISABLED


def test_nothing_of_a_disabled_tenant_works() -> None:
    world = World()
    world.put(replace(world.tenant(), enabled=False))
    assert ask(world) is Code.KEY_DISABLED


@pytest.mark.parametrize("key", [ROOT, EU])
@pytest.mark.parametrize("state", State)
def test_an_ancestor_must_open(key: UUID, state: State) -> None:
    world = World()
    world.set_state(key, state)
    opens = state in {State.ACTIVE, State.SUSPENDED, State.DEACTIVATED}
    assert isinstance(ask(world), Usable) if opens else ask(world) is Code.KEY_STATE


def test_a_switch_is_told_before_a_state() -> None:
    world = World()
    world.disable(PAYMENTS)
    world.set_state(PAYMENTS, State.DESTROYED)
    assert ask(world) is Code.KEY_DISABLED


@pytest.mark.parametrize("ref", CHAIN, ids=str)
def test_a_tampered_row_anywhere_on_the_way_is_an_integrity_error(ref: RowRef) -> None:
    world = World()
    world.tamper(ref)
    assert ask(world) is Code.INTEGRITY


@pytest.mark.parametrize("ref", [ref for ref in CHAIN if ref != key_ref(PAYMENTS)], ids=str)
def test_a_row_that_another_names_and_that_is_gone_is_an_integrity_error(ref: RowRef) -> None:
    world = World()
    del world.rows[ref]
    assert ask(world) is Code.INTEGRITY


def test_what_never_was_is_not_found() -> None:
    world = World()
    del world.rows[key_ref(PAYMENTS)]
    assert ask(world) is Code.NOT_FOUND
    assert ask(World(), Permission.UNWRAP, uid(99)) is Code.NOT_FOUND
    for number in (0, 2, 2**32 - 1):
        assert ask(World(), Permission.UNWRAP, version=number) is Code.NOT_FOUND


def move(**changes: object) -> Callable[[World], None]:
    return lambda world: world.put(replace(world.key(PAYMENTS), **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [move(parent=None), move(parent=BOLT_EU), move(parent=uid(99)), move(parent=ROOT), move(layer=2), move(layer=4)],
)
def test_a_parent_of_another_tenant_or_layer_is_no_parent(change: Callable[[World], None]) -> None:
    world = World()
    change(world)
    assert ask(world) is Code.INTEGRITY


def test_a_key_above_itself_ends_somewhere() -> None:
    """Layers only fall on the way up, so a ring of rows is refused and not followed."""
    world = World()
    world.put(replace(world.key(EU), parent=PAYMENTS))
    assert ask(world) is Code.INTEGRITY


@pytest.mark.parametrize("key", [BOLT_ROOT, BOLT_EU, BOLT_LEDGER])
@pytest.mark.parametrize("permission", Permission)
def test_another_tenants_key_is_not_found(key: UUID, permission: Permission) -> None:
    assert ask(World(), permission, key) is Code.NOT_FOUND


@pytest.mark.parametrize("permission", Permission)
def test_a_forbidden_key_is_not_found_whatever_its_state(permission: Permission) -> None:
    world = World()
    world.put(replace(world.client("billing"), pattern="acme/us/*"))
    assert ask(world, permission) is Code.NOT_FOUND
    world.disable(PAYMENTS)
    assert ask(world, permission) is Code.NOT_FOUND
    others = tuple(each.value for each in Permission if each is not permission)
    world.put(replace(world.client("billing"), pattern="*", permissions=others))
    assert ask(world, permission) is Code.NOT_FOUND


def test_a_tampered_alias_grants_nothing() -> None:
    world = World()
    world.put(replace(world.client("billing"), pattern="acme/eu/*"))
    assert isinstance(ask(world), Usable)
    world.tamper(RowRef(Table.ALIASES, "acme/eu/payments"))
    assert ask(world) is Code.NOT_FOUND


def test_answers_are_remembered_by_client_key_version_and_use() -> None:
    world = World()
    world.put(replace(world.client("ledger"), tenant="acme", pattern="acme/us/*"))
    chains = world.chains()
    billing, ledger = world.client("billing"), world.client("ledger")
    first = chains.for_client(billing, Permission.WRAP, PAYMENTS, None)
    assert chains.for_client(billing, Permission.WRAP, PAYMENTS, 1) is first
    assert chains.for_client(ledger, Permission.WRAP, PAYMENTS, 1) is Code.NOT_FOUND
    world.set_state(PAYMENTS, State.SUSPENDED)
    chains = world.chains()
    assert chains.for_client(billing, Permission.WRAP, PAYMENTS, 1) is Code.KEY_STATE
    assert isinstance(chains.for_client(billing, Permission.UNWRAP, PAYMENTS, 1), Usable)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("acme/eu/payments", PAYMENTS),
        ("acme", ROOT),
        (str(PAYMENTS), PAYMENTS),
        (str(uid(99)), uid(99)),
        ("bolt/eu/ledger", Code.NOT_FOUND),
        ("acme/eu/nothing", Code.NOT_FOUND),
        ("", Code.NOT_FOUND),
    ],
)
def test_names(name: str, expected: UUID | Code) -> None:
    world = World()
    assert world.chains().key_id(world.client("billing"), name) == expected


def test_an_id_that_is_another_tenants_leads_nowhere() -> None:
    world = World()
    found = world.chains().key_id(world.client("billing"), str(BOLT_LEDGER))
    assert isinstance(found, UUID)
    assert ask(world, Permission.WRAP, found) is Code.NOT_FOUND


def test_a_tampered_alias_is_an_integrity_error() -> None:
    world = World()
    world.tamper(RowRef(Table.ALIASES, "acme/eu/payments"))
    assert world.chains().key_id(world.client("billing"), "acme/eu/payments") is Code.INTEGRITY
    assert world.chains().key_id(world.client("billing"), "acme/eu/cards") == CARDS


def test_a_key_that_an_alias_names_and_that_is_gone_is_an_integrity_error() -> None:
    world = World()
    del world.rows[key_ref(PAYMENTS)]
    assert world.chains().key_id(world.client("billing"), "acme/eu/payments") is Code.INTEGRITY
    del world.rows[key_ref(BOLT_LEDGER)]
    assert world.chains().key_id(world.client("billing"), "bolt/eu/ledger") is Code.NOT_FOUND


def test_an_alias_is_asked_before_an_id() -> None:
    """What looks like an id and is a name of somebody else's is somebody else's."""
    world = World()
    world.put(Alias(str(PAYMENTS), "bolt", BOLT_LEDGER, 1))
    assert world.chains().key_id(world.client("billing"), str(PAYMENTS)) is Code.NOT_FOUND


def test_a_version_row_that_the_key_counts_is_missed() -> None:
    world = World()
    world.rotate(PAYMENTS)
    del world.rows[version_ref(PAYMENTS, 1)]
    assert ask(world, Permission.UNWRAP, version=1) is Code.INTEGRITY
    assert ask(world, Permission.UNWRAP, version=3) is Code.NOT_FOUND
