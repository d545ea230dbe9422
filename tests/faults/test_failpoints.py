"""Every failpoint × {kill, freeze past the session timeout and go on, error} × five operations: D11.

In each run one doomed process takes the four interactive requests as one batch and another the rewrap; both stop at
the same point, in the way that the run is about. A healthy worker then takes over, and what it finds must add up.
"""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from tests.fleet import Fleet, House
from tests.processes import Member, until
from tests.scribe import Answer, Draft, Scribe
from worker.client.answers import Rewrap, Unwrap, Wrap
from worker.client.results import Unwrapped, WrappedDek
from worker.flow.failpoints import NAMES
from worker.model.bodies import (
    DekItem,
    KeyCreateBody,
    KeyRotateBody,
    RewrapBody,
    RewrapItem,
    UnwrapBody,
    WrapBody,
    WrapItem,
)
from worker.model.operations import Operation
from worker.model.replies import KeyResult
from worker.model.topics import Lane

ACTIONS = ("kill", "freeze", "error")
ANSWERED = ("published", "committed")
ITEMS = 3


@dataclass(frozen=True, slots=True)
class Stage:
    """What all runs share: a fleet, a tenant with DEKs under an old version, and its scribes."""

    fleet: Fleet
    house: House
    scribe: Scribe
    officer: Scribe
    olds: list[WrappedDek] = field(repr=False)
    key: UUID


@dataclass(frozen=True, slots=True)
class Requests:
    """The five requests of one run."""

    generate: Draft
    wrap: Draft
    deks: list[bytes] = field(repr=False)
    unwrap: Draft
    rewrap: Draft
    read: list[WrappedDek] = field(repr=False)
    moved: list[WrappedDek] = field(repr=False)
    create: Draft
    alias: str

    @property
    def interactive(self) -> tuple[Draft, ...]:
        return self.generate, self.wrap, self.unwrap


@pytest.fixture(scope="module")
async def stage(fleet: Fleet) -> AsyncIterator[Stage]:
    founder = fleet.start()
    house = await fleet.tenant()
    made = await house.client.generate(house.key, 2 * ITEMS * len(NAMES) * len(ACTIONS))
    olds = [one for one in made if isinstance(one, WrappedDek)]
    officer = await fleet.officer()
    rotated = await officer.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.key))
    assert isinstance(rotated, KeyResult)
    assert await founder.terminated() == 0
    async with Scribe(fleet, house.identity) as scribe, Scribe(fleet, fleet.officers[0]) as commanding:
        yield Stage(fleet, house, scribe, commanding, olds, rotated.key.id)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("point", NAMES)
async def test_the_effect_is_there_once_and_answered(stage: Stage, point: str, action: str) -> None:
    # Given five requests that wait for a worker
    requests = _write(stage)
    before = await _count(stage.fleet)
    for draft in (*requests.interactive, requests.rewrap):
        await stage.scribe.send(draft)
    await stage.officer.send(requests.create)

    # When the workers that take them stop at this point, and a healthy one takes over
    doomed = [
        stage.fleet.start(lanes=lanes, failpoints=f"{point}={action}")
        for lanes in ([Lane.CONTROL, Lane.INTERACTIVE], [Lane.BULK])
    ]
    await _doomed(stage, doomed, point, action)
    if action != "error":
        assert await _told(stage, requests) == [int(point in ANSWERED)] * 5  # under way together, not one by one
        healthy = stage.fleet.start()

    # Then each request is answered, and what is frozen says nothing more when it goes on: it lost its partitions
    answers = [await stage.scribe.answer(draft.id) for draft in (*requests.interactive, requests.rewrap)]
    await stage.officer.answer(requests.create.id)
    await stage.fleet.caught_up()
    if action == "freeze":
        told = await _told(stage, requests)
        for member in doomed:
            member.thaw()
        await stage.fleet.at_work(2, [Lane.INTERACTIVE, Lane.BULK])
        assert await _told(stage, requests) == told

    # And its effect is there once, as all its answers say
    await _adds_up(stage, requests, before)
    await _reads_back(stage, requests, answers)
    living = [*([] if action == "kill" else doomed), *([] if action == "error" else [healthy])]
    for member in living:
        assert await member.terminated() == 0, member.log[-2000:]


def _write(stage: Stage) -> Requests:
    house, scribe = stage.house, stage.scribe
    read, moved = ([stage.olds.pop() for _ in range(ITEMS)] for _ in range(2))
    deks = [os.urandom(32) for _ in range(ITEMS)]
    generating = WrapBody(key=house.key, items=[WrapItem()] * ITEMS, return_dek=True)
    unwrapping = UnwrapBody(items=[DekItem(id=one.id) for one in read])
    moving = RewrapBody(items=[RewrapItem(id=one.id) for one in moved])
    alias = f"{house.tenant}/eu/{moved[0].id}"
    creating = KeyCreateBody(tenant=house.tenant, parent=house.upper, alias=alias)
    return Requests(
        generate=scribe.draft(Operation.WRAP, generating.model_dump_json().encode(), plaintext=True),
        wrap=scribe.wrapping(house.key, deks),
        deks=deks,
        unwrap=scribe.draft(Operation.UNWRAP, unwrapping.model_dump_json(exclude_none=True).encode(), plaintext=True),
        rewrap=scribe.draft(Operation.REWRAP, moving.model_dump_json(exclude_none=True).encode()),
        read=read,
        moved=moved,
        create=stage.officer.draft(Operation.KEY_CREATE, creating.model_dump_json().encode()),
        alias=alias,
    )


async def _doomed(stage: Stage, doomed: list[Member], point: str, action: str) -> None:
    """Wait until the point was really hit, by both."""
    if action == "kill":
        assert [await member.ended() for member in doomed] == [-9, -9]
    elif action == "freeze":
        await until(lambda: all(member.is_frozen for member in doomed), f"both freeze at {point}")
    else:
        said = f"FailpointError('{point}')"
        await until(lambda: all(said in member.log for member in doomed), f"both meet the error at {point}")
    if action == "error" and point != "committed":
        assert "a batch of 4 records failed" in doomed[0].log  # all four had come to the point together
        assert "a batch of 1 records failed" in doomed[1].log


async def _told(stage: Stage, requests: Requests) -> list[int]:
    """How many answers each request has."""
    told = [await stage.scribe.so_far(draft.id) for draft in (*requests.interactive, requests.rewrap)]
    return [len(answers) for answers in (*told, await stage.officer.so_far(requests.create.id))]


async def _count(fleet: Fleet) -> dict[str, int]:
    """How many rows there are of what the requests make."""
    row = await fleet.pool.fetchrow(
        """SELECT (SELECT count(*) FROM keyriver.deks) AS deks,
                  (SELECT count(*) FROM keyriver.keys) AS keys,
                  (SELECT count(*) FROM keyriver.versions) AS versions,
                  (SELECT count(*) FROM keyriver.aliases) AS aliases,
                  (SELECT count(*) FROM keyriver.ledger) AS ledger,
                  (SELECT sum(stored) FROM keyriver.census_totals) AS census"""
    )
    assert row is not None
    return {name: int(value) for name, value in row.items()}


async def _adds_up(stage: Stage, requests: Requests, before: dict[str, int]) -> None:
    fleet = stage.fleet
    made = {"deks": 2 * ITEMS, "keys": 1, "versions": 1, "aliases": 1, "ledger": 4, "census": 2 * ITEMS}
    after = await _count(fleet)
    assert {name: after[name] - before[name] for name in made} == made

    generated = await _agreeing(stage.scribe, requests.generate)
    wrapped = await _agreeing(stage.scribe, requests.wrap)
    unwrapped = await _agreeing(stage.scribe, requests.unwrap)
    moved = await _agreeing(stage.scribe, requests.rewrap)
    created = await _agreeing(stage.officer, requests.create)
    ids = [one.id for one in [*generated.results, *wrapped.results] if isinstance(one, Wrap)]
    assert len(set(ids)) == 2 * ITEMS
    assert await fleet.pool.fetchval("SELECT count(*) FROM keyriver.deks WHERE id = ANY ($1)", ids) == 2 * ITEMS
    assert unwrapped.deks == [one.dek for one in requests.read]
    assert [one.id for one in moved.results if isinstance(one, Rewrap)] == [one.id for one in requests.moved]
    versions = "SELECT count(*) FROM keyriver.deks WHERE id = ANY ($1) AND key = $2 AND version = 2"
    assert await fleet.pool.fetchval(versions, [one.id for one in requests.moved], stage.key) == ITEMS
    (key,) = created.results
    assert isinstance(key, KeyResult)
    assert await fleet.pool.fetchval("SELECT key FROM keyriver.aliases WHERE name = $1", requests.alias) == key.key.id
    for draft in (*requests.interactive, requests.rewrap, requests.create):
        leaves = "SELECT count(*) FROM keyriver.leaves WHERE convert_from(body, 'UTF8')::jsonb ->> 'request' = $1"
        assert await fleet.pool.fetchval(leaves, draft.id) >= 1, draft.type
    told = "type = 'keyriver.key.created.v1' AND convert_from(body, 'UTF8') LIKE '%' || $1 || '%'"
    facts = f"SELECT count(*) FROM keyriver.outbox WHERE {told}"  # noqa: S608
    assert await fleet.pool.fetchval(facts, requests.alias) == 1


async def _agreeing(scribe: Scribe, draft: Draft) -> Answer:
    """All answers to a request, as one: every one of them is a success, and they say the same."""
    first, *others = await scribe.so_far(draft.id)
    assert not first.code, first.code
    assert not any(first.codes), first.codes
    assert all(other == first for other in others)
    return first


async def _reads_back(stage: Stage, requests: Requests, answers: list[Answer]) -> None:
    """Every stored DEK comes back as the one that was sealed in the answer, or sent."""
    generated, wrapped, unwrapped, _ = answers
    ids = [one.id for one in [*generated.results, *wrapped.results] if isinstance(one, Wrap)]
    assert all(isinstance(one, Unwrap) for one in unwrapped.results)
    back = await stage.house.client.unwrap([DekItem(id=one) for one in ids])
    assert [one.dek for one in back if isinstance(one, Unwrapped)] == generated.deks + requests.deks
