"""An event from outside rotates a key and starts the campaign, once, however often and by whomever it is told."""

import time

from tests.fleet import Fleet, House
from tests.stories.campaigning import ended, filled, unwrapped
from worker.model.bodies import KeyShowBody
from worker.model.campaign_bodies import CampaignListBody
from worker.model.campaign_replies import CampaignListResult, CampaignView
from worker.model.campaigns import CampaignState
from worker.model.operations import Operation
from worker.model.replies import KeyResult, KeyView
from worker.model.triggering import TriggerAddBody, TriggerBody, TriggerResult
from worker.model.triggers import TriggerEvent


async def rule(fleet: Fleet, house: House, event: str, name: str = "", **words: object) -> None:
    """Both officers agree on it."""
    said = {"tenant": house.tenant, "name": name or event, "event": event, "pattern": house.key} | words
    await fleet.command(Operation.TRIGGER_ADD, TriggerAddBody.model_validate(said))


async def shown(fleet: Fleet, house: House, key: str = "") -> KeyView:
    done = await fleet.command(Operation.KEY_SHOW, KeyShowBody(tenant=house.tenant, key=key or house.key))
    assert isinstance(done, KeyResult)
    return done.key


async def campaigns(fleet: Fleet, house: House) -> list[CampaignView]:
    done = await fleet.command(Operation.CAMPAIGN_LIST, CampaignListBody(tenant=house.tenant))
    assert isinstance(done, CampaignListResult)
    return done.campaigns


def happened(house: House, event: TriggerEvent = TriggerEvent.SCHEDULE_DUE, key: str = "") -> TriggerBody:
    return TriggerBody(event=event, key=key or house.key, occurred_ms=time.time_ns() // 1_000_000, why="as agreed")


async def test_an_event_rotates_a_key_and_moves_what_it_wraps(fleet: Fleet, house: House) -> None:
    deks = await filled(house, 500)
    await rule(fleet, house, "schedule-due")
    done = await house.client.command(Operation.TRIGGER, happened(house))
    assert isinstance(done, TriggerResult)
    assert (done.fired, done.rotated, done.version) == ("schedule-due", True, 2)
    assert done.campaign is not None
    moved = await ended(fleet, done.campaign)
    assert (moved.state, moved.items, moved.remaining) == (CampaignState.DONE, 500, 0)
    await unwrapped(house, deks, 2)
