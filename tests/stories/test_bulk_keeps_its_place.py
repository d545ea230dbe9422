"""Bulk work is nobody's trouble: not of who reads, nor of another tenant; and what it empties may go afterwards."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fleet import Fleet, House
from tests.processes import Member
from tests.scribe import Scribe, now_ms
from tests.stack import Services
from tests.stories.campaigning import ended, facts, filled, key_of, rotated, shown, started, unwrapped
from worker.client import Pending, RequestRefused, Unwrapped
from worker.client.answers import Refusal
from worker.local import softhsm
from worker.model.bodies import DekItem, KeyCreateBody
from worker.model.campaign_bodies import CampaignStartBody, CampaignThrottleBody
from worker.model.campaign_replies import CampaignView
from worker.model.campaigns import CampaignState
from worker.model.control import KeyCancelDestroyBody
from worker.model.operations import Operation
from worker.model.rows import State
from worker.model.topics import Lane
from worker.model.triggering import TriggerBody
from worker.model.triggers import TriggerEvent

SERVING = (Lane.CONTROL, Lane.INTERACTIVE)
WAIT_S = 60.0
REPORTS = 900
SETTINGS = {"destroy_grace_s": 1, "recoverable_days": 30, "slice_items": 50}


@pytest.fixture(scope="module")
async def served(stack: Services, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A fleet with one process that serves, and none for bulk work yet."""
    folder = tmp_path_factory.mktemp("bulk")
    module = Path(shutil.copy2(softhsm.module(), folder / "module.so"))
    token = softhsm.token(folder / "token", module_file=module)
    async with Fleet.founded(stack, folder, token, **SETTINGS) as founded:
        founded.start(lanes=SERVING)
        await founded.at_work(1, SERVING)
        yield founded


@pytest.fixture
async def acme(served: Fleet) -> House:
    """A tenant of this test's own."""
    return await served.tenant()


async def bulk(fleet: Fleet, p99_ms: int = 60_000) -> Member:
    return fleet.start(lanes=[Lane.BULK], interactive_p99_ms=p99_ms)


async def stopped(fleet: Fleet, member: Member) -> None:
    member.kill()
    fleet.members.remove(member)
    await fleet.pool.execute("DELETE FROM keyriver.workers WHERE name LIKE '%/' || $1", str(member.pid))


async def until_pace(fleet: Fleet, view: CampaignView, *, full: bool) -> CampaignView:
    deadline = time.monotonic() + WAIT_S
    while ((found := await shown(fleet, view)).pace == 1.0) is not full:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)
    return found


async def test_a_tenant_with_many_campaigns_does_not_keep_the_other_waiting(served: Fleet, acme: House) -> None:
    # Given a tenant with five campaigns that were all there before the one of another tenant
    other = await served.tenant()
    keys = [acme.key, *[await _another_key(served, acme, number) for number in range(4)]]
    for key in keys:
        await filled(acme, 200, key)
        await rotated(served, acme, key)
    deks = await filled(other, 100)
    await rotated(served, other)
    many = [await started(served, acme, key) for key in keys]
    one = await started(served, other)
    # When a process does bulk work, Then the other tenant's turn is the first or the second one
    worker = await bulk(served)
    try:
        assert (await ended(served, one)).state is CampaignState.DONE
        for view in many:
            assert (await ended(served, view)).state is CampaignState.DONE
    finally:
        await stopped(served, worker)
    table = "keyriver.campaign_slices"
    sql = f"SELECT campaign FROM {table} WHERE campaign = ANY ($1) GROUP BY campaign ORDER BY min(leased_at)"  # noqa: S608
    order = [row["campaign"] for row in await served.pool.fetch(sql, [view.id for view in (*many, one)])]
    assert order.index(one.id) <= 1, "it waited for campaigns that are not its tenant's"
    await unwrapped(other, deks, 2)


async def _another_key(fleet: Fleet, house: House, number: int) -> str:
    alias = f"{house.upper}/more{number}"
    body = KeyCreateBody(tenant=house.tenant, parent=house.upper, alias=alias)
    await fleet.command(Operation.KEY_CREATE, body)
    return alias


async def test_it_backs_off_while_answers_are_slow_and_goes_on_when_they_are_not(served: Fleet, acme: House) -> None:
    # Given a campaign, and a limit so low that every read is a slow one
    deks = await filled(acme, 2000)
    await rotated(served, acme)
    view = await started(served, acme, items_s=100)
    worker = await bulk(served, p99_ms=1)
    reading = asyncio.create_task(_read(acme, [DekItem(id=next(iter(deks)), context={"row": "1"})]))
    try:
        # When somebody reads, Then the campaign backs off, and everybody sees that
        slow = await until_pace(served, view, full=False)
        assert slow.state is CampaignState.RUNNING
        # When nobody does, Then it is soon at full speed again, and it ends
        reading.cancel()
        await until_pace(served, view, full=True)
        with suppress(RequestRefused):  # unless it has ended meanwhile
            await served.command(
                Operation.CAMPAIGN_THROTTLE, CampaignThrottleBody(tenant=view.tenant, campaign=view.id)
            )
        assert (await ended(served, view)).state is CampaignState.DONE
    finally:
        reading.cancel()
        await stopped(served, worker)
    await unwrapped(acme, deks, 2)


async def _read(house: House, items: list[DekItem]) -> None:
    while True:
        (one,) = await house.client.unwrap(items)
        assert isinstance(one, Unwrapped)


async def test_whoever_reports_without_an_end_is_throttled_and_nobody_else(served: Fleet, acme: House) -> None:
    # Given a service that reports one event after the other as fast as it can
    other = await served.tenant()
    report, theirs = (
        TriggerBody(event=TriggerEvent.SCHEDULE_DUE, key=key, occurred_ms=now_ms()).model_dump_json().encode()
        for key in (acme.key, other.key)
    )
    async with Scribe(served, acme.identity) as flooding, Scribe(served, other.identity) as patient:
        flood = [flooding.draft(Operation.TRIGGER, report) for _ in range(REPORTS)]
        await asyncio.gather(*(flooding.send(draft) for draft in flood))
        # Then another tenant's report is answered as ever (here: there is no rule)
        told = await patient.ask(patient.draft(Operation.TRIGGER, theirs))
        assert _code(told.results, told.error) == "NOT_FOUND"
        answers = [await flooding.answer(draft.id) for draft in flood]
    codes = [_code(one.results, one.error) for one in answers]
    # And of the flood what was too much is told to come again
    assert set(codes) == {"NOT_FOUND", "THROTTLED"}
    throttled = [one.error for one in answers if one.error is not None and one.error.code == "THROTTLED"]
    assert all(one.retry and one.retry_after_ms for one in throttled)
    # And that service itself may go on encrypting
    assert len(await acme.client.generate(acme.key, 3)) == 3


def _code(results: object, error: Refusal | None) -> str:
    if error is not None:
        return str(error.code)
    assert isinstance(results, (list, tuple))
    (one,) = results
    assert isinstance(one, Refusal), one
    return str(one.code)


async def test_two_officers_let_a_version_go_once_it_is_empty(served: Fleet, acme: House) -> None:
    worker = await bulk(served)
    try:
        # Given stored DEKs, and an officer who wants the old version to go with the campaign
        deks = await filled(acme, 120)
        await rotated(served, acme)
        asked = CampaignStartBody(tenant=acme.tenant, key=acme.key, destroy_after_s=1800)
        with pytest.raises(Pending) as waiting:
            await (await served.officer()).command(Operation.CAMPAIGN_START, asked)
        assert await facts(served, acme.tenant, "keyriver.campaign.started.v1") == 0
        # When another officer agrees, Then it is scheduled for destruction once nothing is left, and can be kept
        await served.approve(waiting.value.approval)
        assert (await ended(served, await started(served, acme))).state is CampaignState.DONE
        assert await _state(served, acme) is State.DESTROY_SCHEDULED
        assert await facts(served, acme.tenant, "keyriver.key.destruction.scheduled.v1") == 1
        await served.command(
            Operation.KEY_CANCEL_DESTROY, KeyCancelDestroyBody(tenant=acme.tenant, key=acme.key, version=1)
        )
        assert await _state(served, acme) is State.DEACTIVATED
        # When the grace of the next one is over, Then it is gone, and every DEK is what it was
        await rotated(served, acme)
        view = await started(served, acme, destroy_after_s=1)
        assert (await ended(served, view)).state is CampaignState.DONE
        deadline = time.monotonic() + WAIT_S
        while await _state(served, acme, 2) is not State.DESTROYED:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
        await unwrapped(acme, deks, 3)
    finally:
        await stopped(served, worker)


async def test_a_version_that_blobs_outside_need_is_never_scheduled(served: Fleet, acme: House) -> None:
    worker = await bulk(served)
    try:
        await filled(acme, 20)
        await acme.client.generate(acme.key, 1, store=False)
        await rotated(served, acme)
        view = await ended(served, await started(served, acme, destroy_after_s=1))
        assert (view.state, view.issued_outside) == (CampaignState.DONE, 1)
        assert await _state(served, acme) is State.DEACTIVATED
        assert await facts(served, acme.tenant, "keyriver.key.destruction.scheduled.v1") == 0
    finally:
        await stopped(served, worker)


async def _state(fleet: Fleet, house: House, version: int = 1) -> State:
    (found,) = [one for one in (await key_of(fleet, house)).key.versions if one.number == version]
    return State(found.state)
