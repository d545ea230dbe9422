"""A lane in memory: the fake bus, attempts that are counted, and a river that does what a test says."""
# ruff: noqa: ARG002 - ports give more than a test looks at

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from worker.edges.bus.fake import FakeBus, FakeSource
from worker.flow.intake import Bounds, Intake
from worker.model.records import Closed, Outgoing, Partition, Record, Verdict
from worker.ports import StoreUnavailable

TOPIC = "wrap"
GROUP = "interactive"


@dataclass
class CountedAttempts:
    """`Attempts` in memory; it outlives the intakes of a test, as Postgres outlives workers."""

    is_away: bool = False
    assignments: dict[Partition, tuple[int, int]] = field(default_factory=dict)
    markers: Counter[tuple[Partition, int]] = field(default_factory=Counter)
    released_: list[Partition] = field(default_factory=list)

    async def assigned(self, group: str, partition: Partition, offset: int) -> int:
        self._ask()
        at, count = self.assignments.get(partition, (offset, 0))
        self.assignments[partition] = (offset, count + 1 if at == offset else 1)
        return self.assignments[partition][1]

    async def released(self, group: str, partition: Partition) -> None:
        self._ask()
        self.released_.append(partition)
        self.assignments.pop(partition, None)

    async def begin_alone(self, group: str, partition: Partition, offset: int) -> int:
        self._ask()
        self.markers[partition, offset] += 1
        return self.markers[partition, offset]

    async def end_alone(self, group: str, partition: Partition, offset: int) -> None:
        self._ask()
        del self.markers[partition, offset]

    def _ask(self) -> None:
        if self.is_away:
            raise StoreUnavailable


async def done(records: Sequence[Record]) -> list[Verdict]:
    """What a river usually says."""
    return [Verdict.DONE] * len(records)


@dataclass
class TestRiver:
    """A river whose `run` a test writes."""

    __test__ = False
    work: Callable[[Sequence[Record]], Awaitable[list[Verdict]]] = done
    batches: list[list[int]] = field(default_factory=list)
    seen: list[tuple[int, int]] = field(default_factory=list)
    buried: list[int] = field(default_factory=list)
    set_aside_: list[int] = field(default_factory=list)
    running: int = 0
    most: int = 0

    async def run(self, records: Sequence[Record]) -> list[Verdict]:
        self.batches.append([record.offset for record in records])
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            verdicts = await self.work(records)
        finally:
            self.running -= 1
        self.seen += [(record.partition.number, record.offset) for record in records]
        return verdicts

    async def bury(self, record: Record) -> Verdict:
        self.buried.append(record.offset)
        return Verdict.DEAD

    async def set_aside(self, record: Record) -> Verdict:
        self.set_aside_.append(record.offset)
        return Verdict.UNAUTHENTIC


@dataclass
class Witness:
    """An observer that remembers."""

    catches: list[tuple[int, Closed]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    revocations: list[tuple[int, int]] = field(default_factory=list)
    suspicions: list[tuple[int, int]] = field(default_factory=list)
    stops: list[Partition] = field(default_factory=list)
    finishes: int = 0

    def caught(self, records: int, size: int, closed: Closed) -> None:
        self.catches.append((records, closed))

    def finished(self, records: int, seconds: float) -> None:
        self.finishes += records

    def failed(self, records: int, error: Exception) -> None:
        self.failures.append(error)

    def revoked(self, partitions: int, unfinished: int) -> None:
        self.revocations.append((partitions, unfinished))

    def suspected(self, record: Record, times: int) -> None:
        self.suspicions.append((record.offset, times))

    def stopped(self, partition: Partition) -> None:
        self.stops.append(partition)


BOUNDS = Bounds(max_records=4, commit_every_s=0.001, first_pause_s=0.001, longest_pause_s=0.004, drain_s=2.0)
DEATH = replace(BOUNDS, drain_s=0.0, commit_every_s=60.0)  # the dead commit nothing, however slow the machine


class Lane:
    """A bus, a river, attempts and an observer, and intakes that come and go."""

    def __init__(self) -> None:
        self.bus = FakeBus()
        self.bus.create(TOPIC, partitions=2)
        self.attempts = CountedAttempts()
        self.river = TestRiver()
        self.witness = Witness()

    @asynccontextmanager
    async def running(self, bounds: Bounds = BOUNDS) -> AsyncIterator[tuple[Intake, FakeSource]]:
        """An intake that is stopped cleanly at the end."""
        async with self.bus.source(GROUP, [TOPIC]) as source:
            intake = Intake(GROUP, source, self.river, self.attempts, self.witness, bounds)
            task = asyncio.create_task(intake.run())
            try:
                yield intake, source
            finally:
                intake.stop()
                await task

    async def die(self) -> None:
        """An intake whose process dies while the river works on something it can't survive."""
        death = asyncio.Event()

        async def kill(records: Sequence[Record]) -> list[Verdict]:
            if any(record.offset == 2 for record in records):
                death.set()
                await asyncio.Event().wait()
            return await done(records)

        self.river.work = kill
        source = await self.bus.source(GROUP, [TOPIC]).__aenter__()
        task = asyncio.create_task(Intake(GROUP, source, self.river, self.attempts, self.witness, DEATH).run())
        await death.wait()
        source.expel()
        self.bus.is_away = self.attempts.is_away = True  # the dead tell nobody anything
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self.bus.is_away = self.attempts.is_away = False
        self.river.work = done


async def fill(bus: FakeBus, count: int, partition: int = 0) -> None:
    """Append records to a partition."""
    await bus.sink().publish([Outgoing(TOPIC, b"k", b"%d" % number, (), partition) for number in range(count)])


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something holds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def committed(bus: FakeBus, partition: int = 0) -> int | None:
    """What the lane has committed."""
    return bus.committed(GROUP, Partition(TOPIC, partition))
