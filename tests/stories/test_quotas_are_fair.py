"""A tenant gets what was agreed and not more, and what it asks for beyond that is nobody else's trouble (D10)."""

import asyncio
import time

import pytest

from tests.fleet import Fleet, House
from tests.scribe import Scribe
from worker.client import KeyriverClient
from worker.client.errors import RequestRefused
from worker.client.results import ItemError, WrappedDek
from worker.model.bodies import KeyShowBody, WrapBody, WrapItem
from worker.model.operations import Operation
from worker.model.policies import QuotaListResult, TenantQuotaBody, TenantQuotasBody


async def quota(fleet: Fleet, house: House, **words: object) -> None:
    body = TenantQuotaBody.model_validate({"tenant": house.tenant, "why": "a story"} | words)
    await fleet.command(Operation.TENANT_QUOTA, body)


async def made(client: KeyriverClient, key: str, count: int = 1) -> int:
    """How many DEKs came of it. Raises `RequestRefused`."""
    got = await client.generate(key, count)
    assert not any(isinstance(one, ItemError) for one in got), got
    return sum(isinstance(one, WrappedDek) for one in got)


async def test_one_tenants_exhaustion_is_not_anothers(fleet: Fleet, house: House) -> None:
    # Given two tenants, the one with a small quota
    other = await fleet.tenant()
    await quota(fleet, house, per_second=10, burst=10)
    # When it asks for a thousand DEKs at once, Then it gets them, and has spent the next hundred seconds
    assert await made(house.client, house.key, 1000) == 1000
    hurried = await fleet.client(house.identity, timeout_s=20.0)
    with pytest.raises(RequestRefused, match="THROTTLED") as refused:
        await hurried.generate(house.key)
    assert refused.value.retry
    assert refused.value.retry_after_ms is not None
    assert refused.value.retry_after_ms > 30_000
    # When it goes on asking without a pause, Then the other tenant is served as if it were alone
    stop, refused_once = asyncio.Event(), asyncio.Semaphore(0)
    flood = [asyncio.create_task(_insist(fleet, house, stop, refused_once)) for _ in range(4)]
    try:
        async with asyncio.timeout(60):
            for _ in flood:
                await refused_once.acquire()
        served = await asyncio.gather(*(made(other.client, other.key) for _ in range(200)))
    finally:
        stop.set()
        await asyncio.gather(*flood)
    assert sum(served) == 200
    # And officers command as ever: the control lane has no quota
    await fleet.command(Operation.KEY_SHOW, KeyShowBody(tenant=house.tenant, key=house.key))
    # When the quota is lifted, Then the tenant is served again
    await quota(fleet, house)
    assert await made(house.client, house.key) == 1


async def _insist(fleet: Fleet, house: House, stop: asyncio.Event, refused: asyncio.Semaphore) -> None:
    """A caller that does not wait as it is told, and is refused each time."""
    body = WrapBody(key=house.key, items=[WrapItem()] * 10).model_dump_json().encode()
    async with Scribe(fleet, house.identity) as scribe:
        while not stop.is_set():
            told = await scribe.ask(scribe.draft(Operation.WRAP, body))
            assert told.error is not None
            assert (told.error.code, told.error.retry) == ("THROTTLED", True)
            refused.release()


async def test_a_patient_client_gets_everything_at_the_agreed_rate(fleet: Fleet, house: House) -> None:
    # Given a quota of 50 a second, and two workers that lease from it
    await quota(fleet, house, per_second=50, burst=50)
    second = fleet.start()
    try:
        # When 30 callers want 10 each, Then all get them, but not faster than was agreed
        begun = time.monotonic()
        got = await asyncio.gather(*(made(house.client, house.key, 10) for _ in range(30)))
        took = time.monotonic() - begun
    finally:
        second.kill()
        await fleet.at_work(1)
    assert sum(got) == 300
    # A lease may go a whole request beyond: 10 for each worker. What was leased and lost only makes it slower.
    assert took >= (300 - 50 - 20) / 50 - 0.5


async def test_a_client_has_a_quota_within_its_tenants(fleet: Fleet, house: House) -> None:
    # Given a batch client of the tenant with a quota of its own
    batch = await fleet.service(house.tenant)
    hurried = await fleet.client(batch, timeout_s=20.0)
    await quota(fleet, house, client=batch.client, per_second=1, burst=5)
    # When it has spent that, Then it is throttled, and the tenant's others are not
    assert await made(hurried, house.key, 200) == 200
    with pytest.raises(RequestRefused, match="THROTTLED"):
        await hurried.generate(house.key)
    assert await made(house.client, house.key, 100) == 100
    # And the officer sees both
    listed = await fleet.command(Operation.TENANT_QUOTAS, TenantQuotasBody(tenant=house.tenant))
    assert isinstance(listed, QuotaListResult)
    assert [(one.client, one.per_second, one.burst) for one in listed.quotas] == [(batch.client, 1, 5)]
