"""The officers' commands on rules of triggers, and the dry run."""

from dataclasses import replace

import pytest

from tests.unit.chain.test_triggers import OLD, ruled, trigger_rule, world
from tests.unit.chain.world import NOW, PAYMENTS, World, seen_of
from worker.chain.approvals import needs_second
from worker.chain.plan import Conclusion
from worker.chain.trigger_commands import rule_view, trigger_paging
from worker.chain.triggers import MOST, rules_page
from worker.chain.work import Commanding
from worker.model.bodies import CommandBody
from worker.model.codes import Code
from worker.model.effects import Announce, PutRow
from worker.model.operations import Operation
from worker.model.outcomes import Commanded, Failed
from worker.model.rows import RowRef, State, Table
from worker.model.triggering import (
    TriggerAddBody,
    TriggerCheckBody,
    TriggerCheckResult,
    TriggerListBody,
    TriggerListResult,
    TriggerRemoveBody,
)
from worker.model.triggers import Occasion, TriggerAction, TriggerRule


def command(where: World, operation: Operation, body: CommandBody, id_: str = "r1") -> Conclusion:
    return where.run(where.request(operation, body, "ann", id_))


def body(**words: object) -> TriggerAddBody:
    return TriggerAddBody.model_validate({"tenant": "acme", "name": "due", "event": "schedule-due"} | words)


def added(where: World, **words: object) -> TriggerRule:
    done = where.approved(where.request(Operation.TRIGGER_ADD, body(**words), "ann"))
    (row,) = [
        effect.row
        for effect in done.settlement.effects
        if isinstance(effect, PutRow) and isinstance(effect.row, TriggerRule)
    ]
    return row


def code(where: World, operation: Operation, asked: CommandBody) -> Code:
    (outcome,) = command(where, operation, asked).outcomes
    assert isinstance(outcome, Failed), outcome
    return outcome.code


def test_two_officers_add_a_rule_and_put_another_in_its_place() -> None:
    where = World()
    row = added(where, pattern="acme/eu/*", items_s=9, hsm_share=5, why="as agreed")
    assert (row.id, row.revision, row.revoked, row.created_ms) == ("acme/due", 1, False, NOW)
    assert (row.pattern, row.action, row.items_s, row.hsm_share) == ("acme/eu/*", TriggerAction.ROTATE, 9, 5)
    assert row.enrolled_by == "ann+ben"
    where.put(replace(row, revoked=True, revision=2))
    step = where.plan(where.request(Operation.TRIGGER_ADD, body(), "ann", "r2")).steps[0]
    assert isinstance(step, Commanding)
    assert needs_second(body(), step)
    assert seen_of(where, row.ref) <= set(step.rests)
    anew = added(where)
    assert (anew.revision, anew.revoked, anew.pattern) == (3, False, "*")


def test_a_rule_may_say_that_what_it_empties_is_destroyed_later() -> None:
    where, week_s = World(), 7 * 24 * 3600
    refused = code(where, Operation.TRIGGER_ADD, body(destroy_after_s=week_s))
    assert refused is Code.RECOVERY_UNKNOWN
    where.limits = replace(where.limits, recoverable_ms=1)
    assert code(where, Operation.TRIGGER_ADD, body(destroy_after_s=1)) is Code.GRACE_REFUSED
    row = added(where, destroy_after_s=week_s)
    assert (row.destroy_after_s, rule_view(row).destroy_after_s) == (week_s, week_s)


@pytest.mark.parametrize(
    "words",
    [
        {"event": "key-age"},
        {"period_s": 5},
        {"action": "emergency"},
        {"event": "parent-rotated"},
        {"event": "key-age", "period_s": 5, "action": "move"},
        {"event": "use-count", "action": "move"},
        {"event": "provider-version", "action": "move"},
    ],
)
def test_what_makes_no_sense_is_refused(words: dict[str, object]) -> None:
    assert code(World(), Operation.TRIGGER_ADD, body(**words)) is Code.MALFORMED


@pytest.mark.parametrize(
    "words",
    [
        {"event": "key-age", "period_s": 5},
        {"event": "member-left", "action": "emergency"},
        {"event": "key-compromised", "action": "emergency"},
        {"event": "parent-rotated", "action": "move"},
        {"event": "l1-rotated", "action": "move"},
        {"event": "use-count"},
        {"event": "provider-version"},
    ],
)
def test_what_makes_sense_is_taken(words: dict[str, object]) -> None:
    assert added(World(), **words).event == words["event"]


def test_a_rule_of_no_tenant_an_edited_one_and_too_many_are_refused() -> None:
    where = World()
    assert code(where, Operation.TRIGGER_ADD, body(tenant="nobody")) is Code.NOT_FOUND
    ref = RowRef(Table.TRIGGER_RULES, "acme/due")
    where.tampered.add(ref)
    assert code(where, Operation.TRIGGER_ADD, body()) is Code.INTEGRITY
    where.tampered.clear()
    where.pages[rules_page("acme")] = (ref,) * MOST
    assert code(where, Operation.TRIGGER_ADD, body()) is Code.TOO_MANY
    where.put(trigger_rule())
    assert added(where).revision == 4  # in the place of one that is there


def test_one_officer_removes_a_rule_and_again_is_no_error() -> None:
    where = world(trigger_rule())
    asked = TriggerRemoveBody(tenant="acme", name="due", why="over")
    done = command(where, Operation.TRIGGER_REMOVE, asked)
    (row,) = [effect.row for effect in done.settlement.effects if isinstance(effect, PutRow)]
    assert row == trigger_rule(revoked=True, revision=4)
    assert [one.type for one in done.settlement.effects if isinstance(one, Announce)] == ["keyriver.trigger.removed.v1"]
    assert done.settlement.changes == (row.ref,)
    where.put(row)
    again = command(where, Operation.TRIGGER_REMOVE, asked, "r2")
    assert not [effect for effect in again.settlement.effects if isinstance(effect, PutRow)]
    assert isinstance(again.outcomes[0], Commanded)


def test_what_is_not_there_or_edited_is_not_removed() -> None:
    where = world(trigger_rule())
    assert code(where, Operation.TRIGGER_REMOVE, TriggerRemoveBody(tenant="acme", name="other")) is Code.NOT_FOUND
    where.tamper(trigger_rule().ref)
    assert code(where, Operation.TRIGGER_REMOVE, TriggerRemoveBody(tenant="acme", name="due")) is Code.INTEGRITY


def listed(where: World, asked: TriggerListBody) -> TriggerListResult:
    (outcome,) = command(where, Operation.TRIGGER_LIST, asked).outcomes
    assert isinstance(outcome, Commanded)
    assert isinstance(outcome.result, TriggerListResult)
    return outcome.result


def test_rules_are_listed_page_by_page() -> None:
    where, asked = world(), TriggerListBody(tenant="acme", limit=1)
    assert listed(where, asked) == TriggerListResult(triggers=[], after="", more=False)
    rules = [trigger_rule("a"), trigger_rule("b", revoked=True)]
    where.put(*rules)
    where.pages[trigger_paging(asked)] = tuple(row.ref for row in rules)
    assert listed(where, asked) == TriggerListResult(
        triggers=[rule_view(rules[0])], after="acme/a", more=True, next_after="acme/a"
    )
    where.tamper(rules[0].ref)
    page = listed(where, asked)
    assert (page.triggers, page.tampered, page.next_after) == ([], ["acme/a"], "acme/a")
    assert code(where, Operation.TRIGGER_LIST, TriggerListBody(tenant="nobody")) is Code.NOT_FOUND


def checked(where: World, event: str = "schedule-due", **words: object) -> TriggerCheckResult:
    asked = TriggerCheckBody.model_validate({"tenant": "acme", "event": event, "key": "acme/eu/payments"} | words)
    done = command(where, Operation.TRIGGER_CHECK, asked)
    assert not [effect for effect in done.settlement.effects if isinstance(effect, PutRow | Announce)]
    assert done.plan.ops == []
    (outcome,) = done.outcomes
    assert isinstance(outcome, Commanded)
    assert isinstance(outcome.result, TriggerCheckResult)
    return outcome.result


def test_the_dry_run_tells_what_would_be() -> None:
    where = world(trigger_rule())
    told = checked(where)
    assert told.rule == rule_view(trigger_rule())
    assert (told.would_rotate, told.begins, told.from_version, told.to_version) == (True, True, 1, 2)
    young = checked(where, occurred_ms=OLD)
    assert (young.would_rotate, young.begins, young.from_version) == (False, False, None)
    assert checked(where, "policy-changed").why == "no rule answers it"
    where.disable(PAYMENTS)
    assert "KEY_DISABLED" in checked(where).why


def test_the_dry_run_of_what_stands_begins_nothing() -> None:
    where = world(trigger_rule(action=TriggerAction.MOVE, event=Occasion.L1_ROTATED))
    where.rotate(PAYMENTS)
    assert checked(where, "l1-rotated").begins
    where.set_state(PAYMENTS, State.DESTROYED)
    assert not checked(where, "l1-rotated").begins


def test_the_dry_run_needs_a_key_and_rules_that_hold() -> None:
    where = world(trigger_rule())
    asked = TriggerCheckBody(tenant="acme", event=Occasion.SCHEDULE_DUE, key="acme/none")
    assert code(where, Operation.TRIGGER_CHECK, asked) is Code.NOT_FOUND
    ruled(where, trigger_rule())
    where.tamper(trigger_rule().ref)
    asked = TriggerCheckBody(tenant="acme", event=Occasion.SCHEDULE_DUE, key="acme/eu")
    assert code(where, Operation.TRIGGER_CHECK, asked) is Code.INTEGRITY
