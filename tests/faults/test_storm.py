"""A storm: two clients, two workers; workers are killed and frozen, broker and database restarted, all at random.

What is done when follows from a seed and from the progress of the work, so a storm can be run again:
KEYRIVER_STORM_SEED and KEYRIVER_STORM_SIZE (items). `make test` has one of 20,000 items, `make storm` ten times that.
"""

import asyncio
import json
import os
from base64 import b64decode
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

import pytest

from tests.faults.weather import Weather, supervised
from tests.fleet import Fleet, House
from tests.processes import until
from tests.scribe import open_deks
from tests.stack import Services
from worker.client.results import Rewrapped, Unwrapped, WrappedDek
from worker.local import Stack, Token
from worker.model.bodies import DekItem, KeyRotateBody, RewrapItem
from worker.model.operations import Operation
from worker.model.records import Headers
from worker.model.topics import Lane, dead_letter_topic
from worker.seal.identity import Identity

SEED = int(os.environ.get("KEYRIVER_STORM_SEED", "4711"))
SIZE = int(os.environ.get("KEYRIVER_STORM_SIZE", "200000"))
SIZES = (1, 1, 1, 2, 5, 10, 20, 50, 100, 300, 1000)
SMALL = 20_000
AT_ONCE = 4
"""Requests under way per client."""
FAULTS = 20
PATIENCE_S = 600.0


@dataclass(slots=True)
class Storm:
    """What was made so far, in which weather."""

    weather: Weather
    size: int
    left: int
    deks: dict[UUID, tuple[House, dict[str, str], bytes]] = field(default_factory=dict, repr=False)

    @property
    def fleet(self) -> Fleet:
        """Whose storm it is."""
        return self.weather.fleet

    @property
    def chance(self) -> Random:
        """What decides."""
        return self.weather.chance

    @property
    def done(self) -> int:
        """DEKs that were made and answered."""
        return len(self.deks)


@pytest.fixture(scope="module")
async def fleet(own_stack: Stack, kryoptic: Token, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A fleet on a stack of its own."""
    services = Services(own_stack.kafka.bootstrap, own_stack.postgres.dsn())
    async with Fleet.founded(services, tmp_path_factory.mktemp("storm"), kryoptic, partitions=4) as founded:
        yield founded


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    "size", [SMALL, pytest.param(SIZE, marks=pytest.mark.storm)], ids=lambda size: f"{size}-items-of-seed-{SEED}"
)
async def test_a_storm_loses_nothing_and_doubles_nothing(fleet: Fleet, own_stack: Stack, size: int) -> None:
    # Given two workers and two clients, each with a tenant of its own
    chance = Random(SEED)  # noqa: S311 - must be repeatable
    async with supervised(Weather(fleet, own_stack, chance, [tuple(Lane)] * 2)) as weather:
        storm = Storm(weather, size, size)
        houses = [await fleet.tenant(timeout_s=PATIENCE_S) for _ in range(2)]

        # When they work while everything fails in turn
        async with asyncio.timeout(PATIENCE_S * max(1, size // SMALL)), asyncio.TaskGroup() as tasks:
            tasks.create_task(_blow(storm, houses))
            for house in houses:
                for _ in range(AT_ONCE):
                    tasks.create_task(_work(storm, house, Random(chance.random())))  # noqa: S311
        assert weather.faults["kill"] + weather.faults["freeze"] >= FAULTS
        assert weather.faults["broker"] == weather.faults["database"] == 1

        # Then what was answered is what is there, once
        await fleet.caught_up(seconds=120)
        await _stored_once(storm)
        await _all_read_back(storm)
        await _answers_agree(storm)


async def _work(storm: Storm, house: House, chance: Random) -> None:
    """Make DEKs, in the token or by ourselves; read some back; move some."""
    while storm.left > 0:
        count = min(chance.choice(SIZES), storm.left)
        storm.left -= count
        contexts = [{"row": str(chance.randrange(1000))} for _ in range(count)]
        if chance.random() < 0.5:
            made = await house.client.generate(house.key, contexts=contexts)
            sealed = [one.dek or b"" for one in made if isinstance(one, WrappedDek)]
        else:
            sealed = [chance.randbytes(32) for _ in range(count)]
            made = await house.client.wrap(house.key, sealed, contexts=contexts)
        ids = [one.id for one in made if isinstance(one, WrappedDek) and one.id is not None]
        assert len(ids) == count == len(sealed), (
            f"refused: {[one for one in made if not isinstance(one, WrappedDek)][:3]}"
        )
        assert not storm.deks.keys() & set(ids), "an id was given twice"
        storm.deks |= {one: (house, context, dek) for one, context, dek in zip(ids, contexts, sealed, strict=True)}
        some = chance.sample(ids, min(len(ids), 20))
        if chance.random() < 0.5:
            await _read_back(storm, some)
        elif chance.random() < 0.5:
            moved = await house.client.rewrap([RewrapItem(id=one) for one in some])
            assert [one.id for one in moved if isinstance(one, Rewrapped)] == some, moved


async def _blow(storm: Storm, houses: list[House]) -> None:
    """One fault after each stretch of the work; the broker and the database fall once, a key is rotated three times."""
    chance = storm.chance
    deeds = ["strike"] * FAULTS * max(1, storm.size // SMALL) + ["broker", "database"] + ["rotate"] * 3
    chance.shuffle(deeds)
    for number, deed in enumerate(deeds, 1):
        await _progress(storm, number * storm.size // (len(deeds) + 2))
        if deed == "strike":
            storm.weather.strike()
        elif deed == "rotate":
            await _rotate(storm, chance.choice(houses))
        else:
            await storm.weather.restart(deed)
    await asyncio.gather(*storm.weather.thawing)


async def _progress(storm: Storm, goal: int) -> None:
    await until(lambda: storm.done >= goal, f"{goal} items are done", PATIENCE_S)


async def _rotate(storm: Storm, house: House) -> None:
    officer = await storm.fleet.officer()
    await officer.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.key))
    storm.weather.faults["rotation"] += 1


async def _stored_once(storm: Storm) -> None:
    """The rows are those that were answered: none is missing, none was stored beside them; the census agrees."""
    pool = storm.fleet.pool
    stored = [row["id"] for row in await pool.fetch("SELECT id FROM keyriver.deks")]
    assert len(stored) == len(storm.deks) == storm.size
    assert set(stored) == storm.deks.keys()
    assert await pool.fetchval("SELECT sum(stored) FROM keyriver.census_totals") == storm.size
    unlike = """SELECT count(*) FROM keyriver.census_totals AS c
                FULL JOIN (SELECT key, version, count(*) AS rows FROM keyriver.deks GROUP BY key, version) AS d
                USING (key, version) WHERE coalesce(c.stored, 0) <> coalesce(d.rows, 0)"""
    assert await pool.fetchval(unlike) == 0


async def _all_read_back(storm: Storm) -> None:
    for house in {house.tenant: house for house, _, _ in storm.deks.values()}.values():
        await _read_back(storm, [one for one, (owner, _, _) in storm.deks.items() if owner is house])


async def _read_back(storm: Storm, ids: list[UUID]) -> None:
    """Each of these unwraps, under its context, to the DEK that was sealed when it was made."""
    made = [storm.deks[one] for one in ids]
    items = [DekItem(id=one, context=context) for one, (_, context, _) in zip(ids, made, strict=True)]
    back = await made[0][0].client.unwrap(items)
    refused = [one for one in back if not isinstance(one, Unwrapped)]
    assert not refused, refused[:3]
    assert all(one.dek == dek for one, (_, _, dek) in zip(back, made, strict=True) if isinstance(one, Unwrapped))


async def _answers_agree(storm: Storm) -> None:
    """Every request that stands in a topic was answered; no two answers to one of them name other DEKs or versions."""
    topics = storm.fleet.topics
    async with storm.fleet.tap(topics.wrap, topics.rewrap, topics.unwrap, topics.rotate, topics.replies) as tap:
        entries = await tap.to_end()
    clients = {house.identity.client: house.identity for house, _, _ in storm.deks.values()}
    asked: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    answered: Counter[str] = Counter()
    said: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    for entry in sorted(entries, key=lambda entry: entry.partition.topic == topics.replies):
        headers = _texts(entry.headers)
        name = headers["ce_id"]
        if entry.partition.topic != topics.replies:
            asked[name].append(headers)
            continue
        answered[name] += 1
        if headers["ce_type"] == "keyriver.wrap.v1.reply":
            request = asked[name][0]
            for index, result in _results(entry.value or b"", request, clients[request["ce_client"]]):
                said[name, index].add(result)
    # A client that hears nothing asks again, so a lost record would not be missed by it; hence each record is counted.
    assert not [name for name, records in asked.items() if answered[name] < len(records)], "a record was lost"
    unequal = [place for place, results in said.items() if len(results) > 1]
    assert not unequal, f"answers disagree on {len(unequal)} items"
    graves = [dead_letter_topic(topic) for topic in (topics.wrap, topics.rewrap, topics.unwrap, topics.rotate)]
    async with storm.fleet.tap(*graves, topics.undelivered) as tap:
        assert not await tap.to_end(), "somebody was dead-lettered"


def _results(value: bytes, request: dict[str, str], client: Identity) -> Iterator[tuple[int, str]]:
    """What an answer says of each item that succeeded, its DEK included; what is refused may succeed later."""
    reply = json.loads(value)
    results = reply.get("results", [])
    deks = [b""] * len(results)
    if "sealed" in reply:
        sealed = b64decode(reply["sealed"]["ciphertext"])
        deks = open_deks(client, Operation.WRAP, request["ce_id"], sealed, len(results))
    for index, (result, dek) in enumerate(zip(results, deks, strict=True)):
        if "code" not in result:
            yield index, json.dumps(result) + dek.hex()


def _texts(headers: Headers) -> dict[str, str]:
    return {name: value.decode() for name, value in headers}
