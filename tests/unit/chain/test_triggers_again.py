"""Reports of occasions that were answered before: what becomes of the campaign that the first one started."""

from dataclasses import replace

from tests.unit.chain.test_triggers import campaign, failed, kept, report, result, rows, trigger_rule, world
from tests.unit.chain.world import NOW
from worker.model.campaigns import CampaignState
from worker.model.codes import Code


def test_a_campaign_that_somebody_cancelled_is_told_and_not_started_again() -> None:
    where = world(trigger_rule())
    first = report(where)
    kept(where, first)
    where.put(replace(campaign(first), state=CampaignState.CANCELLED))
    told = result(report(where, id_="r2")).campaign
    assert told is not None
    assert told.state is CampaignState.CANCELLED


def test_a_campaign_that_a_later_rotation_ended_is_followed_by_one_to_the_version_of_now() -> None:
    where = world(trigger_rule())
    first = report(where)
    kept(where, first)
    kept(where, report(where, id_="next", occurred_ms=NOW + 1))
    where.put(replace(campaign(first), state=CampaignState.FAILED))
    second = report(where, id_="r2")
    assert (campaign(second).from_version, campaign(second).to_version) == (1, 3)
    kept(where, second)
    again = report(where, id_="r3")
    told = result(again).campaign
    assert not rows(again)
    assert told is not None
    assert told.id == campaign(second).id


def test_a_campaign_that_failed_is_replayed_by_an_officer_and_not_begun_anew() -> None:
    where = world(trigger_rule())
    first = report(where)
    kept(where, first)
    where.put(replace(campaign(first), state=CampaignState.FAILED))
    told = result(report(where, id_="r2")).campaign
    assert told is not None
    assert (told.id, told.state) == (campaign(first).id, CampaignState.FAILED)


def test_a_campaign_that_somebody_edited_stops_it() -> None:
    where = world(trigger_rule())
    first = report(where)
    kept(where, first)
    where.tamper(campaign(first).ref)
    assert failed(report(where, id_="r2"))[0] is Code.INTEGRITY
