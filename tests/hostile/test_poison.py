"""A record that kills its worker ends as a dead letter after three deaths alone, and holds nobody back (D5).

On kryoptic: SIGKILL inside a login destroys a SoftHSM2 token (FACTS 2.8).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.fleet import Fleet
from tests.hostile.docket import origin_of
from tests.hostile.dying import DECIDING, MARK, READING, born
from tests.hostile.forging import added
from tests.scribe import Scribe
from tests.stack import Services
from worker.local import Token
from worker.model.bodies import RewrapBody, RewrapItem, WrapBody, WrapItem
from worker.model.operations import Operation
from worker.model.records import Entry
from worker.model.topics import Lane, dead_letter_topic

LANES = ([Lane.CONTROL, Lane.INTERACTIVE], [Lane.BULK])
PATIENCE_S = 90.0
DEATHS = 3


@pytest.fixture
async def fleet(stack: Services, kryoptic: Token, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A fleet of its own, whose workers may be killed."""
    async with Fleet.founded(stack, tmp_path_factory.mktemp("poison"), kryoptic) as founded:
        yield founded


@asynccontextmanager
async def supervised(fleet: Fleet) -> AsyncIterator[list[int]]:
    """A process for each pair of lanes, started again whenever it dies; how often that was."""
    deaths = [0, 0]
    living = [fleet.start(lanes=lanes, born=born) for lanes in LANES]

    async def watch() -> None:
        while True:
            for place, lanes in enumerate(LANES):
                if not living[place].is_running:
                    deaths[place] += 1
                    living[place] = fleet.start(lanes=lanes, born=born)
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    try:
        yield deaths
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def test_a_record_that_kills_its_worker_is_buried_and_its_neighbours_are_served(fleet: Fleet) -> None:
    async with supervised(fleet) as deaths:
        house = await fleet.tenant(timeout_s=PATIENCE_S)
        async with Scribe(fleet, house.identity) as scribe:
            wrap = WrapBody(key=house.key, items=[WrapItem()]).model_dump_json().encode()
            move = RewrapBody(items=[RewrapItem(blob=b"no blob")]).model_dump_json(exclude_none=True).encode()
            first, killer, last = (scribe.draft(Operation.WRAP, wrap) for _ in range(3))
            bulk_killer, bulk_last = (scribe.draft(Operation.REWRAP, move) for _ in range(2))

            await scribe.send(first, partition=0)
            scribe.expect(killer)
            places = [
                await fleet.send(added(MARK, DECIDING)(killer.record(0))),
                await fleet.send(added(MARK, READING)(bulk_killer.record(0))),
            ]
            await scribe.send(last, partition=0)
            await scribe.send(bulk_last, partition=0)

            for draft in (first, last, bulk_last):
                (answer, *_) = await scribe.answers(draft.id, seconds=PATIENCE_S)
                assert answer.codes in ([""], ["UNWRAP_FAILED"])
            (told, *_) = await scribe.answers(killer.id, seconds=PATIENCE_S)
            assert told.code == "POISON"
            await fleet.caught_up(seconds=PATIENCE_S)
            assert not await scribe.so_far(bulk_killer.id)
        deaths_before = list(deaths)
        # Three until it is suspected and three alone; more when the first three did not begin at its own offset.
        assert 2 * DEATHS <= deaths_before[0] <= 3 * DEATHS
        # And three more alone, for reading it killed whoever was to bury it.
        assert 3 * DEATHS <= deaths_before[1] <= 4 * DEATHS
        made = await house.client.generate(house.key, 3)
        assert len(made) == 3
        assert deaths == deaths_before
        topics = (killer.topic, bulk_killer.topic)
        async with fleet.tap(*map(dead_letter_topic, topics)) as graves:
            letters = {origin_of(letter): letter for letter in await graves.to_end()}
    places_wanted = [(topic, *place) for topic, place in zip(topics, places, strict=True)]
    assert sorted(letters) == sorted(places_wanted)
    assert [_told(letters[place]) for place in places_wanted] == [(b"POISON", b"3"), (b"POISON", b"6")]


def _told(letter: Entry) -> tuple[bytes, bytes]:
    headers = dict(letter.headers)
    return headers["keyriver-dlq-code"], headers["keyriver-dlq-attempts"]
