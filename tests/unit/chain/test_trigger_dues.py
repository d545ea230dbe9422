"""What the fleet sees by itself: each occasion is decided on the rows, and done once."""

import json
from dataclasses import replace

import pytest

from tests.unit.chain.test_triggers import OLD, trigger_rule, world
from tests.unit.chain.token import answer
from tests.unit.chain.world import EU, NOW, PAYMENTS, ROOT, World, uid, version_ref
from worker.chain.resolve import Chains
from worker.chain.trigger_dues import due, settlement
from worker.chain.work import Commanding
from worker.model.campaigns import Campaign
from worker.model.effects import Announce, Leaf, PutRow, Settlement
from worker.model.hsm import Fault, HsmFault
from worker.model.keystores import Provider
from worker.model.rows import Link, State, Table, Version
from worker.model.triggering import TriggerResult
from worker.model.triggers import Found, Occasion, TriggerAction, TriggerRule
from worker.model.words import LinkState


def found(occasion: Occasion, key: object = PAYMENTS, version: int = 1, tenant: str = "acme") -> Found:
    return Found(occasion, tenant, key, version)  # type: ignore[arg-type]


def rule_on(occasion: Occasion, **more: object) -> TriggerRule:
    return replace(trigger_rule(), event=occasion, **more)  # type: ignore[arg-type]


def done(where: World, one: Found) -> Commanding | None:
    facts = where.facts()
    return due(facts, Chains(facts), one)


def settled(where: World, one: Found) -> Settlement:
    facts = where.facts()
    step = due(facts, Chains(facts), one)
    assert step is not None
    return settlement(facts, one, step, None if step.op is None else answer(step.op))


@pytest.mark.parametrize(("period_s", "is_due"), [(1, True), (2, False)])
def test_a_key_is_rotated_when_its_period_is_over(period_s: int, is_due: bool) -> None:
    where = world(rule_on(Occasion.KEY_AGE, period_s=period_s))  # made a second ago
    assert (done(where, found(Occasion.KEY_AGE)) is not None) is is_due


def test_all_of_it_is_one_settlement_in_the_fleets_own_name() -> None:
    where = world(rule_on(Occasion.KEY_AGE, period_s=1))
    made = settled(where, found(Occasion.KEY_AGE))
    rows = [effect.row for effect in made.effects if isinstance(effect, PutRow)]
    (campaign,) = [row for row in rows if isinstance(row, Campaign)]
    assert (campaign.asked_by, campaign.from_version, campaign.to_version) == ("keyriver", 1, 2)
    assert {row.number: row.wrapped != b"" for row in rows if isinstance(row, Version)} == {1: True, 2: True}
    events = [effect.type for effect in made.effects if isinstance(effect, Announce)]
    assert events[0] == "keyriver.trigger.fired.v1"
    assert "keyriver.key.rotated.v1" in events
    assert "keyriver.campaign.started.v1" in events
    leaf = json.loads(next(effect.body for effect in made.effects if isinstance(effect, Leaf)))
    assert (leaf["client"], leaf["tenant"], leaf["told"]["event"]) == ("keyriver", "acme", "key-age")
    assert made.ledger is None
    assert version_ref(PAYMENTS) in made.changes
    assert settled(where, found(Occasion.KEY_AGE)) == made  # whoever does it again does it with the same ids
    where.put(*rows)
    assert done(where, found(Occasion.KEY_AGE)) is None


def test_what_the_token_did_not_do_leaves_no_rows() -> None:
    where = world(rule_on(Occasion.KEY_AGE, period_s=1))
    facts, one = where.facts(), found(Occasion.KEY_AGE)
    step = due(facts, Chains(facts), one)
    assert step is not None
    made = settlement(facts, one, step, HsmFault(Fault.UNAVAILABLE))
    assert not [effect for effect in made.effects if isinstance(effect, PutRow)]


def test_a_worn_version_is_rotated_and_its_successor_is_not() -> None:
    where = world(rule_on(Occasion.USE_COUNT))
    where.put(replace(where.version(PAYMENTS), created_ms=NOW))
    assert done(where, found(Occasion.USE_COUNT)) is not None
    where.rotate(PAYMENTS)
    late = done(where, found(Occasion.USE_COUNT, version=1))
    assert late is None


def test_what_stands_below_a_rotated_key_is_moved_from_its_version() -> None:
    where = world(rule_on(Occasion.PARENT_ROTATED, action=TriggerAction.MOVE))
    where.rotate(EU)
    step = done(where, found(Occasion.PARENT_ROTATED, EU))
    assert step is not None
    assert isinstance(step.result, TriggerResult)
    assert step.result.campaign is not None
    assert (step.result.campaign.from_version, step.op) == (1, None)
    where.put(*step.rows)
    assert done(where, found(Occasion.PARENT_ROTATED, EU)) is None
    where.set_state(EU, State.DESTROYED)
    assert done(where, found(Occasion.PARENT_ROTATED, EU, 7)) is None


def link(rotated_ms: int, version: int = 1) -> Link:
    return Link(
        id=uid(700),
        tenant="acme",
        key=ROOT,
        version=version,
        provider=Provider.XKS,
        endpoint="https://k.example",
        external_key="k",
        credential="c",
        state=LinkState.LINKED,
        inner=uid(701),
        serial="token-1",
        external_version="2",
        sovereign=True,
        created_ms=OLD,
        revision=2,
        rotated_ms=rotated_ms,
    )


def test_a_key_is_rotated_when_the_customers_key_above_it_was() -> None:
    where = world(rule_on(Occasion.PROVIDER_VERSION, pattern="acme/eu"))
    one = found(Occasion.PROVIDER_VERSION, EU)
    assert done(where, one) is None
    for row, is_due in ((link(OLD), False), (link(OLD + 1, version=2), False), (link(OLD + 1), True)):
        where.put(row)
        assert (done(where, one) is not None) is is_due


def test_what_is_gone_edited_or_anothers_is_left_alone() -> None:
    where = world(rule_on(Occasion.KEY_AGE, period_s=1))
    assert done(where, found(Occasion.KEY_AGE, uid(77))) is None
    assert done(where, found(Occasion.KEY_AGE, tenant="bolt")) is None
    assert done(where, found(Occasion.USE_COUNT)) is None  # no rule
    where.disable(PAYMENTS)
    assert done(where, found(Occasion.KEY_AGE)) is None
    where.put(replace(where.key(PAYMENTS), enabled=True))
    where.tamper(version_ref(PAYMENTS))
    assert done(where, found(Occasion.KEY_AGE)) is None
    assert Table.VERSIONS in {ref.table for ref in where.tampered}
