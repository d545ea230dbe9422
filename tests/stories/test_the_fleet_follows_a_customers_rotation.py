"""HYOK and triggers: a customer rotates his key outside, and what stands under it is renewed by itself."""

import uuid
from collections.abc import AsyncIterator

import pytest

from tests.stack import Services
from tests.stories.campaigning import ended, facts, key_of
from tests.stories.customers import Customers, founded, linked, reads, stored
from tests.stories.test_an_event_starts_a_campaign import rule, started
from worker.local import Token
from worker.model.campaigns import CampaignState
from worker.model.keystores import Provider


@pytest.fixture(scope="module")
async def customers(
    stack: Services, kryoptic: Token, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Customers]:
    async with founded(stack, tmp_path_factory.mktemp("hyok"), kryoptic) as made:
        made.fleet.start()
        await made.fleet.at_work(1)
        yield made


async def test_a_customers_rotation_renews_what_his_key_wraps(customers: Customers) -> None:
    """Given a rule; when he rotates his key; then keys under it get a version wrapped by the new one, once."""
    fleet, key = customers.fleet, f"kek-{uuid.uuid4().hex[:8]}"
    house = await linked(customers, Provider.TRANSIT, key)
    items, deks = await stored(house)
    await rule(fleet, house, "provider-version", pattern=house.upper)
    customers.transit.rotate(key)
    campaign = await started(fleet, house, house.upper)
    assert (campaign.asked_by, campaign.from_version, campaign.to_version) == ("keyriver", 1, 2)
    assert (await ended(fleet, campaign)).state is CampaignState.DONE
    assert (await key_of(fleet, house, house.upper)).key.active_version == 2
    assert await reads(house, items, deks)
    assert await facts(fleet, house.tenant, "keyriver.trigger.fired.v1") == 1
