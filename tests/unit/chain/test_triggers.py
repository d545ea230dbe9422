"""Reports of occasions: who may send them, which rule answers, what it starts, and that it starts once."""

import json
from dataclasses import replace

from tests.unit.chain.world import EU, NOW, PAYMENTS, ROOT, World, key_ref, uid, version_ref
from worker.chain.campaigns import campaign_id, campaign_ref
from worker.chain.plan import Conclusion
from worker.chain.triggers import FIRED, rules_page
from worker.model.campaigns import Campaign, CampaignKind, CampaignState
from worker.model.codes import Code
from worker.model.effects import Announce, Leaf, PutRow, Seen
from worker.model.facts import Needs
from worker.model.operations import Operation, Permission
from worker.model.outcomes import Commanded, Failed
from worker.model.rows import Origin, Row, RowRef, Rule, State, Table, Version
from worker.model.triggering import TriggerBody, TriggerResult
from worker.model.triggers import Occasion, TriggerAction, TriggerEvent, TriggerRule

WHEN = NOW - 10
OLD = NOW - 1000


def trigger_rule(name: str = "due", tenant: str = "acme", **more: object) -> TriggerRule:
    row = TriggerRule(
        id=f"{tenant}/{name}",
        tenant=tenant,
        event=Occasion.SCHEDULE_DUE,
        pattern="acme/*",
        action=TriggerAction.ROTATE,
        period_s=0,
        items_s=7,
        hsm_share=50,
        why="",
        enrolled_by="ann+ben",
        created_ms=OLD,
        revoked=False,
        revision=3,
    )
    return replace(row, **more)  # type: ignore[arg-type]


def world(*rules: TriggerRule) -> World:
    """Keys made long before the occasion, a service that may report, and these rules."""
    made = World()
    for key in (ROOT, EU, PAYMENTS):
        made.put(replace(made.version(key), created_ms=OLD))
    made.put(replace(made.client("billing"), permissions=("trigger",)))
    ruled(made, *rules)
    return made


def ruled(where: World, *rules: TriggerRule) -> None:
    where.put(*rules)
    where.pages[rules_page("acme")] = tuple(row.ref for row in rules)


def report(where: World, key: str = "acme/eu/payments", id_: str = "r1", **more: object) -> Conclusion:
    words = {"event": TriggerEvent.SCHEDULE_DUE, "key": key, "occurred_ms": WHEN, "why": "as agreed"} | more
    return where.run(where.request(Operation.TRIGGER, TriggerBody.model_validate(words), id_=id_))


def rows(done: Conclusion) -> list[Row]:
    return [effect.row for effect in done.settlement.effects if isinstance(effect, PutRow)]


def types(done: Conclusion) -> list[str]:
    return [effect.type for effect in done.settlement.effects if isinstance(effect, Announce)]


def result(done: Conclusion) -> TriggerResult:
    (outcome,) = done.outcomes
    assert isinstance(outcome, Commanded), outcome
    assert isinstance(outcome.result, TriggerResult)
    return outcome.result


def failed(done: Conclusion) -> tuple[Code, str]:
    (outcome,) = done.outcomes
    assert isinstance(outcome, Failed), outcome
    assert not rows(done)
    return outcome.code, outcome.why


def campaign(done: Conclusion) -> Campaign:
    (row,) = [row for row in rows(done) if isinstance(row, Campaign)]
    return row


def kept(where: World, done: Conclusion) -> None:
    """The rows as they stand after it."""
    where.put(*rows(done))
    where.now_ms += 5


def test_a_report_rotates_and_starts_the_campaign_in_one_settlement() -> None:
    where = world(trigger_rule(destroy_after_s=9))
    where.needs = {(PAYMENTS, 1): Needs(deks=12)}
    done = report(where)
    made = campaign(done)
    assert made.destroy_after_s == 9
    assert (made.from_version, made.to_version, made.state, made.kind) == (
        1,
        2,
        CampaignState.RUNNING,
        CampaignKind.SHALLOW,
    )
    assert (made.items, made.items_s, made.hsm_share, made.asked_by, made.why) == (12, 7, 50, "billing", "as agreed")
    assert (made.revision, made.round, made.compromised) == (1, 1, False)
    states = {row.number: row.state for row in rows(done) if isinstance(row, Version)}
    assert states == {1: State.DEACTIVATED, 2: State.ACTIVE}
    assert types(done)[:4] == [
        FIRED,
        "keyriver.key.rotated.v1",
        "keyriver.key.deactivated.v1",
        "keyriver.campaign.started.v1",
    ]
    assert result(done).rotated
    assert (result(done).fired, result(done).version) == ("due", 2)
    seen = done.settlement.seen
    assert {Seen(RowRef(Table.TRIGGER_RULES, "acme/due"), 3), Seen(key_ref(PAYMENTS), 1)} <= set(seen)
    assert version_ref(PAYMENTS) in done.settlement.changes
    (leaf,) = [json.loads(effect.body) for effect in done.settlement.effects if isinstance(effect, Leaf)]
    assert (leaf["tenant"], leaf["told"]["event"], leaf["told"]["who"]) == ("acme", "schedule-due", "billing")


def test_the_same_report_again_tells_the_same_campaign() -> None:
    where = world(trigger_rule())
    first = report(where)
    kept(where, first)
    again = report(where, id_="r2")
    assert not rows(again)
    assert not types(again)
    assert (result(again).rotated, result(again).version) == (False, 2)
    told = result(again).campaign
    assert told is not None
    assert told.id == campaign(first).id
    kept(where, report(where, id_="r3", occurred_ms=NOW + 1))  # another event
    late = result(report(where, id_="r4"))
    assert (late.rotated, late.version, late.campaign and late.campaign.id) == (False, 3, told.id)


def test_a_key_that_is_younger_than_the_event_has_nothing_to_move() -> None:
    where = world(trigger_rule())
    where.put(replace(where.version(PAYMENTS), created_ms=WHEN))
    done = report(where)
    assert not rows(done)
    assert (result(done).rotated, result(done).campaign) == (False, None)


def test_after_an_officers_rotation_the_campaign_is_still_started() -> None:
    where = world(trigger_rule())
    where.rotate(PAYMENTS)  # made NOW
    done = report(where)
    assert [type(row) for row in rows(done)] == [Campaign]
    assert campaign(done).id == campaign_id(PAYMENTS, 1, 2)
    assert not result(done).rotated
    assert types(done) == [FIRED, "keyriver.campaign.started.v1"]


def test_what_is_destroyed_already_is_not_moved() -> None:
    where = world(trigger_rule())
    where.rotate(PAYMENTS)
    where.put(replace(where.version(PAYMENTS), state=State.DESTROYED, created_ms=OLD))
    assert result(report(where)).campaign is None


def test_a_version_that_never_was_active_leaves_nothing_to_move() -> None:
    where = world(trigger_rule())
    where.set_state(PAYMENTS, State.PRE_ACTIVE)
    done = report(where)
    assert result(done).rotated
    assert result(done).campaign is None


def test_a_move_goes_from_the_newest_old_version_and_rotates_nothing() -> None:
    where = world(trigger_rule(action=TriggerAction.MOVE))
    assert result(report(where)).campaign is None
    where.rotate(PAYMENTS)
    first = report(where, id_="r2", occurred_ms=NOW)
    assert [type(row) for row in rows(first)] == [Campaign]
    kept(where, first)
    assert not rows(report(where, id_="r3"))


def test_the_longest_pattern_answers() -> None:
    where = world(
        trigger_rule("a", pattern="*"),
        trigger_rule("b", pattern="acme/eu/*"),
        trigger_rule("c", pattern="acme/eu/*"),
        trigger_rule("d", pattern="acme/eu/payments", revoked=True),
        trigger_rule("e", pattern="acme/eu/payments", event=Occasion.POLICY_CHANGED),
        trigger_rule("f", pattern="acme/eu/cards-long-and-other"),
    )
    assert result(report(where)).fired == "b"


def test_no_rule_no_answer() -> None:
    assert failed(report(world(trigger_rule(pattern="acme/us/*")))) == (Code.NOT_FOUND, "no rule")
    assert failed(report(world())) == (Code.NOT_FOUND, "no rule")


def test_one_edited_rule_of_the_tenant_stops_all() -> None:
    where = world(trigger_rule(), trigger_rule("other", event=Occasion.POLICY_CHANGED))
    where.tamper(RowRef(Table.TRIGGER_RULES, "acme/other"))
    assert failed(report(where)) == (Code.INTEGRITY, "")


def test_the_client_needs_the_permission_on_the_key() -> None:
    where = world(trigger_rule())
    billing = where.client("billing")
    where.put(replace(billing, permissions=("wrap",)))
    assert failed(report(where)) == (Code.NOT_FOUND, "forbidden")
    where.put(replace(billing, pattern="acme/us/*"))
    assert failed(report(where)) == (Code.NOT_FOUND, "forbidden")
    where.distrusted.add("billing")
    assert failed(report(where))[0] is Code.INTEGRITY


def test_another_tenants_key_and_one_that_is_not_there_are_not_found() -> None:
    where = world(trigger_rule(pattern="*"))
    assert failed(report(where, "bolt/eu/ledger"))[0] is Code.NOT_FOUND
    assert failed(report(where, "acme/none"))[0] is Code.NOT_FOUND
    assert failed(report(where, str(uid(77))))[0] is Code.NOT_FOUND


def test_a_rule_of_the_policy_allows_it_too_and_is_rested_on() -> None:
    where = world(trigger_rule())
    where.put(replace(where.client("billing"), permissions=()))
    allows = Rule(
        id=uid(900),
        tenant="acme",
        client="billing",
        permissions=(Permission.TRIGGER.value,),
        pattern="acme/eu/*",
        region="",
        not_after_ms=NOW + 1000,
        context_keys=(),
        minimum_suite=None,
        why="",
        enrolled_by="ann+ben",
        created_ms=OLD,
        revoked=False,
        revision=9,
    )
    where.put(allows)
    done = report(where)
    assert result(done).rotated
    assert Seen(allows.ref, 9) in done.settlement.seen
    where.put(replace(allows, context_keys=("table",)))  # a report shows no context
    assert failed(report(where)) == (Code.NOT_FOUND, "forbidden")


def test_an_officer_reports_nothing() -> None:
    where = world(trigger_rule())
    body = TriggerBody(event=TriggerEvent.SCHEDULE_DUE, key="acme/eu", occurred_ms=WHEN)
    assert where.refusal(where.request(Operation.TRIGGER, body, "ann")) is Code.NOT_FOUND


def test_what_has_not_happened_yet_is_refused() -> None:
    where = world(trigger_rule())
    assert failed(report(where, occurred_ms=NOW + 1))[0] is Code.MALFORMED
    assert result(report(where, occurred_ms=NOW)).rotated


def test_what_can_not_be_rotated_says_why() -> None:
    where = world(trigger_rule())
    where.put(replace(where.key(PAYMENTS), origin=Origin.IMPORTED))
    assert failed(report(where))[0] is Code.WRONG_ORIGIN
    where.tamper(version_ref(PAYMENTS))
    assert failed(report(where))[0] is Code.INTEGRITY


def test_the_campaigns_name_is_that_of_an_officers() -> None:
    assert campaign_ref(campaign_id(PAYMENTS, 1, 2)).key == str(campaign(report(world(trigger_rule()))).id)
