"""Commands on version states: every pair of state and operation has its outcome, and none is left to chance."""

import json
from dataclasses import replace

import pytest

from tests.unit.chain.world import EU, NOW, PAYMENTS, ROOT, World, key_ref, version_ref
from worker.chain.plan import Conclusion, Limits
from worker.chain.work import Commanding
from worker.model.bodies import AnyBody, KeyCreateBody, KeyRotateBody
from worker.model.codes import Code
from worker.model.control import (
    KeyActivateBody,
    KeyCancelDestroyBody,
    KeyCompromiseBody,
    KeyDeactivateBody,
    KeyDestroyBody,
    KeyResumeBody,
    KeySuspendBody,
)
from worker.model.effects import Announce, Leaf, PutRow
from worker.model.facts import Needs
from worker.model.fields import Reason
from worker.model.operations import Operation
from worker.model.outcomes import Commanded, Failed
from worker.model.replies import ApprovalResult, DestroyResult
from worker.model.rows import Row, State, Version

NAME = "acme/eu/payments"
DAY_MS = 24 * 3_600_000
OPERATIONS: dict[type[AnyBody], Operation] = {
    KeyCreateBody: Operation.KEY_CREATE,
    KeyRotateBody: Operation.KEY_ROTATE,
    KeyActivateBody: Operation.KEY_ACTIVATE,
    KeySuspendBody: Operation.KEY_SUSPEND,
    KeyResumeBody: Operation.KEY_RESUME,
    KeyDeactivateBody: Operation.KEY_DEACTIVATE,
    KeyCompromiseBody: Operation.KEY_COMPROMISE,
    KeyDestroyBody: Operation.KEY_DESTROY,
    KeyCancelDestroyBody: Operation.KEY_CANCEL_DESTROY,
}
KEEPS = "keeps"
NO = "refused"
PAIRS: dict[type[AnyBody], dict[State, str]] = {
    KeyActivateBody: {State.PRE_ACTIVE: "active"},
    KeySuspendBody: {State.ACTIVE: "suspended", State.SUSPENDED: KEEPS},
    KeyResumeBody: {State.SUSPENDED: "active"},
    KeyDeactivateBody: {State.ACTIVE: "deactivated", State.SUSPENDED: "deactivated", State.DEACTIVATED: KEEPS},
    KeyCompromiseBody: {
        State.PRE_ACTIVE: "compromised",
        State.ACTIVE: "compromised",
        State.SUSPENDED: "compromised",
        State.DEACTIVATED: "compromised",
        State.COMPROMISED: KEEPS,
    },
    KeyDestroyBody: {
        State.PRE_ACTIVE: "destroy-scheduled",
        State.DEACTIVATED: "destroy-scheduled",
        State.COMPROMISED: "destroy-scheduled",
    },
    KeyCancelDestroyBody: {State.DESTROY_SCHEDULED: "compromised"},
}


def world() -> World:
    return World(limits=Limits(recoverable_ms=90 * DAY_MS))


def body(kind: type[AnyBody], **more: object) -> AnyBody:
    words: dict[str, object] = {"tenant": "acme", "key": NAME, "version": 1, "why": "a test"}
    return kind.model_validate(words | more)


def run(where: World, asked: AnyBody) -> Conclusion:
    """Carried out, with the second officer's approval where it needs one."""
    request = where.request(OPERATIONS[type(asked)], asked, "ann")
    (step,) = where.plan(request).steps
    waits = isinstance(step, Commanding) and step.event == "keyriver.approval.requested.v1"
    return where.approved(request) if waits else where.run(request)


def code(where: World, asked: AnyBody) -> Code:
    (outcome,) = run(where, asked).outcomes
    assert isinstance(outcome, Failed), outcome
    return outcome.code


def puts(concluded: Conclusion) -> list[Row]:
    return [effect.row for effect in concluded.settlement.effects if isinstance(effect, PutRow)]


def versions(concluded: Conclusion) -> dict[int, State]:
    return {row.number: row.state for row in puts(concluded) if isinstance(row, Version)}


def events(concluded: Conclusion) -> list[str]:
    found = [effect.type for effect in concluded.settlement.effects if isinstance(effect, Announce)]
    return [type_.removeprefix("keyriver.").removesuffix(".v1") for type_ in found]


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("state", State)
def test_every_state_and_operation(kind: type[AnyBody], state: State) -> None:
    where = world()
    where.put(replace(where.version(PAYMENTS), state=state, prior=State.COMPROMISED))
    expected = PAIRS[kind].get(state, NO)
    if expected == NO:
        assert code(where, body(kind)) is Code.KEY_STATE
        return
    concluded = run(where, body(kind))
    (outcome,) = concluded.outcomes
    assert isinstance(outcome, Commanded)
    if expected == KEEPS:
        assert (puts(concluded), events(concluded)) == ([], [])
        return
    assert versions(concluded) == {1: State(expected)}
    assert version_ref(PAYMENTS) in concluded.settlement.changes
    assert "hint" in events(concluded)


def test_a_transition_says_who_why_and_at_which_revision() -> None:
    concluded = run(world(), body(KeySuspendBody))
    event, hint = [effect for effect in concluded.settlement.effects if isinstance(effect, Announce)]
    told = json.loads(event.body)
    assert (event.type, told["who"], told["why"], told["revision"]) == ("keyriver.key.suspended.v1", "ann", "a test", 2)
    assert (told["was"], told["now"], told["request"], told["correlation"]) == ("active", "suspended", "r1", "r1")
    assert json.loads(hint.body) == {"keys": [str(PAYMENTS)]}
    (leaf,) = [json.loads(effect.body) for effect in concluded.settlement.effects if isinstance(effect, Leaf)]
    assert (leaf["told"], leaf["key"], leaf["version"]) == (told, str(PAYMENTS), 1)


def rotated(where: World, *, pre_active: bool = False, reason: Reason = Reason.OPERATOR, key: str = NAME) -> Conclusion:
    concluded = run(where, KeyRotateBody(tenant="acme", key=key, pre_active=pre_active, reason=reason))
    where.put(*puts(concluded))
    return concluded


@pytest.mark.parametrize("reason", Reason)
def test_only_the_emergency_compromises_the_version_before(reason: Reason) -> None:
    concluded = rotated(world(), reason=reason)
    before = State.COMPROMISED if reason is Reason.COMPROMISE else State.DEACTIVATED
    assert versions(concluded) == {1: before, 2: State.ACTIVE}
    assert events(concluded) == ["key.rotated", f"key.{before}", "hint"]
    told = json.loads([effect for effect in concluded.settlement.effects if isinstance(effect, Announce)][1].body)
    assert told["reason"] == reason


def test_an_emergency_is_not_prepared() -> None:
    asked = KeyRotateBody(tenant="acme", key=NAME, pre_active=True, reason=Reason.COMPROMISE)
    assert code(world(), asked) is Code.MALFORMED


def test_a_prepared_version_changes_nothing_until_it_is_activated() -> None:
    where = world()
    assert versions(rotated(where, pre_active=True)) == {2: State.PRE_ACTIVE}
    assert where.key(PAYMENTS).active_version == 1
    concluded = run(where, body(KeyActivateBody, version=None))
    assert versions(concluded) == {1: State.DEACTIVATED, 2: State.ACTIVE}
    assert events(concluded) == ["key.activated", "key.deactivated", "hint"]
    assert set(concluded.settlement.changes) == {key_ref(PAYMENTS), version_ref(PAYMENTS), version_ref(PAYMENTS, 2)}


def test_a_compromised_version_stays_so_when_the_next_is_activated() -> None:
    where = world()
    rotated(where, pre_active=True)
    where.set_state(PAYMENTS, State.COMPROMISED)
    assert versions(run(where, body(KeyActivateBody, version=2))) == {2: State.ACTIVE}


def test_an_activation_at_a_time_waits() -> None:
    where = world()
    rotated(where, pre_active=True)
    concluded = run(where, body(KeyActivateBody, version=2, at_ms=NOW + 5))
    (row,) = puts(concluded)
    assert isinstance(row, Version)
    assert (row.state, row.due_ms, events(concluded)[0]) == (State.PRE_ACTIVE, NOW + 5, "key.activation.scheduled")
    assert versions(run(where, body(KeyActivateBody, version=2, at_ms=NOW)))[2] is State.ACTIVE


def test_an_older_version_is_never_activated() -> None:
    where = world()
    rotated(where, pre_active=True)
    rotated(where)
    assert code(where, body(KeyActivateBody, version=2)) is Code.KEY_STATE


def test_a_suspended_version_that_is_not_the_active_one_is_not_resumed() -> None:
    where = world()
    rotated(where)
    where.set_state(PAYMENTS, State.SUSPENDED)
    assert code(where, body(KeyResumeBody)) is Code.KEY_STATE


def test_what_is_lost_is_an_integrity_error() -> None:
    where = world()
    rotated(where, pre_active=True)
    del where.rows[version_ref(PAYMENTS)]
    assert code(where, body(KeyActivateBody, version=2)) is Code.INTEGRITY
    assert code(where, KeyRotateBody(tenant="acme", key=NAME)) is Code.INTEGRITY
    assert code(where, body(KeySuspendBody)) is Code.NOT_FOUND
    where.tampered.add(version_ref(PAYMENTS))
    assert code(where, body(KeySuspendBody)) is Code.INTEGRITY


@pytest.mark.parametrize("kind", PAIRS)
def test_another_tenants_key_is_not_found(kind: type[AnyBody]) -> None:
    assert code(world(), body(kind, key="bolt/eu/ledger")) is Code.NOT_FOUND


def test_a_layer_1_key_rotates_under_its_tenant() -> None:
    where = world()
    where.disable(ROOT)
    assert code(where, KeyRotateBody(tenant="acme", key="acme")) is Code.KEY_DISABLED
    where.put(replace(where.key(ROOT), enabled=True))
    tenant = where.tenant()
    where.put(replace(tenant, enabled=False))
    assert code(where, KeyRotateBody(tenant="acme", key="acme")) is Code.KEY_DISABLED
    del where.rows[tenant.ref]
    assert code(where, KeyRotateBody(tenant="acme", key="acme")) is Code.INTEGRITY
    del where.rows[key_ref(EU)]
    assert code(where, KeyRotateBody(tenant="acme", key=NAME)) is Code.INTEGRITY


def test_a_key_may_begin_pre_active() -> None:
    asked = KeyCreateBody(tenant="acme", parent="acme/eu", alias="acme/eu/new", pre_active=True)
    assert versions(run(world(), asked)) == {1: State.PRE_ACTIVE}


# Destruction.


def retired() -> World:
    where = world()
    where.set_state(PAYMENTS, State.DEACTIVATED)
    return where


def destroyed(where: World, **more: object) -> tuple[Version, DestroyResult]:
    concluded = run(where, body(KeyDestroyBody, **more))
    (row,) = [row for row in puts(concluded) if isinstance(row, Version)]
    (outcome,) = concluded.outcomes
    assert isinstance(outcome, Commanded)
    assert isinstance(outcome.result, ApprovalResult)
    assert isinstance(outcome.result.result, DestroyResult)
    return row, outcome.result.result


def test_a_destruction_says_when_and_until_when_it_could_come_back() -> None:
    row, result = destroyed(retired())
    due = NOW + 7 * DAY_MS
    assert (row.due_ms, row.prior, row.forced) == (due, State.DEACTIVATED, False)
    assert (result.destruction.due_ms, result.destruction.recoverable_until_ms) == (due, due + 90 * DAY_MS)


@pytest.mark.parametrize("needs", [Needs(deks=1), Needs(issued_outside=1), Needs(children=1)])
def test_nothing_goes_while_something_needs_it_unless_forced_by_name(needs: Needs) -> None:
    where = retired()
    where.needs = {(PAYMENTS, 1): needs}
    assert code(where, body(KeyDestroyBody)) is Code.STILL_NEEDED
    assert code(where, body(KeyDestroyBody, force="acme/eu")) is Code.STILL_NEEDED
    row, result = destroyed(where, force=NAME)
    assert row.forced
    found = result.destruction
    assert (found.deks, found.issued_outside, found.children) == (needs.deks, needs.issued_outside, needs.children)


def test_nothing_goes_when_nobody_asked_what_needs_it() -> None:
    where = retired()
    where.needs = None
    assert code(where, body(KeyDestroyBody)) is Code.INTEGRITY
    assert code(where, body(KeyDestroyBody, force=NAME)) is Code.INTEGRITY


@pytest.mark.parametrize(("days", "is_allowed"), [(6, False), (7, True), (30, True), (31, False)])
def test_the_grace_has_bounds(days: int, is_allowed: bool) -> None:
    asked = body(KeyDestroyBody, grace_s=days * 24 * 3600)
    if is_allowed:
        assert versions(run(retired(), asked)) == {1: State.DESTROY_SCHEDULED}
    else:
        assert code(retired(), asked) is Code.GRACE_REFUSED


def test_without_a_word_on_backups_nothing_is_destroyed() -> None:
    where = retired()
    where.limits = Limits()
    assert code(where, body(KeyDestroyBody)) is Code.RECOVERY_UNKNOWN


def test_a_schedule_without_a_state_to_go_back_to_is_not_cancelled() -> None:
    where = world()
    where.set_state(PAYMENTS, State.DESTROY_SCHEDULED)
    assert code(where, body(KeyCancelDestroyBody)) is Code.KEY_STATE


def test_an_unknown_version_is_not_found() -> None:
    assert code(world(), body(KeySuspendBody, version=9)) is Code.NOT_FOUND
    assert code(world(), body(KeyDestroyBody, version=9)) is Code.NOT_FOUND
