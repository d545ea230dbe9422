"""A bulk worker dies, stands still or fails between the steps of a slice: another one ends the campaign, once."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.fleet import Fleet
from tests.processes import POLL_S, until
from tests.stack import Services
from tests.stories.campaigning import (
    WAIT_S,
    certified,
    ended,
    facts,
    filled,
    rotated,
    shown,
    started,
    unwrapped,
)
from worker.local import Token
from worker.model.campaign_bodies import CampaignPauseBody, CampaignResumeBody
from worker.model.campaigns import CampaignState
from worker.model.operations import Operation
from worker.model.topics import Lane

ITEMS, SLICE = 400, 50


@pytest.fixture(scope="module")
async def grown(stack: Services, tmp_path_factory: pytest.TempPathFactory, kryoptic: Token) -> AsyncIterator[Fleet]:
    """A fleet without bulk workers, whose slices are small."""
    folder = tmp_path_factory.mktemp("slices")
    async with Fleet.founded(stack, folder, kryoptic, slice_items=SLICE) as founded:
        founded.start(lanes=[Lane.CONTROL, Lane.INTERACTIVE])
        yield founded


@pytest.mark.parametrize("action", ["kill", "freeze", "error"])
@pytest.mark.parametrize("name", ["leased", "rewrapped", "sliced"])
async def test_between_the_steps_of_a_slice(grown: Fleet, name: str, action: str) -> None:
    house = await grown.tenant()
    deks = await filled(house, ITEMS)
    await rotated(grown, house)
    campaign = await started(grown, house)
    member = grown.start(lanes=[Lane.BULK], failpoints=f"{name}={action}@3")
    if action == "kill":
        assert await member.ended() < 0
    elif action == "freeze":
        await until(lambda: member.is_frozen, "the worker stands still")
    else:
        await until(lambda: "campaigns failed and is tried again" in member.log, "the point was hit")
    helper = grown.start(lanes=[Lane.BULK])
    done = await ended(grown, campaign)
    if action == "freeze":
        member.thaw()  # its slice is somebody else's by now
    assert (done.state, done.moved, done.remaining, done.failed) == (CampaignState.DONE, ITEMS, 0, 0)
    await unwrapped(house, deks, 2)
    assert certified(grown, done).items == ITEMS
    assert await facts(grown, house.tenant, "keyriver.campaign.completed.v1") == 1
    helper.kill()
    member.kill()


async def test_a_slice_that_stood_still_over_a_pause_leaves_nothing(grown: Fleet) -> None:
    # Given a worker that stands still after the token's work, and a campaign that is paused meanwhile
    house = await grown.tenant()
    deks = await filled(house, ITEMS)
    await rotated(grown, house)
    campaign = await started(grown, house)
    member = grown.start(lanes=[Lane.BULK], failpoints="rewrapped=freeze@3")
    await until(lambda: member.is_frozen, "the worker stands still")
    named = {"tenant": house.tenant, "campaign": campaign.id}
    await grown.command(Operation.CAMPAIGN_PAUSE, CampaignPauseBody.model_validate(named))
    standing = await shown(grown, campaign)
    # When it goes on, Then its slice is given back undone
    member.thaw()
    given_back = "SELECT count(*) FROM keyriver.campaign_slices WHERE campaign = $1 AND expires = '-infinity'"
    async with asyncio.timeout(WAIT_S):
        while not await grown.pool.fetchval(given_back, campaign.id):
            await asyncio.sleep(POLL_S)
    still = await shown(grown, campaign)
    assert (still.moved, still.remaining) == (standing.moved, standing.remaining)
    assert still.moved < ITEMS
    # And once it is resumed every DEK is moved, once
    await grown.command(Operation.CAMPAIGN_RESUME, CampaignResumeBody.model_validate(named))
    done = await ended(grown, campaign)
    assert (done.state, done.moved, done.failed) == (CampaignState.DONE, ITEMS, 0)
    await unwrapped(house, deks, 2)
    member.kill()
