"""A tenant moves from our token to its customer's keystore by a deep campaign, and ends sovereign (SECURITY S13).

The keystore goes away in the middle of it: the campaign waits, lists nothing as failed, and goes on when it is back.
"""

import uuid
from collections.abc import AsyncIterator

import pytest

from tests.fleet import Fleet, House
from tests.keystores.https_server import Asked, Hang, Told
from tests.stack import Services
from tests.stories.campaigning import ended, filled, shown, started, unwrapped
from tests.stories.customers import Customers, codes, founded, told, until
from tests.stories.test_a_tenant_moves_to_its_customers_key import destroyed, moved
from worker.client import RequestRefused
from worker.local import Token
from worker.model.bodies import DekItem, KeyCreateBody
from worker.model.campaigns import CampaignKind, CampaignState
from worker.model.keystores import Provider
from worker.model.linked import LinkResult
from worker.model.linking import LinkDeclareBody
from worker.model.operations import Operation

OTHERS, BEFORE = 24, 22
"""Keys of layer 2 beside the one with DEKs: more than a slice. So many are wrapped before the keystore is away."""


@pytest.fixture(scope="module")
async def customers(
    stack: Services, kryoptic: Token, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Customers]:
    async with founded(stack, tmp_path_factory.mktemp("sovereign"), kryoptic) as made:
        made.fleet.start()
        await made.fleet.at_work(1)
        yield made


async def four_layers(fleet: Fleet) -> tuple[House, list[str]]:
    """A tenant under our own token, with all its keys of layer 2."""
    house = await fleet.tenant()
    others = [f"{house.tenant}/other{number}" for number in range(OTHERS)]
    for alias in others:
        await fleet.command(Operation.KEY_CREATE, KeyCreateBody(tenant=house.tenant, parent=house.tenant, alias=alias))
    return house, [house.upper, *others]


def leaving(customers: Customers, key: str) -> None:
    """The proxy wraps so many for this key, and then answers nothing that is asked for it."""
    wrapped = 0

    def mood(asked: Asked, said: Told) -> Told | Hang:
        nonlocal wrapped
        mine = f"/{key}/" in asked.path
        wrapped += mine and asked.path.endswith("/encrypt")
        return Hang() if mine and wrapped > BEFORE else said

    customers.xks.proxy.mood = mood


async def test_a_move_waits_for_the_customers_keystore_and_ends_sovereign(customers: Customers) -> None:
    fleet, outside = customers.fleet, f"kek-{uuid.uuid4().hex[:8]}"
    # Given four layers under our own token
    house, uppers = await four_layers(fleet)
    deks = await filled(house, 50)
    # When two officers move the L1 to the customer's keystore, and all below is to follow
    await moved(fleet, house, customers.target(Provider.XKS, outside))
    with pytest.raises(RequestRefused, match="UNSUPPORTED"):  # no token can take a key from one to the other as it is
        await started(fleet, house, house.tenant)
    leaving(customers, outside)
    campaign = await started(fleet, house, house.tenant, kind=CampaignKind.DEEP)

    # and the keystore goes away in the middle
    async def waits() -> bool:
        return any(f"the campaign {campaign.id} waits: KEYSTORE_UNREACHABLE" in one.log for one in fleet.members)

    await until(waits, "nobody noticed that the keystore is away")
    # Then it waits, and nothing counts as failed
    there = await shown(fleet, campaign)
    assert (there.state, there.failed) == (CampaignState.RUNNING, 0)
    customers.hang("")
    done = await ended(fleet, campaign)
    assert (done.state, done.failed, done.certificate is not None) == (CampaignState.DONE, 0, True)
    await unwrapped(house, deks, version=2)
    await _declared(customers, house, uppers)
    await unwrapped(house, deks, version=2)
    # and when the customer switches his key off, nothing is left that opens
    customers.xks.switch(outside, on=False)
    items = [DekItem(id=one) for one in deks]

    async def refused() -> bool:
        return await codes(house, items) == {"KEYSTORE_FORBIDDEN"}

    await until(refused, "a key that is off was still used")


async def _declared(customers: Customers, house: House, uppers: list[str]) -> None:
    """It is sovereign once whatever opened its keys before is destroyed, and not a version earlier."""
    fleet = customers.fleet
    declare = LinkDeclareBody(tenant=house.tenant, key=house.tenant)
    for key in (house.key, *uppers, house.tenant):
        with pytest.raises(RequestRefused, match="STILL_NEEDED"):
            await fleet.command(Operation.LINK_DECLARE, declare)
        await destroyed(fleet, house, key, 1)
    declared = await fleet.command(Operation.LINK_DECLARE, declare)
    assert isinstance(declared, LinkResult)
    assert declared.link.sovereign
    assert await told(customers, house.tenant, "keyriver.link.declare.v1")
