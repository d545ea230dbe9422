"""Workers that are killed, frozen and stopped, and a broker that dies: no record is lost, no offset runs ahead."""

import asyncio
import os
import random
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.stack import CHECKOUT, Services
from worker.edges.bus.access import KafkaAccess
from worker.edges.bus.admin import KafkaAdmin
from worker.edges.bus.sink import KafkaSink
from worker.edges.bus.tail import Tail
from worker.local import Stack
from worker.model.records import Outgoing
from worker.model.topics import Cleanup, TopicSpec, Writer
from worker.ports import BusUnavailable

PARTITIONS = 4
PATIENCE_S = 120
EXPELLED_S = 1.6
"""Longer than the workers' session timeout of one second."""


class Field:
    """One lane's topics, what was sent, and the workers at it."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.access = KafkaAccess(bootstrap)
        self.prefix = prefix
        self.sent = 0
        self.workers: list[Process] = []

    async def worker(self, freeze_at: str = "") -> Process:
        """Start a worker, and wait until it is at the broker."""
        words = [sys.executable, str(Path(__file__).with_name("bus_worker.py")), self.access.bootstrap, self.prefix]
        environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
        process = await asyncio.create_subprocess_exec(*words, freeze_at, stdout=PIPE, env=environment)
        self.workers.append(process)
        assert await line(process) == "ready"
        return process

    async def send(self, count: int) -> None:
        """Send so many more, over all partitions."""
        numbers = range(self.sent, self.sent + count)
        letters = [Outgoing(f"{self.prefix}.in", b"k", b"%d" % each, (), each % PARTITIONS) for each in numbers]
        async with KafkaSink(self.access, {f"{self.prefix}.in": 1 << 20}.get) as sink:
            while True:
                with suppress(BusUnavailable):
                    assert set(await sink.publish(letters)) == {None}
                    break
                await asyncio.sleep(0.1)
        self.sent += count

    async def copied(self) -> set[bytes]:
        """What came out so far."""
        async with Tail(self.access, f"{self.prefix}.out") as tail:
            return {entry.value or b"" for entry in await tail.catch_up()}

    async def all_done(self) -> None:
        """Wait until everything sent has come out, and everything in the input is committed: no loss, no standstill."""
        wanted, found = {b"%d" % each for each in range(self.sent)}, set[bytes]()
        try:
            async with asyncio.timeout(PATIENCE_S), Tail(self.access, f"{self.prefix}.out") as tail:
                while not wanted <= found:
                    found |= {entry.value or b"" for entry in await tail.wait(0.2)}
                async with committed_offsets(self) as read:
                    while await read() != await self.ends():
                        await asyncio.sleep(0.1)
        except TimeoutError:
            async with committed_offsets(self) as read:
                offsets = f"committed {await read()} of {await self.ends()}"
            unseen = len(wanted - found), len(wanted - await self.copied())
            pytest.fail(f"{unseen[0]} missing, {unseen[1]} to who looks anew; {offsets}; {self._living()} workers live")

    def _living(self) -> int:
        return sum(process.returncode is None for process in self.workers)

    async def ends(self) -> list[int]:
        """The end of each input partition."""
        async with Tail(self.access, f"{self.prefix}.in") as tail:
            ends = [0] * PARTITIONS
            for entry in await tail.catch_up():
                ends[entry.partition.number] = entry.offset + 1
            return ends

    async def stop(self) -> None:
        """Stop the workers that are left; each ends by itself."""
        for process in self.workers:
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.workers:
            async with asyncio.timeout(60):
                await process.wait()


@asynccontextmanager
async def committed_offsets(field: Field):  # type: ignore[no-untyped-def] # noqa: ANN201 - aiokafka is untyped
    """A reader of the group's committed offsets."""
    reader = AIOKafkaConsumer(bootstrap_servers=field.access.bootstrap, group_id=field.prefix, enable_auto_commit=False)
    await reader.start()

    async def read() -> list[int]:
        return [await reader.committed(TopicPartition(f"{field.prefix}.in", n)) or 0 for n in range(PARTITIONS)]

    try:
        yield read
    finally:
        await reader.stop()


async def line(process: Process) -> str:
    """What a worker says next."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        return (await process.stdout.readline()).decode().strip()


@asynccontextmanager
async def field_on(bootstrap: str, prefix: str) -> AsyncIterator[Field]:
    """Topics for one test; every worker is gone at its end."""
    made = Field(bootstrap, prefix)
    async with KafkaAdmin(made.access) as admin:
        for name in ("in", "out"):
            spec = TopicSpec(f"{prefix}.{name}", PARTITIONS, Cleanup.DELETE, 3_600_000, 1 << 20, Writer.WORKERS)
            await admin.create([spec], replicas=1)
    try:
        yield made
    finally:
        for process in made.workers:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.fixture
async def field(stack: Services, prefix: str) -> AsyncIterator[Field]:
    async with field_on(stack.kafka, prefix) as made:
        yield made


async def test_a_worker_frozen_past_its_session_wakes_up_stale_and_nothing_is_lost(field: Field) -> None:
    await field.send(400)
    sleeper = await field.worker(freeze_at="1/5")
    assert await line(sleeper) == "freezing"
    await field.worker()
    await field.all_done()
    await asyncio.sleep(EXPELLED_S)
    await field.send(40)
    sleeper.send_signal(signal.SIGCONT)
    assert await line(sleeper) == "stale", "it may publish and commit nothing of what it held"
    await field.all_done()
    await field.stop()
    assert [process.returncode for process in field.workers] == [0, 0]


async def test_workers_that_join_and_leave_in_the_middle_lose_nothing(field: Field) -> None:
    first = await field.worker()
    await field.send(600)
    await field.worker()
    await field.send(600)
    first.terminate()
    await field.send(600)
    assert await first.wait() == 0
    await field.all_done()
    await field.stop()


async def test_a_storm_of_kills_and_freezes_loses_nothing(field: Field) -> None:
    seed = int(os.environ.get("KEYRIVER_TEST_SEED", random.randrange(1 << 32)))  # noqa: S311
    chance = random.Random(seed)  # noqa: S311
    print(f"KEYRIVER_TEST_SEED={seed}")  # noqa: T201
    for _ in range(2):
        await field.worker()
    for _ in range(6):
        await field.send(200)
        await asyncio.sleep(chance.uniform(0.0, 0.3))
        victim = chance.choice([each for each in field.workers if each.returncode is None])
        if chance.random() < 0.5:
            victim.kill()
            await victim.wait()
            await field.worker()
        else:
            victim.send_signal(signal.SIGSTOP)
            await asyncio.sleep(chance.uniform(0.2, EXPELLED_S))
            victim.send_signal(signal.SIGCONT)
    await field.all_done()
    await field.stop()


async def test_a_broker_that_dies_and_returns_costs_nothing(own_stack: Stack) -> None:
    async with field_on(own_stack.kafka.bootstrap, "restart") as field:
        await field.worker()
        await field.worker()
        await field.send(400)
        own_stack.kafka.kill()
        await asyncio.sleep(1.0)
        await asyncio.to_thread(own_stack.kafka.start)
        await field.send(400)
        await field.all_done()
        await field.stop()
        assert [process.returncode for process in field.workers] == [0, 0]
