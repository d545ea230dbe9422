"""What rules and grants allow: each condition alone can refuse, and what is allowed rests on what allowed it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from tests.unit.chain.licensed import bare, grant_row, rule_row
from tests.unit.chain.world import BOLT_LEDGER, CARDS, EU, NOW, PAYMENTS, ROOT, World, seen_of, uid, version_row
from worker.chain import policy
from worker.chain.lifecycle import Use, allows
from worker.chain.lifecycle import Who as OnBehalf
from worker.chain.resolve import Usable
from worker.model.bodies import DekItem, RewrapBody, RewrapItem, SealedDeks, UnwrapBody, WrapBody, WrapItem
from worker.model.codes import Code
from worker.model.operations import Operation, Permission
from worker.model.outcomes import Failed, Rewrapped, Unwrapped, Wrapped
from worker.model.rows import FLEET_TENANT, Grant, IntakeKey, Region, Rule, State, Suite

X25519, P256, HYBRID = Suite.X25519, Suite.P256, Suite.MLKEM768_X25519


def ask(
    world: World,
    permission: Permission = Permission.UNWRAP,
    key: UUID = PAYMENTS,
    version: int | None = None,
    use: Use | None = None,
    **shown: Any,  # noqa: ANN401 - context and suites
) -> Usable | Code:
    return world.chains().for_client(world.client("billing"), permission, key, version, use, **shown)


def test_without_a_rule_nothing_is_allowed_and_with_one_it_is() -> None:
    assert ask(bare()) is Code.NOT_FOUND
    world = bare(rule_row())
    found = ask(world)
    assert isinstance(found, Usable)
    assert seen_of(world, rule_row().ref) < set(found.seen)
    assert len(found.seen) == len(set(found.seen))


def test_what_the_clients_own_row_allows_rests_on_no_rule() -> None:
    world = World()
    world.put(rule_row(), grant_row())
    found = ask(world)
    assert isinstance(found, Usable)
    assert not {rule_row().ref, grant_row().ref} & {seen.ref for seen in found.seen}


@pytest.mark.parametrize(
    "changes",
    [
        {"client": "cards"},
        {"tenant": "bolt"},
        {"revoked": True},
        {"not_after_ms": NOW},
        {"permissions": ("wrap", "rewrap", "rewrap-from", "rewrap-to")},
        {"permissions": ()},
        {"pattern": "acme/us/*"},
        {"pattern": ""},
        {"region": "eu"},
        {"context_keys": ("table",)},
        {"context_keys": ("row", "table")},
        {"minimum_suite": HYBRID},
    ],
)
def test_each_condition_of_a_rule_can_refuse(changes: dict[str, Any]) -> None:
    shown: dict[str, Any] = {"context": {"row": "1"}, "suites": frozenset({X25519})}
    assert isinstance(ask(bare(rule_row()), **shown), Usable)
    assert ask(bare(rule_row(**changes)), **shown) is Code.NOT_FOUND


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"pattern": "acme/eu/*"}, {}),
        ({"pattern": "acme/*/payments"}, {}),
        ({"not_after_ms": NOW + 1}, {}),
        ({"context_keys": ("table",)}, {"context": {"table": "", "row": "1"}}),
        ({"context_keys": ()}, {"context": None}),
        ({"minimum_suite": X25519}, {"suites": frozenset({X25519, HYBRID})}),
        ({"minimum_suite": HYBRID}, {"suites": frozenset({HYBRID})}),
        ({"minimum_suite": HYBRID}, {"suites": frozenset()}),
    ],
)
def test_conditions_that_are_met(changes: dict[str, Any], shown: dict[str, Any]) -> None:
    assert isinstance(ask(bare(rule_row(**changes)), **shown), Usable)


def test_every_seal_of_a_request_must_be_as_strong_as_a_rule_demands() -> None:
    world = bare(rule_row(minimum_suite=HYBRID))
    assert ask(world, suites=frozenset({HYBRID, X25519})) is Code.NOT_FOUND


@pytest.mark.parametrize(("region", "allowed"), [("eu", True), ("us", False), ("", True)])
def test_a_rules_region_is_the_keys(region: str, *, allowed: bool) -> None:
    world = bare(rule_row(region=region))
    world.put(replace(world.key(PAYMENTS), region="eu"), Region("eu", FLEET_TENANT, ("token-1",), 1))
    assert isinstance(ask(world), Usable) is allowed


def test_a_rule_of_another_tenants_client_opens_nothing_of_this_one() -> None:
    """Whoever can write rows can't let a client into another tenant by them (and their MACs would not hold)."""
    world = bare(rule_row(tenant="bolt"), grant_row(tenant="bolt", key=BOLT_LEDGER))
    assert ask(world, key=BOLT_LEDGER) is Code.NOT_FOUND
    assert ask(world) is Code.NOT_FOUND


def test_one_rule_is_enough_and_each_is_asked_alone() -> None:
    """Two rules that each lack something don't make one that lacks nothing."""
    parts = (rule_row(1, permissions=("wrap",)), rule_row(2, pattern="acme/us/*"))
    assert ask(bare(*parts)) is Code.NOT_FOUND
    assert isinstance(ask(bare(*parts, rule_row(3))), Usable)


def test_a_client_whose_rule_somebody_changed_is_told_so_where_it_is_refused() -> None:
    world = bare()
    world.distrusted.add("billing")
    assert ask(world) is Code.INTEGRITY
    world.put(grant_row())
    assert isinstance(ask(world), Usable)


# Grants.


def test_a_grant_allows_one_key_until_it_ends() -> None:
    world = bare(grant_row())
    assert isinstance(ask(world), Usable)
    assert ask(world, key=CARDS) is Code.NOT_FOUND
    assert ask(world, Permission.REWRAP) is Code.NOT_FOUND
    world.now_ms = NOW + 1
    assert ask(world) is Code.NOT_FOUND


@pytest.mark.parametrize(
    "changes",
    [
        {"client": "cards"},
        {"tenant": "bolt"},
        {"revoked": True},
        {"not_after_ms": NOW},
        {"permissions": ("rewrap",)},
        {"version": 2},
        {"key": CARDS},
    ],
)
@pytest.mark.parametrize("start", [bare, lambda *rows: _with(World(), *rows)])
def test_each_part_of_a_grant_can_refuse(start: Callable[..., World], changes: dict[str, Any]) -> None:
    """Both as what allows the operation, and as what opens a compromised version for who may do it anyway."""
    good, bad = start(grant_row()), start(grant_row(**changes))
    for world in (good, bad):
        world.set_state(PAYMENTS, State.COMPROMISED)
    assert isinstance(ask(good), Usable)
    assert ask(bad) in (Code.NOT_FOUND, Code.KEY_STATE)


def _with(world: World, *rows: Rule | Grant) -> World:
    world.put(*rows)
    return world


def test_what_a_grant_opens_rests_on_it() -> None:
    world = _with(World(), grant_row())
    world.set_state(PAYMENTS, State.COMPROMISED)
    found = ask(world)
    assert isinstance(found, Usable)
    assert seen_of(world, grant_row().ref) < set(found.seen)
    assert len(found.seen) == len(set(found.seen))


def test_a_version_above_is_opened_through_its_own_grant_only() -> None:
    world = _with(World(), grant_row(key=PAYMENTS))
    world.set_state(EU, State.COMPROMISED)
    assert ask(world) is Code.KEY_STATE
    world.put(grant_row(2, key=EU))
    found = ask(world)
    assert isinstance(found, Usable)
    assert {seen.ref for seen in found.seen if seen.ref.table == "grants"} == {grant_row(2).ref}


def test_a_grant_above_allows_nothing_by_itself() -> None:
    world = bare(grant_row(key=EU))
    assert ask(world) is Code.NOT_FOUND


@pytest.mark.parametrize("state", [one for one in State if one not in (State.COMPROMISED, State.ACTIVE)])
def test_a_grant_opens_no_other_state(state: State) -> None:
    plain, granted = World(), _with(World(), grant_row())
    for world in (plain, granted):
        world.set_state(PAYMENTS, state)
    with_grant, without = ask(granted), ask(plain)
    assert isinstance(with_grant, Usable) is isinstance(without, Usable)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("use", Use)
def test_a_granted_caller_may_what_any_may_and_use_a_compromised_version_as_an_old_one(state: State, use: Use) -> None:
    more = state is State.COMPROMISED and use is not Use.WRAP
    assert allows(state, use, OnBehalf.GRANTED) is (more or allows(state, use))


def test_nothing_new_comes_under_a_compromised_version() -> None:
    every = tuple(one.value for one in Permission)
    world = _with(World(), grant_row(permissions=every))
    world.set_state(PAYMENTS, State.COMPROMISED)
    for permission in (Permission.WRAP, Permission.REWRAP_TO, Permission.REWRAP):
        assert ask(world, permission) is Code.KEY_STATE
    assert ask(bare(grant_row(permissions=every)), Permission.WRAP) is Code.NOT_FOUND


def test_another_client_is_refused_in_the_same_batch() -> None:
    world = _with(World(), grant_row())
    world.put(replace(world.client("billing"), id="archive"))
    world.set_state(PAYMENTS, State.COMPROMISED)
    chains = world.chains()
    for _ in range(2):
        granted = chains.for_client(world.client("billing"), Permission.UNWRAP, PAYMENTS, 1)
        assert isinstance(granted, Usable)
        assert chains.for_client(world.client("archive"), Permission.UNWRAP, PAYMENTS, 1) is Code.KEY_STATE


def test_rows_are_sorted_by_client_and_id() -> None:
    rules, grants = policy.by_client([rule_row(2), grant_row(), rule_row(1), World().key(PAYMENTS)])
    assert rules == {"billing": (rule_row(1), rule_row(2))}
    assert grants == {"billing": (grant_row(),)}


# In requests.


def outcomes(world: World, operation: Operation, body: Any) -> list[object]:  # noqa: ANN401 - one of three bodies
    return list(world.run(world.request(operation, body)).outcomes)


def test_a_rule_looks_at_the_context_of_each_item() -> None:
    world = bare(rule_row(permissions=("wrap", "unwrap"), context_keys=("table",)))
    items = [WrapItem(context={"table": "a"}), WrapItem(context={"row": "1"}), WrapItem(context={"table": "b"})]
    first, second, third = outcomes(world, Operation.WRAP, WrapBody(key="acme/eu/payments", items=items))
    assert isinstance(first, Wrapped)
    assert second == Failed(Code.NOT_FOUND)
    assert isinstance(third, Wrapped)
    dek = world.stored(1, PAYMENTS)
    body = UnwrapBody(items=[DekItem(id=dek.id), DekItem(id=dek.id, context={"table": "a"})])
    none, some = outcomes(world, Operation.UNWRAP, body)
    assert none == Failed(Code.NOT_FOUND)
    assert some == Failed(Code.UNWRAP_FAILED)  # allowed; the fake HSM's DEKs have no context


def test_a_key_that_is_off_is_told_as_such_for_every_item() -> None:
    world = bare(rule_row(permissions=("wrap",)))
    world.disable(PAYMENTS)
    body = WrapBody(key="acme/eu/payments", items=[WrapItem(), WrapItem()])
    assert outcomes(world, Operation.WRAP, body) == [Failed(Code.KEY_DISABLED)] * 2


@pytest.mark.parametrize(("suite", "allowed"), [(X25519, True), (HYBRID, False)])
def test_the_answers_suite_counts_where_plaintext_goes_back(suite: Suite, *, allowed: bool) -> None:
    world = bare(rule_row(permissions=("wrap",), minimum_suite=suite))
    plain = WrapBody(key="acme/eu/payments", items=[WrapItem()])
    told = WrapBody(key="acme/eu/payments", items=[WrapItem()], return_dek=True)
    assert isinstance(outcomes(world, Operation.WRAP, plain)[0], Wrapped)
    assert isinstance(outcomes(world, Operation.WRAP, told)[0], Wrapped) is allowed


@pytest.mark.parametrize(("suite", "allowed"), [(P256, False), (HYBRID, True)])
def test_the_requests_own_seal_counts_too(suite: Suite, *, allowed: bool) -> None:
    world = bare(rule_row(permissions=("wrap",), minimum_suite=HYBRID))
    world.put(IntakeKey(7, suite, b"p", b"w", NOW, NOW + 1, 1))
    body = WrapBody(key="acme/eu/payments", items=[WrapItem()], sealed=SealedDeks(sequence=7, ciphertext=b"c"))
    (outcome,) = world.run(world.request(Operation.WRAP, body), (b"d" * 32,)).outcomes
    assert isinstance(outcome, Wrapped) is allowed


def test_a_rewrap_shows_no_context_so_a_rule_that_demands_one_does_not_allow_it() -> None:
    world = bare(rule_row(permissions=("rewrap",), context_keys=("table",)))
    dek = world.stored(1, PAYMENTS)
    body = RewrapBody(items=[RewrapItem(id=dek.id)])
    assert outcomes(world, Operation.REWRAP, body) == [Failed(Code.NOT_FOUND)]


def test_s11_a_rewrap_to_another_key_needs_two_permissions_of_rules_as_well() -> None:
    off, on = rule_row(1, permissions=("rewrap-from",)), rule_row(2, permissions=("rewrap-to",))
    there = replace(on, pattern="acme/eu/cards")
    cases = {(off, there): True, (off,): False, (there,): False, (replace(off, pattern="acme/eu/cards"), there): False}
    for rules, allowed in cases.items():
        world = bare(*rules)
        dek = world.stored(1, PAYMENTS)
        body = RewrapBody(items=[RewrapItem(id=dek.id)], to="acme/eu/cards")
        (outcome,) = outcomes(world, Operation.REWRAP, body)
        assert isinstance(outcome, Rewrapped) is allowed, rules
        if not allowed:
            assert outcome == Failed(Code.NOT_FOUND)


def test_rewrap_under_a_compromised_version_goes_to_the_active_one_by_a_grant() -> None:
    world = bare(grant_row(version=1, permissions=("rewrap",)))
    world.rotate(PAYMENTS)
    dek = world.stored(1, PAYMENTS, 1)
    world.set_state(PAYMENTS, State.COMPROMISED, 1)
    request = world.request(Operation.REWRAP, RewrapBody(items=[RewrapItem(id=dek.id)]))
    done = world.run(request)
    (outcome,) = done.outcomes
    assert isinstance(outcome, Rewrapped)
    assert (outcome.version, outcome.id) == (2, dek.id)
    assert seen_of(world, grant_row().ref) < set(done.settlement.seen)


def test_an_unwrap_by_a_rule_and_a_grant_rests_on_both() -> None:
    world = bare(rule_row(), grant_row(key=EU, permissions=("unwrap",)))
    world.set_state(EU, State.COMPROMISED)
    dek = world.stored(1, PAYMENTS)
    done = world.run(world.request(Operation.UNWRAP, UnwrapBody(items=[DekItem(id=dek.id)])))
    assert isinstance(done.outcomes[0], Unwrapped)
    assert seen_of(world, rule_row().ref, grant_row().ref) < set(done.settlement.seen)


def test_plaintext_told_again_needs_the_rule_again() -> None:
    world = bare(rule_row(permissions=("wrap",), context_keys=("table",)))
    item = WrapItem(context={"table": "a"})
    request = world.request(Operation.WRAP, WrapBody(key="acme/eu/payments", items=[item], return_dek=True))
    world.keep(world.run(request))
    assert world.plan(request).ops
    world.put(rule_row(permissions=("wrap",), context_keys=("table",), revoked=True))
    (step,) = world.plan(request).steps
    assert step == Failed(Code.NOT_FOUND)


def test_a_bank_of_keys_is_asked_once_each() -> None:
    """The same use under the same licence is the same answer, so a batch of a thousand items resolves once."""
    world = bare(rule_row())
    chains = world.chains()
    billing = world.client("billing")
    first = chains.for_client(billing, Permission.UNWRAP, PAYMENTS, 1)
    assert chains.for_client(billing, Permission.UNWRAP, PAYMENTS, 1) is first


def test_unknown_versions_stay_unknown() -> None:
    world = _with(World(), grant_row())
    assert ask(world, version=9) is Code.NOT_FOUND
    world.put(replace(world.key(PAYMENTS), latest_version=9))
    assert ask(world, version=9) is Code.INTEGRITY
    assert ask(world, key=uid(99)) is Code.NOT_FOUND
    world.put(version_row(world.key(PAYMENTS), 9, State.DEACTIVATED))
    assert isinstance(ask(world, version=9), Usable)
    assert isinstance(ask(world, key=ROOT), Usable)
