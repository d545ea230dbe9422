"""An officer rotates a service key and moves every stored DEK to the new version, with proof that nothing is left."""

import asyncio
import time
from uuid import UUID

from tests.fleet import Fleet, House
from worker.client import Unwrapped, WrappedDek
from worker.model.bodies import DekItem, KeyRotateBody
from worker.model.campaign_bodies import CampaignPlanBody, CampaignShowBody, CampaignStartBody
from worker.model.campaign_replies import CampaignPlanResult, CampaignResult, CampaignView
from worker.model.campaigns import CampaignState
from worker.model.operations import Operation

WAIT_S = 60.0


async def filled(house: House, count: int) -> dict[UUID, bytes]:
    """So many stored DEKs, and what they are."""
    found: dict[UUID, bytes] = {}
    for _ in range(count // 500):
        made = await house.client.generate(house.key, contexts=[{"row": "1"}] * 500)
        for one in made:
            assert isinstance(one, WrappedDek)
            assert one.id is not None
            assert one.dek is not None
            found[one.id] = one.dek
    return found


async def started(fleet: Fleet, house: House, **words: object) -> CampaignView:
    body = CampaignStartBody.model_validate({"tenant": house.tenant, "key": house.key} | words)
    done = await fleet.command(Operation.CAMPAIGN_START, body)
    assert isinstance(done, CampaignResult)
    return done.campaign


async def until(fleet: Fleet, campaign: CampaignView, state: CampaignState) -> CampaignView:
    deadline = time.monotonic() + WAIT_S
    while True:
        shown = await fleet.command(
            Operation.CAMPAIGN_SHOW, CampaignShowBody(tenant=campaign.tenant, campaign=campaign.id)
        )
        assert isinstance(shown, CampaignResult)
        if shown.campaign.state is state:
            return shown.campaign
        assert time.monotonic() < deadline, shown.campaign
        await asyncio.sleep(0.1)


async def test_thin(fleet: Fleet, house: House) -> None:
    deks = await filled(house, 1000)
    await fleet.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.key))
    plan = await fleet.command(Operation.CAMPAIGN_PLAN, CampaignPlanBody(tenant=house.tenant, key=house.key))
    assert isinstance(plan, CampaignPlanResult)
    assert plan.layers[0].items == 1000
    campaign = await started(fleet, house)
    done = await until(fleet, campaign, CampaignState.DONE)
    assert done.remaining == 0
    items = [DekItem(id=one, context={"row": "1"}) for one in deks]
    opened = await house.client.unwrap(items)
    for one, want in zip(opened, deks.values(), strict=True):
        assert isinstance(one, Unwrapped)
        assert (one.version, one.dek) == (2, want)
