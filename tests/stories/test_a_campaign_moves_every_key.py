"""An officer rotates a service key and moves every stored DEK to the new version, with proof that nothing is left."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from tests.fleet import Fleet
from tests.stack import Services
from tests.stories.campaigning import (
    CONTEXT,
    certified,
    ended,
    facts,
    failures,
    filled,
    key_of,
    moved,
    opened,
    retired,
    rotated,
    shown,
    started,
    unwrapped,
)
from worker.client import ItemError, RequestRefused, WrappedDek
from worker.local import kryoptic
from worker.model.campaign_bodies import (
    CampaignCancelBody,
    CampaignExposedBody,
    CampaignPauseBody,
    CampaignPlanBody,
    CampaignReplayBody,
    CampaignResumeBody,
    CampaignThrottleBody,
)
from worker.model.campaign_replies import CampaignExposedResult, CampaignPlanResult, CampaignResult
from worker.model.campaigns import CampaignState
from worker.model.fields import Reason
from worker.model.operations import Operation
from worker.model.topics import Lane

SLICE = 100


@pytest.fixture(scope="module")
async def busy(stack: Services, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A fleet on kryoptic (workers are killed), whose slices are small. The stories bring its bulk workers."""
    folder = tmp_path_factory.mktemp("campaigns")
    module = kryoptic.module()
    assert module is not None, kryoptic.CURE
    token = kryoptic.token(folder / "token", module)
    async with Fleet.founded(stack, folder, token, slice_items=SLICE) as founded:
        founded.start(lanes=[Lane.CONTROL, Lane.INTERACTIVE])
        yield founded


@pytest.fixture
async def worker(busy: Fleet) -> AsyncIterator[None]:
    """One bulk worker."""
    member = busy.start(lanes=[Lane.BULK])
    yield
    member.kill()


async def test_workers_die_and_it_is_paused_and_ends_with_a_certificate(busy: Fleet) -> None:
    # Given 3,000 DEKs under version 1, and a rotation
    house = await busy.tenant()
    deks = await filled(house, 3000)
    await rotated(busy, house)
    plan = await busy.command(Operation.CAMPAIGN_PLAN, CampaignPlanBody(tenant=house.tenant, key=house.key))
    assert isinstance(plan, CampaignPlanResult)
    assert [(layer.layer, layer.items, layer.hsm_operations) for layer in plan.layers] == [("DEKs", 3000, 9000)]
    # When a campaign runs at 3,000 a second while one worker dies over its third slice
    campaign = await started(busy, house, items_s=3000)
    assert campaign.id == plan.id
    dying = busy.start(lanes=[Lane.BULK], failpoints="rewrapped=kill@3")
    assert await dying.ended() < 0
    # and another one dies where its slice is settled, and it is paused
    second = busy.start(lanes=[Lane.BULK], failpoints="sliced=kill@4")
    assert await second.ended() < 0
    # (at a pace that leaves much to do when the pause comes)
    slow = CampaignThrottleBody(tenant=house.tenant, campaign=campaign.id, items_s=SLICE)
    await busy.command(Operation.CAMPAIGN_THROTTLE, slow)
    third = busy.start(lanes=[Lane.BULK])
    await moved(busy, campaign, 700)
    body = CampaignPauseBody(tenant=house.tenant, campaign=campaign.id, why="month's end")
    paused = await busy.command(Operation.CAMPAIGN_PAUSE, body)
    assert isinstance(paused, CampaignResult)
    standing = await shown(busy, campaign)
    assert standing.state is CampaignState.PAUSED
    # Then the same worker moves another tenant's keys, and none of these
    other = await busy.tenant()
    await filled(other, 50)
    await rotated(busy, other)
    assert (await ended(busy, await started(busy, other))).state is CampaignState.DONE
    assert (await shown(busy, campaign)).moved == standing.moved < 3000
    # New DEKs are made under version 2 all the while
    more = await filled(house, 50)
    await busy.command(Operation.CAMPAIGN_RESUME, CampaignResumeBody(tenant=house.tenant, campaign=campaign.id))
    throttle = CampaignThrottleBody(tenant=house.tenant, campaign=campaign.id)
    await busy.command(Operation.CAMPAIGN_THROTTLE, throttle)
    done = await ended(busy, campaign)
    # Then nothing is left, every DEK is what it was, and each was moved once
    assert (done.state, done.remaining, done.moved, done.failed) == (CampaignState.DONE, 0, 3000, 0)
    await unwrapped(house, deks | more, 2)
    said = certified(busy, done)
    assert (said.items, said.exposed, said.issued_outside) == (3000, 0, 0)
    assert (await retired(busy, done.key)) == {1: True, 2: False}
    assert await facts(busy, house.tenant, "keyriver.campaign.completed.v1") == 1
    # Starting it again starts nothing
    assert (await started(busy, house)).state is CampaignState.DONE
    third.kill()


@pytest.mark.usefixtures("worker")
async def test_corrupt_rows_are_listed_and_a_replay_completes_it(busy: Fleet) -> None:
    # Given 500 DEKs, five of which somebody damaged, each in another way
    house = await busy.tenant()
    deks = await filled(house, 500)
    ids = sorted(deks)[100:350:50]
    damage = [
        "set_byte(blob, length(blob) - 1, 255 - get_byte(blob, length(blob) - 1))",  # the tag
        "set_byte(blob, 60, 255 - get_byte(blob, 60))",  # the ciphertext
        "'\\x00'",
        "set_byte(blob, 39, 255 - get_byte(blob, 39))",  # another row's id
    ]
    kept = {row["id"]: row["blob"] for row in await busy.pool.fetch("SELECT id, blob FROM keyriver.deks")}
    for id_, how in zip(ids, damage, strict=False):
        await busy.pool.execute(f"UPDATE keyriver.deks SET blob = {how} WHERE id = $1", id_)  # noqa: S608
    await busy.pool.execute("UPDATE keyriver.deks SET version = 2 WHERE id = $1", ids[4])  # relabelled
    await rotated(busy, house)
    # When a campaign moves them
    campaign = await ended(busy, await started(busy, house))
    # Then exactly these are listed, and the old version is not retired
    assert (campaign.state, campaign.moved, campaign.failed) == (CampaignState.FAILED, 495, 5)
    listed = await failures(busy, campaign)
    assert set(listed) == {str(id_) for id_ in ids}
    assert set(listed.values()) == {"UNWRAP_FAILED", "INTEGRITY"}
    assert (await retired(busy, campaign.key))[1] is False
    assert campaign.certificate is None
    await unwrapped(house, {id_: dek for id_, dek in deks.items() if id_ not in ids}, 2)
    # After a repair a replay completes it
    for id_ in ids:
        await busy.pool.execute("UPDATE keyriver.deks SET blob = $2, version = 1 WHERE id = $1", id_, kept[id_])
    await busy.command(Operation.CAMPAIGN_REPLAY, CampaignReplayBody(tenant=house.tenant, campaign=campaign.id))
    done = await ended(busy, campaign)
    assert (done.state, done.moved, done.failed, done.remaining) == (CampaignState.DONE, 500, 0, 0)
    await unwrapped(house, deks, 2)
    assert certified(busy, done).items == 500


@pytest.mark.usefixtures("worker")
async def test_after_a_compromise_it_says_what_was_exposed(busy: Fleet) -> None:
    house = await busy.tenant()
    deks = await filled(house, 250)
    (outside,) = await house.client.generate(house.key, contexts=[CONTEXT], store=False)
    assert isinstance(outside, WrappedDek)
    await rotated(busy, house, reason=Reason.COMPROMISE)
    (refused,) = await opened(house, [next(iter(deks))])
    assert isinstance(refused, ItemError)
    done = await ended(busy, await started(busy, house))
    assert done.state is CampaignState.DONE
    await unwrapped(house, deks, 2)
    said = certified(busy, done)
    assert (said.items, said.exposed, said.issued_outside) == (250, 250, 1)
    body = CampaignExposedBody(tenant=house.tenant, campaign=done.id)
    page = await busy.command(Operation.CAMPAIGN_EXPOSED, body)
    assert isinstance(page, CampaignExposedResult)
    assert set(page.exposed) == set(deks)


@pytest.mark.usefixtures("worker")
async def test_a_cancelled_campaign_ends_and_starts_again(busy: Fleet) -> None:
    house = await busy.tenant()
    deks = await filled(house, 500)
    with pytest.raises(RequestRefused, match="KEY_STATE"):
        await started(busy, house)  # there is no old version yet
    await rotated(busy, house)
    campaign = await started(busy, house, items_s=25)
    await moved(busy, campaign, 100)
    await busy.command(Operation.CAMPAIGN_CANCEL, CampaignCancelBody(tenant=house.tenant, campaign=campaign.id))
    assert (await shown(busy, campaign)).state is CampaignState.CANCELLED
    with pytest.raises(RequestRefused, match="CAMPAIGN_STATE"):
        await busy.command(Operation.CAMPAIGN_RESUME, CampaignResumeBody(tenant=house.tenant, campaign=campaign.id))
    done = await ended(busy, await started(busy, house))
    assert (done.state, done.moved) == (CampaignState.DONE, 500)
    await unwrapped(house, deks, 2)


@pytest.mark.usefixtures("worker")
async def test_a_campaign_of_a_key_that_is_rotated_again_fails(busy: Fleet) -> None:
    house = await busy.tenant()
    deks = await filled(house, 200)
    await rotated(busy, house)
    campaign = await started(busy, house, items_s=20)
    await rotated(busy, house)
    assert (await ended(busy, campaign)).state is CampaignState.FAILED
    for version in (1, 2):
        assert (await ended(busy, await started(busy, house, from_version=version))).state is CampaignState.DONE
    await unwrapped(house, deks, 3)
    key: UUID = (await key_of(busy, house)).key.id
    assert await retired(busy, key) == {1: True, 2: True, 3: False}
