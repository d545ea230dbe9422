"""The dry run of the policy: the same questions as for the client's own request, and who answered them."""

from dataclasses import replace
from typing import Any

from tests.unit.chain.licensed import bare, grant_row, rule_row
from tests.unit.chain.world import CARDS, NOW, PAYMENTS, World
from worker.model.codes import Code
from worker.model.operations import Operation
from worker.model.outcomes import Commanded, Failed
from worker.model.policies import CheckResult, PolicyCheckBody
from worker.model.rows import State, Suite


def checked(world: World, **words: Any) -> CheckResult:  # noqa: ANN401 - fields of the body
    body: dict[str, Any] = {"tenant": "acme", "client": "billing", "permission": "unwrap", "key": "acme/eu/payments"}
    request = world.request(Operation.POLICY_CHECK, PolicyCheckBody.model_validate(body | words), "ann")
    (outcome,) = world.run(request).outcomes
    assert isinstance(outcome, Commanded), outcome
    assert isinstance(outcome.result, CheckResult)
    return outcome.result


def test_it_says_what_allows() -> None:
    own = checked(World())
    assert (own.allowed, own.rule, own.grant, own.key, own.version) == (True, None, None, PAYMENTS, 1)
    by_rule = checked(bare(rule_row()))
    assert by_rule.allowed
    assert by_rule.rule is not None
    assert by_rule.rule.id == rule_row().id
    by_grant = checked(bare(grant_row()))
    assert by_grant.grant is not None
    assert by_grant.grant.id == grant_row().id


def test_it_says_why_not() -> None:
    none = checked(bare())
    assert (none.allowed, none.code) == (False, Code.NOT_FOUND)
    assert "rule" in none.why
    world = World()
    world.disable(PAYMENTS)
    off = checked(world)
    assert (off.allowed, off.code, off.why) == (False, Code.KEY_DISABLED, "")
    for over in ({"revoked": True}, {"not_after_ms": NOW}):
        world = World()
        world.put(replace(world.client("billing"), **over))
        gone = checked(world)
        assert (gone.allowed, gone.code) == (False, Code.NOT_FOUND)
        assert "sign" in gone.why


def test_it_shows_what_the_item_would_show() -> None:
    world = bare(rule_row(permissions=("wrap", "unwrap"), context_keys=("table",), minimum_suite=Suite.MLKEM768_X25519))
    strong = Suite.MLKEM768_X25519
    assert checked(world, context_keys=["table", "row"]).allowed  # no recipient key registered, none named
    assert checked(world, context_keys=["table"], suite=strong).allowed
    assert not checked(world, context_keys=["table"], suite=Suite.X25519).allowed
    assert not checked(world, context_keys=["row"], suite=strong).allowed
    world.put(replace(world.client("billing"), recipient_suite=Suite.P256))
    assert not checked(world, context_keys=["table"]).allowed
    assert checked(world, context_keys=["table"], suite=strong).allowed


def test_a_rewrap_is_checked_at_both_ends() -> None:
    world = World()
    world.rotate(PAYMENTS)
    assert checked(world, permission="rewrap", version=1).allowed
    world.set_state(PAYMENTS, State.SUSPENDED, 2)
    refused = checked(world, permission="rewrap", version=1)
    assert (refused.allowed, refused.code, refused.version) == (False, Code.KEY_STATE, 2)
    world.set_state(PAYMENTS, State.ACTIVE, 2)
    world.set_state(PAYMENTS, State.COMPROMISED, 1)
    assert checked(world, permission="rewrap", version=1).code is Code.KEY_STATE
    assert checked(world, permission="rewrap-from", version=1).code is Code.KEY_STATE
    world.put(grant_row(permissions=("rewrap",)))
    granted = checked(world, permission="rewrap", version=1)
    assert granted.allowed
    assert checked(bare(rule_row(permissions=("rewrap",), context_keys=("t",))), permission="rewrap").code is (
        Code.NOT_FOUND
    )


def test_a_report_of_an_occasion_is_allowed_in_any_state() -> None:
    world = bare(rule_row(permissions=("trigger",)))
    world.set_state(PAYMENTS, State.COMPROMISED)
    told = checked(world, permission="trigger")
    assert told.allowed
    assert told.rule is not None
    assert checked(bare(), permission="trigger").code is Code.NOT_FOUND
    world = bare()
    world.distrusted.add("billing")
    assert checked(world, permission="trigger").code is Code.INTEGRITY


def test_what_there_is_not_can_not_be_checked() -> None:
    world = World()
    base: dict[str, Any] = {"tenant": "acme", "client": "billing", "permission": "unwrap", "key": "acme/eu/payments"}
    for words in ({"client": "nobody"}, {"client": "ledger"}, {"key": "acme/eu/nothing"}, {"key": str(CARDS) + "0"}):
        body = PolicyCheckBody.model_validate(base | words)
        assert world.plan(world.request(Operation.POLICY_CHECK, body, "ann")).steps == (Failed(Code.NOT_FOUND),)
    officer = checked(world, tenant="acme")
    assert officer.allowed


def test_an_officer_uses_no_keys() -> None:
    world = World()
    world.put(replace(world.client("ben"), tenant="acme"))
    told = checked(world, client="ben")
    assert (told.allowed, told.code) == (False, Code.NOT_FOUND)
