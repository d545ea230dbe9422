"""Every failpoint of the due work × {kill, freeze and go on, error}: a layer 1 destruction happens once (D11, S15)."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from tests.fleet import Fleet, House
from tests.processes import until
from tests.stack import Services
from worker.flow.failpoints import DUE_NAMES
from worker.local import Token
from worker.model.bodies import KeyRotateBody
from worker.model.control import KeyDestroyBody
from worker.model.operations import Operation
from worker.model.replies import DestroyResult
from worker.model.topics import Lane

ACTIONS = ("kill", "freeze", "error")
WAIT_S = 60.0


@pytest.fixture(scope="module")
async def fleet(stack: Services, kryoptic: Token, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A fleet without workers, whose destructions have no grace."""
    settings = {"destroy_grace_s": 0, "recoverable_days": 30, "worker_session_s": 3600}
    async with Fleet.founded(stack, tmp_path_factory.mktemp("due"), kryoptic, **settings) as founded:
        yield founded


@pytest.fixture(scope="module")
async def houses(fleet: Fleet) -> list[House]:
    """One tenant for each run, whose L1 has a second version; made by a worker that has ended."""
    founder = fleet.start()
    made = [await fleet.tenant() for _ in range(len(DUE_NAMES) * len(ACTIONS))]
    for house in made:
        await fleet.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.tenant))
    assert await founder.terminated() == 0
    await forget_the_dead(fleet)
    return made


async def forget_the_dead(fleet: Fleet) -> None:
    """As if their sessions had run out, and the lease of whoever led."""
    await fleet.pool.execute("UPDATE keyriver.workers SET expires = clock_timestamp() - interval '1 second'")
    await fleet.pool.execute("UPDATE keyriver.duties SET until = clock_timestamp() - interval '1 second'")


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("point", DUE_NAMES)
async def test_a_destruction_happens_once(fleet: Fleet, houses: list[House], point: str, action: str) -> None:
    # Given a worker that will stop at this point of its due work, and a destruction that is due at once
    house = houses.pop()
    doomed = fleet.start(failpoints=f"{point}={action}")
    body = KeyDestroyBody(tenant=house.tenant, key=house.tenant, version=1, force=house.tenant)
    scheduled = await fleet.command(Operation.KEY_DESTROY, body)
    assert isinstance(scheduled, DestroyResult)
    key = scheduled.key.id
    # When it has stopped there, and another one takes over
    if action == "kill":
        assert await doomed.ended() == -9
    elif action == "freeze":
        await until(lambda: doomed.is_frozen, f"it freezes at {point}")
    else:
        await until(lambda: f"FailpointError('{point}')" in doomed.log, f"it meets the error at {point}")
    await forget_the_dead(fleet)
    healthy = fleet.start(lanes=[Lane.INTERACTIVE])
    # Then the version is destroyed, and that is told once, also when the frozen one goes on
    await destroyed(fleet, key)
    if action == "freeze":
        doomed.thaw()
        await fleet.at_work(2, [Lane.INTERACTIVE])
    assert await told(fleet, house.tenant) == 1
    for member in [healthy] if action == "kill" else [healthy, doomed]:
        assert await member.terminated() == 0, member.log[-2000:]
    await forget_the_dead(fleet)


async def destroyed(fleet: Fleet, key: UUID) -> None:
    """Wait until the row says so, and that nothing is to be done any more."""
    deadline = time.monotonic() + WAIT_S
    done = "SELECT state = 'destroyed' AND due_ms IS NULL FROM keyriver.versions WHERE key = $1 AND number = 1"
    while not await fleet.pool.fetchval(done, key):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def told(fleet: Fleet, tenant: str) -> int:
    sql = "SELECT count(*) FROM keyriver.outbox WHERE tenant = $1 AND type = 'keyriver.key.destroyed.v1'"
    return int(await fleet.pool.fetchval(sql, tenant))
