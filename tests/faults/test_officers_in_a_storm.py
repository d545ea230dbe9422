"""A storm in which officers rotate, suspend, disable and enable while workers die at failpoints and at random.

What they do follows from KEYRIVER_FIRE_SEED. Each key is one officer's at a time, so what it must be is known at every
moment: no rotation counts twice, and nothing that is produced after a disable was answered is unwrapped.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random

import pytest

from tests.faults.fire import SEED, Fire, on_fire
from tests.fleet import Fleet, House
from tests.stack import Services
from worker.client import ItemError, Unwrapped, WrappedDek
from worker.local import Token
from worker.model.bodies import CommandBody, DekItem, KeyRotateBody, KeyShowBody
from worker.model.control import KeyDisableBody, KeyEnableBody, KeyResumeBody, KeySuspendBody
from worker.model.operations import Operation
from worker.model.replies import DisableResult, KeyResult
from worker.model.rows import State

REIGNS = 3
"""Keys that are commanded at the same time."""
CYCLES = 6
DEATHS = 15
PATIENCE_S = 120.0


@pytest.fixture
async def fire(stack: Services, kryoptic: Token, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fire]:
    """A fleet that burns."""
    folder = tmp_path_factory.mktemp("officers")
    async with Fleet.founded(stack, folder, kryoptic) as fleet, on_fire(fleet) as burning:
        fleet.patience_s = PATIENCE_S
        yield burning


@dataclass
class Reign:
    """One key under one officer: what it is by his orders, and the DEKs that were made under it."""

    fleet: Fleet
    house: House
    chance: Random
    version: int = 1
    rotations: int = 0
    deks: dict[bytes, DekItem] = field(default_factory=dict, repr=False)

    async def cycle(self) -> None:
        """Something is made, then one order is given and taken back, and all is there."""
        await self.make()
        await self.chance.choice((self.rotate, self.suspend, self.disable))()
        await self.all_there()

    async def make(self) -> None:
        (made,) = await self.house.client.generate(self.house.key)
        assert isinstance(made, WrappedDek), made
        assert made.version == self.version
        assert made.dek is not None
        self.deks[made.dek] = DekItem(id=made.id)

    async def rotate(self) -> None:
        """However often it was tried: one request is one version."""
        done = await self.order(Operation.KEY_ROTATE, KeyRotateBody(tenant=self.house.tenant, key=self.house.key))
        self.version, self.rotations = self.version + 1, self.rotations + 1
        assert (done.key.active_version, len(done.key.versions)) == (self.version, self.version)

    async def suspend(self) -> None:
        named = {"tenant": self.house.tenant, "key": self.house.key}
        await self.order(Operation.KEY_SUSPEND, KeySuspendBody(**named))
        (refused,) = await self.house.client.generate(self.house.key)
        assert isinstance(refused, ItemError)
        assert refused.code == "KEY_STATE"
        await self.all_there()
        await self.order(Operation.KEY_RESUME, KeyResumeBody(**named))

    async def disable(self) -> None:
        tenant, key = self.house.tenant, self.chance.choice((self.house.key, self.house.upper))
        off = await self.fleet.command(Operation.KEY_DISABLE, KeyDisableBody(tenant=tenant, key=key))
        assert isinstance(off, DisableResult)
        found = await self.house.client.unwrap(list(self.deks.values()))
        assert {one.code if isinstance(one, ItemError) else "opened" for one in found} == {"KEY_DISABLED"}
        revision = off.key.disabled_revision or 0
        await self.order(Operation.KEY_ENABLE, KeyEnableBody(tenant=tenant, key=key, revision=revision))

    async def order(self, operation: Operation, body: CommandBody) -> KeyResult:
        done = await self.fleet.command(operation, body)
        assert isinstance(done, KeyResult)
        return done

    async def all_there(self) -> None:
        found = await self.house.client.unwrap(list(self.deks.values()))
        assert [one.dek for one in found if isinstance(one, Unwrapped)] == list(self.deks)


@pytest.mark.timeout(0)
async def test_no_order_is_lost_and_none_counts_twice(fire: Fire) -> None:
    # Given officers who command one key each
    chance = Random(SEED)  # noqa: S311 - must be repeatable
    fleet = fire.fleet
    reigns = [Reign(fleet, await fleet.tenant(), Random(chance.random())) for _ in range(REIGNS)]  # noqa: S311

    # When they do that while workers die
    async def reigning(reign: Reign) -> None:
        cycles = 0
        while cycles < CYCLES or fire.deaths.total() < DEATHS:
            await reign.cycle()
            cycles += 1

    async with asyncio.TaskGroup() as tasks:
        for reign in reigns:
            tasks.create_task(reigning(reign))

    # Then each key is what its officer made of it: as many versions as rotations, as many facts, and all DEKs
    for reign in reigns:
        shown = await reign.order(Operation.KEY_SHOW, KeyShowBody(tenant=reign.house.tenant, key=reign.house.key))
        states = [one.state for one in shown.key.versions]
        assert states == [State.DEACTIVATED] * reign.rotations + [State.ACTIVE]
        rotated = "SELECT count(*) FROM keyriver.outbox WHERE tenant = $1 AND type = 'keyriver.key.rotated.v1'"
        assert await fleet.pool.fetchval(rotated, reign.house.tenant) == reign.rotations
        stored = "SELECT count(*) FROM keyriver.deks WHERE key = $1"
        assert await fleet.pool.fetchval(stored, shown.key.id) == len(reign.deks)
        await reign.all_there()
    assert sum(reign.rotations for reign in reigns) > 0
