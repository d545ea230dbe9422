"""Invariant 4: a disabled key's handles go in every worker, in one that has nothing to do as well."""

import asyncio
import sys
import time

import pytest

from tests.fleet import Fleet
from tests.stack import Services
from worker.client import WrappedDek
from worker.local import softhsm
from worker.model.bodies import DekItem
from worker.model.control import KeyDisableBody
from worker.model.operations import Operation

WAIT_S = 60.0


async def test_handles_go_without_a_request(stack: Services, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("idle")
    async with Fleet.founded(stack, folder, softhsm.token(folder / "token")) as fleet:
        # Given two workers that both have the keys of one tenant open
        fleet.start()
        await fleet.at_work(1)
        fleet.start()
        await fleet.at_work(2)
        house = await fleet.tenant()
        (made,) = await house.client.generate(house.key)
        assert isinstance(made, WrappedDek)
        deadline = time.monotonic() + WAIT_S
        while not all([await member.total("keyriver_hsm_handles") for member in fleet.members]):
            await asyncio.gather(*(house.client.unwrap([DekItem(id=made.id)]) for _ in range(20)))
            assert time.monotonic() < deadline
        # When two officers disable its L1, and nobody asks for anything any more
        await fleet.command(Operation.KEY_DISABLE, KeyDisableBody(tenant=house.tenant, key=house.tenant))
        answered = time.monotonic()
        # Then no worker has a handle left; nothing but the broadcast could have told the idle one
        while any([await member.total("keyriver_hsm_handles") for member in fleet.members]):
            assert time.monotonic() < answered + WAIT_S
            await asyncio.sleep(0.02)
        sys.stdout.write(f"\nthe last handle was gone {time.monotonic() - answered:.2f} s after the officers' answer\n")
