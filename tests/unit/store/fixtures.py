"""Fixtures of the store's suites: imported by name, since they are of no use to other tests."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.unit.store.builders import Chain, chain, command
from tests.unit.store.rooms import Room, fake_room, migrated, postgres_room
from worker.edges.store.pool import Pool
from worker.edges.store.store import PostgresStore
from worker.model.effects import Settled


@pytest.fixture(scope="module")
def fake() -> Room:
    return fake_room()


@pytest.fixture(scope="module")
async def pool(database: str) -> AsyncIterator[Pool]:
    async with migrated(database) as made:
        yield made


@pytest.fixture(scope="module")
def real(pool: Pool) -> Room:
    return postgres_room(pool)


@pytest.fixture(scope="module", params=["fake", "real"])
def room(request: pytest.FixtureRequest) -> Room:
    """Each of the two in turn."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Room)
    return found


@pytest.fixture
def store(pool: Pool) -> PostgresStore:
    return PostgresStore(pool)


@pytest.fixture
async def founded(room: Room) -> Chain:
    """A chain in the room."""
    return await _found(room)


@pytest.fixture
async def acme(real: Room) -> Chain:
    """A chain in Postgres."""
    return await _found(real)


@pytest.fixture
async def raw(database: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection of somebody else's."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def _found(room: Room) -> Chain:
    made = chain()
    assert await room.store.settle([command(*made.rows)]) == [Settled()]
    return made
