"""Two workers meet the same thing at the same moment: the same request, the same name, the same key."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest

from tests.fleet import Fleet, House
from tests.scribe import Draft, Scribe
from worker.client import KeyriverClient
from worker.client.answers import Wrap
from worker.client.results import ItemError, Rewrapped, WrappedDek
from worker.model.bodies import KeyCreateBody, KeyRotateBody, RewrapItem, WrapBody, WrapItem
from worker.model.operations import Operation
from worker.model.replies import KeyResult

TWINS = 60


@pytest.fixture(scope="module", autouse=True)
async def two_workers(fleet: Fleet) -> AsyncIterator[None]:
    """At work, each with one partition of every topic."""
    workers = [fleet.start(), fleet.start()]
    await fleet.at_work(2)
    yield
    for worker in workers:
        assert await worker.terminated() == 0


async def test_the_same_request_in_two_partitions(fleet: Fleet) -> None:
    # Given requests for DEKs, of both kinds
    house = await fleet.tenant()
    async with Scribe(fleet, house.identity) as scribe:
        body = WrapBody(key=house.key, items=[WrapItem()] * 3, return_dek=True).model_dump_json().encode()
        drafts = [
            scribe.draft(Operation.WRAP, body, plaintext=True)
            if number % 2
            else scribe.wrapping(house.key, [os.urandom(32) for _ in range(3)])
            for number in range(TWINS)
        ]
        # When each stands in both partitions at once, twice
        await asyncio.gather(*[scribe.send(draft, partition) for draft in drafts for partition in (0, 1, 1, 0)])
        # Then all four answers to each say the same, and what they name is there once
        ids = [one for draft in drafts for one in await _agreed(scribe, draft)]
    assert len(set(ids)) == 3 * TWINS
    key = "SELECT key FROM keyriver.aliases WHERE name = $1"
    stored = await fleet.pool.fetch(f"SELECT id FROM keyriver.deks WHERE key = ({key})", house.key)  # noqa: S608
    assert Counter(row["id"] for row in stored) == Counter(ids)
    await fleet.caught_up()


async def _agreed(scribe: Scribe, draft: Draft) -> list[object]:
    answers = await scribe.answers(draft.id, 4)
    assert not answers[0].code
    assert not any(answers[0].codes)
    assert all(answer == answers[0] for answer in answers)
    return [one.id for one in answers[0].results if isinstance(one, Wrap)]


async def test_one_name_for_two_keys(fleet: Fleet) -> None:
    # Given two officers who want the same alias
    house = await fleet.tenant()
    alias = f"{house.upper}/wanted"
    body = KeyCreateBody(tenant=house.tenant, parent=house.upper, alias=alias).model_dump_json().encode()
    async with Scribe(fleet, fleet.officers[0]) as alice, Scribe(fleet, fleet.officers[1]) as bob:
        # When both create it at once, in two partitions
        drafts = [(who, who.draft(Operation.KEY_CREATE, body)) for who in (alice, bob)]
        await asyncio.gather(*[who.send(draft, number) for number, (who, draft) in enumerate(drafts)])
        answers = [await who.answer(draft.id) for who, draft in drafts]
    # Then one has it, and the other is told that it exists
    (made,) = [one for answer in answers for one in answer.results if isinstance(one, KeyResult)]
    assert sorted(answer.codes[0] for answer in answers) == ["", "EXISTS"]
    assert await fleet.pool.fetchval("SELECT key FROM keyriver.aliases WHERE name = $1", alias) == made.key.id


async def test_rotations_and_wraps_of_one_key(fleet: Fleet) -> None:
    # Given a key that is used all the time
    house = await fleet.tenant()
    officers = [await fleet.officer(0), await fleet.officer(1)]
    body = KeyRotateBody(tenant=house.tenant, key=house.key)
    stop = asyncio.Event()
    using = [asyncio.create_task(_use(house, stop)) for _ in range(4)]
    # When two officers rotate it five times each, as fast as they can
    rotated = await asyncio.gather(*[_rotate(officer, body) for officer in officers])
    stop.set()
    made = [one for each in await asyncio.gather(*using) for one in each]
    # Then the versions follow each other without a hole, one is active, and all others are retired
    assert sorted(number for each in rotated for number in each) == list(range(2, 12))
    rows = await fleet.pool.fetch("SELECT number, state FROM keyriver.versions WHERE key = $1", made[0].key)
    states = {row["number"]: row["state"] for row in rows}
    assert states == {number: "active" if number == 11 else "deactivated" for number in range(1, 12)}
    # And whatever was made meanwhile can be moved to the last one, and is counted where it stands
    for some in range(0, len(made), 500):
        moved = await house.client.rewrap([RewrapItem(id=one.id) for one in made[some : some + 500]])
        assert {one.version for one in moved if isinstance(one, Rewrapped)} == {11}, _errors(moved)
    counted = await fleet.pool.fetch(
        "SELECT version, stored FROM keyriver.census_totals WHERE key = $1 AND stored <> 0", made[0].key
    )
    assert [(row["version"], row["stored"]) for row in counted] == [(11, len(made))]


async def _use(house: House, stop: asyncio.Event) -> list[WrappedDek]:
    made: list[WrappedDek] = []
    while not stop.is_set():
        fresh = await house.client.generate(house.key, 5)
        assert not _errors(fresh)
        made += [one for one in fresh if isinstance(one, WrappedDek)]
    return made


async def _rotate(officer: KeyriverClient, body: KeyRotateBody) -> list[int]:
    numbers = []
    for _ in range(5):
        done = await officer.command(Operation.KEY_ROTATE, body)
        assert isinstance(done, KeyResult)
        numbers.append(done.key.active_version)
    return numbers


def _errors(results: Sequence[object]) -> list[object]:
    return [one for one in results if isinstance(one, ItemError)]
