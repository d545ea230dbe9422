"""S15: a destruction waits until every living worker has let go of the key, and for a frozen one until it is over."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.fleet import Fleet
from tests.processes import until
from tests.stack import Services
from worker.client import Unwrapped, WrappedDek
from worker.local import softhsm
from worker.model.bodies import DekItem, KeyRotateBody
from worker.model.control import KeyDestroyBody
from worker.model.operations import Operation

SESSION_S = 12
WAIT_S = 60.0


@pytest.fixture
async def pair(stack: Services, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A development fleet of two workers, whose destructions have no grace."""
    folder = tmp_path_factory.mktemp("pair")
    settings = {"destroy_grace_s": 0, "recoverable_days": 30, "worker_session_s": SESSION_S}
    async with Fleet.founded(stack, folder, softhsm.token(folder / "token"), **settings) as founded:
        founded.start()
        await founded.at_work(1)
        founded.start()
        await founded.at_work(2)
        yield founded


async def test_a_frozen_worker_is_waited_for_until_its_session_is_over(pair: Fleet) -> None:
    # Given a key whose handle both workers may hold, and a version that nothing needs any more but one blob outside
    house = await pair.tenant()
    made = await house.client.generate(house.key, 40)
    assert all(isinstance(one, WrappedDek) for one in made)
    await pair.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.key))
    # When one of them freezes that does not carry out what is due, and two officers destroy the old version
    leader = await leading(pair)
    frozen, awake = sorted(pair.members, key=lambda member: leader.endswith(f"/{member.pid}"))
    frozen.freeze()
    await until(lambda: frozen.is_frozen, "one of the two is frozen")
    body = KeyDestroyBody(tenant=house.tenant, key=house.key, version=1, force=house.key)
    await pair.command(Operation.KEY_DESTROY, body)
    # Then the other one waits for it by name, and at no moment it is destroyed while the frozen one counts as alive
    seen: set[tuple[str, bool]] = set()
    deadline = time.monotonic() + WAIT_S
    while ("destroyed", False) not in seen:
        assert time.monotonic() < deadline, seen
        seen.add(await looked(pair, frozen.pid))
        await asyncio.sleep(0.05)
    assert ("destroyed", True) not in seen
    assert "waits for" in awake.log
    assert f"/{frozen.pid}" in awake.log
    # And when it goes on, it serves the new version and says nothing of the old one
    frozen.thaw()
    await pair.at_work(2)
    back = await house.client.unwrap([DekItem(id=one.id) for one in made if isinstance(one, WrappedDek)])
    assert not any(isinstance(one, Unwrapped) for one in back)
    (fresh,) = await house.client.generate(house.key)
    assert isinstance(fresh, WrappedDek)
    for member in pair.members:
        assert await member.terminated() == 0, member.log[-2000:]


async def leading(fleet: Fleet) -> str:
    """Wait until one of them carries out what is due."""
    async with asyncio.timeout(WAIT_S):
        while not (holder := await fleet.pool.fetchval("SELECT holder FROM keyriver.duties WHERE name LIKE 'due/%'")):
            await asyncio.sleep(0.05)
    return str(holder)


async def looked(fleet: Fleet, pid: int) -> tuple[str, bool]:
    """The old version's state, and whether the frozen worker's session holds; both of one moment."""
    row = await fleet.pool.fetchrow(
        """SELECT (SELECT v.state FROM keyriver.versions AS v WHERE v.number = 1 AND v.state LIKE 'destroy%'),
                  (SELECT w.expires >= clock_timestamp() FROM keyriver.workers AS w WHERE w.name LIKE $1)""",
        f"%/{pid}",
    )
    assert row is not None
    return str(row[0]), bool(row[1])
