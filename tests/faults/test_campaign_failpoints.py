"""A bulk worker dies, stands still or fails between the steps of a slice: another one ends the campaign, once."""

from collections.abc import AsyncIterator

import pytest

from tests.fleet import Fleet
from tests.processes import until
from tests.stack import Services
from tests.stories.campaigning import certified, ended, facts, filled, rotated, started, unwrapped
from worker.local import Token
from worker.model.campaigns import CampaignState
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
