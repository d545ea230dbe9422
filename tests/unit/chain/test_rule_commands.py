"""Officers' commands on rules and grants: who is asked for, what is written, and what each refusal is."""

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.chain.licensed import grant_row, rule_row
from tests.unit.chain.world import NOW, PAYMENTS, World, seen_of, uid
from worker.chain.approvals import digest
from worker.chain.plan import Conclusion
from worker.chain.rules import MOST, licence_paging
from worker.model.bodies import AnyBody
from worker.model.codes import Code
from worker.model.control import ApprovalApproveBody
from worker.model.effects import Announce, PutRow
from worker.model.facts import RowPage
from worker.model.operations import Operation, Permission
from worker.model.outcomes import Commanded, Failed
from worker.model.policies import (
    GrantGiveBody,
    GrantListBody,
    GrantListResult,
    GrantResult,
    GrantRevokeBody,
    PolicyAllowBody,
    PolicyChange,
    PolicyCheckBody,
    PolicyListBody,
    PolicyRevokeBody,
    RuleListResult,
    RuleResult,
)
from worker.model.replies import ApprovalResult, CommandResult, PendingResult
from worker.model.rows import Approval, ApprovalState, Grant, Row, Rule, Suite, Table

OPERATIONS: dict[type[AnyBody], Operation] = {
    PolicyAllowBody: Operation.POLICY_ALLOW,
    PolicyRevokeBody: Operation.POLICY_REVOKE,
    PolicyListBody: Operation.POLICY_LIST,
    PolicyCheckBody: Operation.POLICY_CHECK,
    GrantGiveBody: Operation.GRANT_GIVE,
    GrantRevokeBody: Operation.GRANT_REVOKE,
    GrantListBody: Operation.GRANT_LIST,
}
ALLOW = PolicyAllowBody(
    tenant="acme",
    client="billing",
    permissions=[Permission.UNWRAP, Permission.WRAP, Permission.UNWRAP],
    pattern="acme/eu/*",
    region="eu",
    not_after_ms=NOW + 9,
    context_keys=["table", "table", "row"],
    minimum_suite=Suite.X25519,
    why="a report",
)
GIVE = GrantGiveBody(
    tenant="acme",
    client="billing",
    key="acme/eu/payments",
    permissions=[Permission.REWRAP, Permission.REWRAP],
    for_s=60,
    why="incident 17",
)


def ask(world: World, body: AnyBody, *, approved: bool = False) -> Conclusion:
    request = world.request(OPERATIONS[type(body)], body, "ann")
    return world.approved(request) if approved else world.run(request)


def code(world: World, body: AnyBody) -> Code:
    (step,) = world.plan(world.request(OPERATIONS[type(body)], body, "ann")).steps
    assert isinstance(step, Failed), step
    return step.code


def written(done: Conclusion) -> list[Row]:
    return [effect.row for effect in done.settlement.effects if isinstance(effect, PutRow)]


def result(done: Conclusion) -> CommandResult:
    (outcome,) = done.outcomes
    assert isinstance(outcome, Commanded), outcome
    told = outcome.result
    return told.result if isinstance(told, ApprovalResult) and told.result is not None else told


def change(done: Conclusion, type_: str) -> PolicyChange:
    (body,) = [
        effect.body for effect in done.settlement.effects if isinstance(effect, Announce) and effect.type == type_
    ]
    return PolicyChange.model_validate_json(body)


def allow(**changes: Any) -> PolicyAllowBody:  # noqa: ANN401 - fields of the body
    return PolicyAllowBody.model_validate(ALLOW.model_dump() | changes)


def give(**changes: Any) -> GrantGiveBody:  # noqa: ANN401 - fields of the body
    return GrantGiveBody.model_validate(GIVE.model_dump() | changes)


def test_a_rule_is_added_by_two_officers() -> None:
    world = World()
    done = ask(world, ALLOW, approved=True)
    (rule,) = [row for row in written(done) if isinstance(row, Rule)]
    assert rule == Rule(
        id=rule.id,
        tenant="acme",
        client="billing",
        permissions=("unwrap", "wrap"),
        pattern="acme/eu/*",
        region="eu",
        not_after_ms=NOW + 9,
        context_keys=("table", "row"),
        minimum_suite=Suite.X25519,
        why="a report",
        enrolled_by="ann+ben",
        created_ms=NOW,
        revoked=False,
        revision=1,
    )
    told = result(done)
    assert isinstance(told, RuleResult)
    assert told.rule.id == rule.id
    said = change(done, "keyriver.rule.added.v1")
    assert (said.who, said.approved_by, said.why, said.revision) == ("ann", "ben", "a report", 1)
    assert said.rule == told.rule
    assert seen_of(world, world.client("billing").ref) < set(done.settlement.seen)


@pytest.mark.parametrize("body", [ALLOW, GIVE])
def test_one_officer_alone_adds_nothing(body: AnyBody) -> None:
    done = ask(World(), body)
    assert isinstance(result(done), PendingResult)
    assert [type(row) for row in written(done)] == [Approval]


def test_the_officer_who_asked_does_not_approve() -> None:
    world = World()
    (row,) = written(ask(world, ALLOW))
    assert isinstance(row, Approval)
    world.put(row)
    body = ApprovalApproveBody(tenant="acme", approval=row.id, digest=digest(row))
    (step,) = world.plan(world.request(Operation.APPROVAL_APPROVE, body, "ann")).steps
    assert step == Failed(Code.SECOND_OFFICER)


@pytest.mark.parametrize(("body", "kinds"), [(ALLOW, {Approval}), (GIVE, {Approval})])
def test_a_client_that_changed_meanwhile_voids_it(body: AnyBody, kinds: set[type]) -> None:
    world = World()
    (row,) = written(ask(world, body))
    assert isinstance(row, Approval)
    world.put(row, replace(world.client("billing"), revision=2))
    approve = ApprovalApproveBody(tenant="acme", approval=row.id, digest=digest(row))
    done = world.run(world.request(Operation.APPROVAL_APPROVE, approve, "ben"))
    assert {type(one) for one in written(done)} == kinds
    (voided,) = written(done)
    assert isinstance(voided, Approval)
    assert voided.state is ApprovalState.VOIDED


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"client": "nobody"}, Code.NOT_FOUND),
        ({"client": "ledger"}, Code.NOT_FOUND),  # bolt's
        ({"client": "ann"}, Code.NOT_FOUND),
        ({"tenant": "fleet", "client": "ann"}, Code.NOT_FOUND),  # officers have no rules
    ],
)
def test_only_a_service_of_the_tenant_gets_something(changes: dict[str, Any], expected: Code) -> None:
    assert code(World(), allow(**changes)) is expected
    assert code(World(), give(**changes)) is expected


def test_a_client_that_is_gone_gets_nothing_more() -> None:
    for over in ({"revoked": True}, {"not_after_ms": NOW}):
        world = World()
        world.put(replace(world.client("billing"), **over))
        assert code(world, ALLOW) is code(world, GIVE) is Code.CONFLICT
    world = World()
    world.tamper(world.client("billing").ref)
    assert code(world, ALLOW) is code(world, GIVE) is Code.INTEGRITY


def test_a_rule_that_is_over_already_is_none() -> None:
    assert code(World(), allow(not_after_ms=NOW)) is Code.MALFORMED


def test_a_client_has_a_hundred_of_each_in_force_at_most() -> None:
    world = World()
    over = [rule_row(1000, revoked=True), rule_row(1001, not_after_ms=NOW), rule_row(1002, client="cards")]
    world.put(*[rule_row(number) for number in range(MOST - 1)], *over)
    assert isinstance(result(ask(world, ALLOW)), PendingResult)
    world.put(rule_row(MOST))
    assert code(world, ALLOW) is Code.TOO_MANY
    assert isinstance(result(ask(world, GIVE)), PendingResult)
    world.put(*[grant_row(number) for number in range(MOST)])
    assert code(world, GIVE) is Code.TOO_MANY


def test_a_grant_begins_when_it_is_given_not_when_it_is_asked_for() -> None:
    world = World()
    world.now_ms = NOW + 5000
    done = ask(world, give(version=1), approved=True)
    (grant,) = [row for row in written(done) if isinstance(row, Grant)]
    assert grant == Grant(
        id=grant.id,
        tenant="acme",
        client="billing",
        key=PAYMENTS,
        version=1,
        permissions=("rewrap",),
        why="incident 17",
        given_by="ann+ben",
        given_ms=NOW + 5000,
        not_after_ms=NOW + 65_000,
        revoked=False,
        revision=1,
    )
    told = result(done)
    assert isinstance(told, GrantResult)
    assert told.grant.version == 1
    said = change(done, "keyriver.grant.given.v1")
    assert (said.who, said.approved_by, said.why, said.grant) == ("ann", "ben", "incident 17", told.grant)
    assert seen_of(world, world.client("billing").ref, world.key(PAYMENTS).ref) < set(done.settlement.seen)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"key": "acme/eu/nothing"}, Code.NOT_FOUND),
        ({"key": "bolt/eu/ledger"}, Code.NOT_FOUND),
        ({"version": 2}, Code.NOT_FOUND),
        ({"permissions": ["wrap"]}, Code.MALFORMED),
        ({"permissions": ["unwrap", "rewrap-to"]}, Code.MALFORMED),
    ],
)
def test_what_no_grant_is_given_for(changes: dict[str, Any], expected: Code) -> None:
    assert code(World(), give(**changes)) is expected


# Taking back.


def test_one_officer_takes_a_rule_or_a_grant_back() -> None:
    cases: list[tuple[Rule | Grant, AnyBody, str]] = [
        (rule_row(), PolicyRevokeBody(tenant="acme", rule=rule_row().id, why="over"), "keyriver.rule.revoked.v1"),
        (grant_row(), GrantRevokeBody(tenant="acme", grant=grant_row().id, why="over"), "keyriver.grant.revoked.v1"),
    ]
    for row, body, event in cases:
        world = World()
        world.put(row)
        done = ask(world, body)
        assert written(done) == [replace(row, revoked=True, revision=2)]
        assert done.settlement.changes == (row.ref,)
        said = change(done, event)
        assert (said.who, said.approved_by, said.why, said.revision) == ("ann", None, "over", 2)
        world.put(*written(done))
        again = ask(world, body)
        assert written(again) == []
        assert result(again) == result(done)


def test_what_is_not_the_tenants_is_not_found() -> None:
    world = World()
    world.put(rule_row(), grant_row())
    for tenant, id_ in (("bolt", rule_row().id), ("acme", uid(1))):
        assert code(world, PolicyRevokeBody(tenant=tenant, rule=id_)) is Code.NOT_FOUND
    assert code(world, GrantRevokeBody(tenant="bolt", grant=grant_row().id)) is Code.NOT_FOUND
    world.tamper(rule_row().ref)
    assert code(world, PolicyRevokeBody(tenant="acme", rule=rule_row().id)) is Code.INTEGRITY


# Lists.


def test_lists_show_a_page_and_where_the_next_begins() -> None:
    world = World()
    rules = [rule_row(1), rule_row(2, client="cards"), rule_row(3)]
    grants = [grant_row(1), grant_row(2, client="cards", version=2)]
    world.put(*rules, *grants)
    asked = PolicyListBody(tenant="acme", limit=2)
    world.pages[licence_paging(asked)] = tuple(one.ref for one in rules)
    page = result(ask(world, asked))
    assert isinstance(page, RuleListResult)
    assert ([one.id for one in page.rules], page.after, page.more) == ([rules[0].id, rules[1].id], rules[1].id, True)
    only = PolicyListBody(tenant="acme", limit=2, client="billing")
    page = result(ask(world, only))
    assert isinstance(page, RuleListResult)
    assert ([one.id for one in page.rules], page.after, page.more) == ([rules[0].id], rules[1].id, True)
    listed = GrantListBody(tenant="acme")
    world.pages[licence_paging(listed)] = tuple(one.ref for one in grants)
    told = result(ask(world, listed))
    assert isinstance(told, GrantListResult)
    assert [(one.id, one.version) for one in told.grants] == [(grants[0].id, None), (grants[1].id, 2)]
    assert not told.more
    assert code(world, PolicyListBody(tenant="nobody")) is Code.NOT_FOUND


def test_an_empty_page_has_no_end() -> None:
    page = result(ask(World(), PolicyListBody(tenant="acme", after=uid(1))))
    assert isinstance(page, RuleListResult)
    assert (page.rules, page.after, page.more) == ([], None, False)
    assert licence_paging(PolicyListBody(tenant="acme", after=uid(1), limit=5)) == RowPage(
        Table.RULES, "acme", str(uid(1)), 6
    )
