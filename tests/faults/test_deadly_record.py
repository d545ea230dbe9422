"""A record that kills whoever touches it (D5): it is found out, set aside and answered; its neighbours are served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.fleet import Fleet
from tests.processes import Member
from tests.scribe import Draft, Scribe
from worker.model.bodies import WrapBody, WrapItem
from worker.model.operations import Operation
from worker.model.records import Entry
from worker.model.topics import dead_letter_topic

DEATHS = 3
"""In company before it is suspected, and alone before it is buried."""


@pytest.mark.parametrize(
    ("stage", "graves"),
    [
        pytest.param("decide", 1, id="in the middle of the river"),
        # Even whoever would bury it dies of it, so it is set aside unread, and can't be answered.
        pytest.param("open", 2, id="as soon as it is read", marks=pytest.mark.storm),
    ],
)
async def test_it_is_buried_and_its_neighbours_are_served(fleet: Fleet, stage: str, graves: int) -> None:
    # Given nine requests in one partition, the fifth of which kills its worker
    founder = fleet.start()
    house = await fleet.tenant()
    assert await founder.terminated() == 0
    async with Scribe(fleet, house.identity) as scribe:
        body = WrapBody(key=house.key, items=[WrapItem()]).model_dump_json().encode()
        drafts = [scribe.draft(Operation.WRAP, body) for _ in range(9)]
        deadly = scribe.draft(Operation.WRAP, body, request_id=f"deadly-{drafts[4].id}")
        drafts[4] = deadly
        for draft in drafts:
            await scribe.send(draft, partition=0)

        before = await fleet.pool.fetchval("SELECT count(*) FROM keyriver.deks")

        # When a supervisor starts a worker whenever one has died
        async with _supervised(fleet, f"{stage}:deadly") as lives:
            # Then all the others are answered, once each in effect
            for draft in drafts:
                if draft is not deadly:
                    answer = await scribe.answers(draft.id, seconds=90)
                    assert not answer[0].code
            assert await fleet.pool.fetchval("SELECT count(*) FROM keyriver.deks") - before == len(drafts) - 1
            # And it is dead-lettered with its bytes, and answered if that could be
            async with fleet.tap(dead_letter_topic(fleet.topics.wrap)) as tap:
                letters = await tap.until(lambda entries: any(_is_of(deadly, one) for one in entries), "its letter", 60)
            (letter,) = [one for one in letters if _is_of(deadly, one)]
            assert (letter.value, dict(letter.headers)["keyriver-dlq-code"]) == (body, b"POISON")
            await fleet.caught_up()
            told = [answer.code for answer in await scribe.so_far(deadly.id)]
            assert told == (["POISON"] if stage == "decide" else [])
            assert DEATHS < len(lives) - 1 <= DEATHS * (graves + 2)
            assert lives[-1].is_running
            assert await lives[-1].terminated() == 0


def _is_of(draft: Draft, entry: Entry) -> bool:
    return dict(entry.headers).get("ce_id") == draft.id.encode()


@asynccontextmanager
async def _supervised(fleet: Fleet, deadly: str) -> AsyncIterator[list[Member]]:
    """All workers that lived, the last one at work."""
    lives: list[Member] = []

    async def watch() -> None:
        while True:
            lives.append(fleet.start(test_deadly=deadly))
            while lives[-1].is_running:
                await asyncio.sleep(0.02)
            if await lives[-1].ended() == 0:
                return

    watching = asyncio.create_task(watch())
    try:
        yield lives
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
