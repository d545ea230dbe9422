"""News that a key is known to others: its versions are compromised, and what they wrap is moved."""

import pytest

from tests.unit.chain.test_triggers import WHEN, campaign, kept, report, result, rows, trigger_rule, types, world
from tests.unit.chain.world import EU, NOW, PAYMENTS, World
from worker.chain.campaigns import campaign_id
from worker.chain.plan import Conclusion
from worker.model.campaigns import Campaign, CampaignKind
from worker.model.rows import State, Version
from worker.model.triggers import Occasion, TriggerAction, TriggerEvent, TriggerRule


def emergency(name: str = "due") -> TriggerRule:
    return trigger_rule(name, action=TriggerAction.EMERGENCY, event=Occasion.MEMBER_LEFT)


def left(where: World, key: str = "acme/eu/payments", id_: str = "r1", at_ms: int = WHEN) -> Conclusion:
    return report(where, key, id_, event=TriggerEvent.MEMBER_LEFT, occurred_ms=at_ms)


@pytest.mark.parametrize(
    ("name", "id_", "kind"),
    [("acme/eu/payments", PAYMENTS, CampaignKind.SHALLOW), ("acme/eu", EU, CampaignKind.DEEP)],
)
def test_an_emergency_compromises_and_goes_deep_above_the_deks(name: str, id_: object, kind: CampaignKind) -> None:
    done = left(world(emergency()), name)
    made = campaign(done)
    assert (made.key, made.kind, made.compromised) == (id_, kind, True)
    (old,) = [row for row in rows(done) if isinstance(row, Version) and row.number == 1]
    assert old.state is State.COMPROMISED


def test_news_that_come_after_a_rotation_compromise_what_was_in_use_then() -> None:
    where = world(emergency())
    where.rotate(PAYMENTS)
    done = left(where)
    assert not result(done).rotated
    assert {type(row) for row in rows(done)} == {Campaign, Version}
    assert campaign(done).compromised
    assert "keyriver.key.compromised.v1" in types(done)
    assert "keyriver.hint.v1" in types(done)
    kept(where, done)
    assert not rows(left(where, id_="r2"))
    kept(where, left(where, id_="r3", at_ms=NOW + 2))  # other news
    assert not rows(left(where, id_="r4"))
    assert where.version(PAYMENTS, 2).state is State.COMPROMISED


def test_news_about_what_is_being_moved_compromise_it_and_tell_the_campaign() -> None:
    where = world(trigger_rule(), emergency(name="left"))
    kept(where, report(where))
    done = left(where, id_="r2")
    assert [type(row) for row in rows(done)] == [Version]
    told = result(done).campaign
    assert told is not None
    assert told.id == campaign_id(PAYMENTS, 1, 2)


def test_a_parent_that_others_know_is_moved_deep_whatever_the_rule() -> None:
    where = world(trigger_rule(action=TriggerAction.MOVE))
    where.rotate(EU)
    where.set_state(EU, State.COMPROMISED)
    assert campaign(report(where, "acme/eu")).kind is CampaignKind.DEEP
