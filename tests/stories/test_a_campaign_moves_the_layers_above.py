"""Keys of upper layers are rotated, or lost to somebody: what they wrap moves, layer by layer, and stays readable."""

from collections.abc import AsyncIterator

import pytest

from tests.fleet import Fleet, House
from tests.stack import Services
from tests.stories.campaigning import (
    certified,
    ended,
    failures,
    filled,
    key_of,
    opened,
    retired,
    rotated,
    started,
    unwrapped,
)
from worker.client import ItemError
from worker.local import Token
from worker.model.bodies import KeyCreateBody
from worker.model.campaign_bodies import CampaignListBody, CampaignPlanBody, CampaignReplayBody
from worker.model.campaign_replies import CampaignListResult, CampaignPlanResult
from worker.model.campaigns import CampaignKind, CampaignState
from worker.model.control import KeyDisableBody, KeyEnableBody
from worker.model.fields import Reason
from worker.model.operations import Operation
from worker.model.rows import State

DONE = CampaignState.DONE


@pytest.fixture(scope="module")
async def grown(stack: Services, tmp_path_factory: pytest.TempPathFactory, token: Token) -> AsyncIterator[Fleet]:
    """A fleet on each of the tokens, one worker for all lanes."""
    folder = tmp_path_factory.mktemp("layers")
    async with Fleet.founded(stack, folder, token, slice_items=100) as founded:
        founded.start()
        yield founded


async def states(fleet: Fleet, house: House, name: str) -> dict[int, State]:
    return {one.number: one.state for one in (await key_of(fleet, house, name)).key.versions}


async def parents(fleet: Fleet, house: House, name: str) -> dict[int, int]:
    key = (await key_of(fleet, house, name)).key.id
    rows = await fleet.pool.fetch("SELECT number, parent_version FROM keyriver.versions WHERE key = $1", key)
    return {row["number"]: row["parent_version"] for row in rows}


async def test_a_rotated_master_key_and_tenant_key(grown: Fleet) -> None:
    # Given DEKs under two service keys of one tenant key
    house = await grown.tenant()
    other = f"{house.upper}/billing"
    body = KeyCreateBody(tenant=house.tenant, parent=house.upper, alias=other)
    await grown.command(Operation.KEY_CREATE, body)
    deks, more = await filled(house, 50), await filled(house, 50, other)
    # When the master key is rotated, its campaign rewraps the tenant key
    await rotated(grown, house, house.tenant)
    first = await ended(grown, await started(grown, house, house.tenant))
    assert (first.state, first.moved, first.remaining) == (DONE, 1, 0)
    assert await parents(grown, house, house.upper) == {1: 2}
    # and when the tenant key is rotated, its campaign rewraps both service keys
    await rotated(grown, house, house.upper)
    second = await ended(grown, await started(grown, house, house.upper))
    assert (second.state, second.moved, second.remaining) == (DONE, 2, 0)
    assert await parents(grown, house, house.key) == await parents(grown, house, other) == {1: 2}
    assert await retired(grown, second.key) == {1: True, 2: False}
    # Then every DEK is what it was
    await unwrapped(house, deks | more, 1)
    assert certified(grown, second).covers == "stored rows: versions of layer 3 keys"


async def test_a_deep_campaign_after_a_compromise(grown: Fleet) -> None:
    # Given two service keys, one of them rotated before, and a compromise of the key above them
    house = await grown.tenant()
    other = f"{house.upper}/billing"
    await grown.command(Operation.KEY_CREATE, KeyCreateBody(tenant=house.tenant, parent=house.upper, alias=other))
    deks, more = await filled(house, 150), await filled(house, 50, other)
    await rotated(grown, house)
    deks |= await filled(house, 50)
    await rotated(grown, house, house.upper, Reason.COMPROMISE)
    (refused,) = await opened(house, [next(iter(deks))])
    assert isinstance(refused, ItemError)
    plan = await grown.command(
        Operation.CAMPAIGN_PLAN, CampaignPlanBody(tenant=house.tenant, key=house.upper, kind=CampaignKind.DEEP)
    )
    assert isinstance(plan, CampaignPlanResult)
    assert [(layer.layer, layer.items) for layer in plan.layers] == [("L3", 2), ("DEKs", 250)]
    # When a deep campaign runs
    done = await ended(grown, await started(grown, house, house.upper, kind=CampaignKind.DEEP))
    # Then all below has new versions, all DEKs are under them, and what the thief could read is told
    assert done.state is DONE
    assert await states(grown, house, house.key) == {
        1: State.COMPROMISED,
        2: State.COMPROMISED,
        3: State.ACTIVE,
    }
    assert await states(grown, house, other) == {1: State.COMPROMISED, 2: State.ACTIVE}
    assert await parents(grown, house, house.key) == {1: 1, 2: 1, 3: 2}
    await unwrapped(house, deks, 3)
    await unwrapped(house, more, 2)
    said = certified(grown, done)
    assert len(said.parts) == 3
    listed = await grown.command(Operation.CAMPAIGN_LIST, CampaignListBody(tenant=house.tenant))
    assert isinstance(listed, CampaignListResult)
    parts = [one for one in listed.campaigns if one.parent == done.id]
    assert {part.id for part in parts} == set(said.parts)
    assert {part.state for part in parts} == {DONE}
    assert sum(certified(grown, part).exposed for part in parts) == 250
    assert await retired(grown, done.key) == {1: True, 2: False}


async def test_a_key_that_is_off_stops_the_cascade_until_it_is_on(grown: Fleet) -> None:
    house = await grown.tenant()
    deks = await filled(house, 20)
    await rotated(grown, house, house.upper, Reason.COMPROMISE)
    off = KeyDisableBody(tenant=house.tenant, key=house.key)
    await grown.command(Operation.KEY_DISABLE, off)
    failed = await ended(grown, await started(grown, house, house.upper, kind=CampaignKind.DEEP))
    assert failed.state is CampaignState.FAILED
    assert set((await failures(grown, failed)).values()) == {"KEY_DISABLED"}
    assert await retired(grown, failed.key) == {1: False, 2: False}
    revision = (await key_of(grown, house)).key.disabled_revision
    assert revision is not None
    await grown.command(Operation.KEY_ENABLE, KeyEnableBody(tenant=house.tenant, key=house.key, revision=revision))
    await grown.command(Operation.CAMPAIGN_REPLAY, CampaignReplayBody(tenant=house.tenant, campaign=failed.id))
    assert (await ended(grown, failed)).state is DONE
    await unwrapped(house, deks, 2)
