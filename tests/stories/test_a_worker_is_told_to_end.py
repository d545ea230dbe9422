"""An SRE upgrades workers one by one: each drains on SIGTERM, and no caller notices."""

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fleet import Fleet
from tests.stack import Services
from worker.client.results import WrappedDek
from worker.local import softhsm


@pytest.fixture
async def fleet(stack: Services, tmp_path: Path) -> AsyncIterator[Fleet]:
    """A fleet of two workers, for this story ends them."""
    module = Path(shutil.copy2(softhsm.module(), tmp_path / "module.so"))
    async with Fleet.founded(
        stack, tmp_path, softhsm.token(tmp_path / "token", module_file=module), kafka_session_s=6
    ) as founded:
        founded.start()
        await founded.at_work(1)
        founded.start()
        await founded.at_work(2)
        yield founded


async def test_workers_are_replaced_under_load(fleet: Fleet) -> None:
    # Given callers that work all the time, on two workers
    house = await fleet.tenant()
    patient = await fleet.client(house.identity, timeout_s=120.0, answer_s=120.0)  # it asks once
    stop = asyncio.Event()
    made: list[WrappedDek] = []

    async def working() -> None:
        while not stop.is_set():
            made.extend(one for one in await patient.generate(house.key, 200) if isinstance(one, WrappedDek))

    # When both are told to end, each after its successor came
    async with asyncio.TaskGroup() as tasks:
        for _ in range(10):
            tasks.create_task(working())
        for worker in list(fleet.members):
            goal = len(made) + 2000
            while len(made) < goal:
                await asyncio.sleep(0.01)
            fleet.start()
            await fleet.at_work(3)
            # Then it ends by itself, with code 0 and without a word of trouble
            assert await worker.terminated() == 0
            assert "ERROR" not in worker.log
            assert "Traceback" not in worker.log
            await fleet.at_work(2)
        stop.set()
    await fleet.caught_up()

    # And every request was carried out once and answered once: nothing was delivered to anybody again
    async with fleet.tap(fleet.topics.wrap, fleet.topics.replies) as tap:
        entries = await tap.to_end()
    asked = Counter(dict(one.headers)["ce_id"] for one in entries if one.partition.topic == fleet.topics.wrap)
    told = Counter(dict(one.headers)["ce_id"] for one in entries if one.partition.topic == fleet.topics.replies)
    assert set(asked.values()) == {1}
    assert {told[name] for name in asked} == {1}
    leaves = await fleet.pool.fetch("SELECT convert_from(body, 'UTF8') AS body FROM keyriver.leaves")
    written = Counter(json.loads(row["body"])["request"].encode() for row in leaves)
    assert {written[name] for name in asked} == {1}
    assert await fleet.pool.fetchval("SELECT count(*) FROM keyriver.deks") == len(made)
