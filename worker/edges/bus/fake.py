"""A bus in memory with the same contract as Kafka's: groups, epochs, rewinds, fenced commits, undeliverable records.

For tests of the flow that want no broker; the contract suite runs on both. Rebalances happen when a member catches.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Self

from worker.model.records import Catch, Closed, Entry, Headers, Outgoing, Partition, Record, Undeliverable
from worker.model.topics import TOPIC_LIMIT_BYTES
from worker.ports import BusUnavailable, StaleEpoch

WAIT_S = 0.02
Drain = Callable[[frozenset[Partition]], Awaitable[None]]


@dataclass(slots=True)
class _Topic:
    limit_bytes: int
    refuses: bool
    logs: list[list[Entry]]


@dataclass(slots=True)
class _Group:
    members: "list[FakeSource]" = field(default_factory=list)
    committed: dict[Partition, int] = field(default_factory=dict)
    generation: int = 0


class FakeBus:
    """The cluster. `is_away` is an outage: everything that would ask a broker raises `BusUnavailable`."""

    def __init__(self, clock_ms: Callable[[], int] = lambda: 0) -> None:
        self._clock_ms = clock_ms
        self._topics: dict[str, _Topic] = {}
        self._groups: dict[str, _Group] = {}
        self.is_away = False
        self.grown = asyncio.Event()

    def create(
        self, topic: str, partitions: int = 1, limit_bytes: int = TOPIC_LIMIT_BYTES, *, refuses: bool = False
    ) -> None:
        """Create a topic; one that `refuses` takes records from nobody."""
        self._topics[topic] = _Topic(limit_bytes, refuses, [[] for _ in range(partitions)])

    def source(self, group: str, topics: Sequence[str]) -> "FakeSource":
        """A member of a group; it joins when it is entered."""
        return FakeSource(self, self._groups.setdefault(group, _Group()), topics)

    def sink(self) -> "FakeSink":
        """A producer."""
        return FakeSink(self)

    def committed(self, group: str, partition: Partition) -> int | None:
        """What a group has committed."""
        return self._groups.setdefault(group, _Group()).committed.get(partition)

    def entries(self, topic: str) -> list[Entry]:
        """All that a topic holds, partition by partition."""
        return [entry for log in self._topics[topic].logs for entry in log]

    def partitions(self, topics: Iterable[str]) -> list[Partition]:
        """The partitions of these topics."""
        return [Partition(name, number) for name in topics for number in range(len(self._topics[name].logs))]

    def log(self, partition: Partition) -> list[Entry]:
        """One partition's records."""
        return self._topics[partition.topic].logs[partition.number]

    def ask(self) -> None:
        """What every call to a broker begins with."""
        if self.is_away:
            raise BusUnavailable("the fake broker is away")

    def append(self, record: Outgoing) -> Undeliverable | None:
        """Publish one record, or say why not."""
        topic = self._topics.get(record.topic)
        if topic is None or (record.partition or 0) >= len(topic.logs):
            return Undeliverable.NO_TOPIC
        if topic.refuses:
            return Undeliverable.REFUSED
        if len(record.value or b"") + _size(record.headers) > topic.limit_bytes:
            return Undeliverable.TOO_LARGE
        number = zlib.crc32(record.key or b"") % len(topic.logs) if record.partition is None else record.partition
        log = topic.logs[number]
        where = Partition(record.topic, number)
        log.append(Entry(where, len(log), record.key, record.value, record.headers, self._clock_ms()))
        self.grown.set()
        return None


class FakeSource:
    """`Source` over a `FakeBus`."""

    def __init__(self, bus: FakeBus, group: _Group, topics: Sequence[str]) -> None:
        self._bus = bus
        self._group = group
        self._topics = tuple(topics)
        self._generation = -1
        self._numbers = count(1)
        self._epochs: dict[Partition, int] = {}
        self._positions: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._drain: Drain | None = None

    async def __aenter__(self) -> Self:
        """Join the group."""
        self._bus.ask()
        self._group.members.append(self)
        self._group.generation += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the group."""
        self._epochs.clear()
        if self in self._group.members:
            self._group.members.remove(self)
            self._group.generation += 1

    def expel(self) -> None:
        """The group's view of a frozen process: its partitions go to others, and it learns so at its next call."""
        self._group.members.remove(self)
        self._group.generation += 1

    def on_revoke(self, drain: Drain) -> None:
        """See `Source`."""
        self._drain = drain

    async def catch(self, max_records: int, max_bytes: int) -> Catch:
        """See `Source`."""
        self._bus.ask()
        await self._rejoin()
        batch: list[Record] = []
        closed = self._fill(batch, max_records, max_bytes)
        if not batch:
            self._bus.grown.clear()
            await asyncio.wait([asyncio.ensure_future(self._bus.grown.wait())], timeout=WAIT_S)
        return Catch(batch, closed)

    def is_current(self, partition: Partition, epoch: int) -> bool:
        """See `Source`."""
        return self._epochs.get(partition) == epoch

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """See `Source`."""
        self._bus.ask()
        if self not in self._group.members or not offsets.keys() <= self._epochs.keys():
            raise StaleEpoch("a partition was given back")
        self._group.committed.update(offsets)

    async def rewind(self, partitions: Iterable[Partition]) -> None:
        """See `Source`."""
        for partition in set(partitions) & self._epochs.keys():
            self._place(partition)

    def pause(self, partitions: Iterable[Partition]) -> None:
        """See `Source`."""
        self._paused.update(partitions)

    def resume(self, partitions: Iterable[Partition]) -> None:
        """See `Source`."""
        self._paused.difference_update(partitions)

    def _place(self, partition: Partition) -> None:
        self._positions[partition] = self._group.committed.get(partition, 0)
        self._epochs[partition] = next(self._numbers)

    async def _rejoin(self) -> None:
        if self not in self._group.members:
            self._epochs.clear()
            self._group.members.append(self)
            self._group.generation += 1
        if self._generation == self._group.generation:
            return
        held = frozenset(self._epochs)
        if held and self._drain is not None:
            await self._drain(held)
        self._epochs.clear()
        self._paused.clear()
        self._generation = self._group.generation
        members = self._group.members
        for place, partition in enumerate(self._bus.partitions(self._topics)):
            if members[place % len(members)] is self:
                self._place(partition)

    def _fill(self, batch: list[Record], max_records: int, max_bytes: int) -> Closed:
        size = 0
        for partition in sorted(self._epochs.keys() - self._paused):
            for entry in self._bus.log(partition)[self._positions[partition] :]:
                record = Record(
                    partition,
                    entry.offset,
                    entry.key,
                    entry.value or b"",
                    entry.headers,
                    entry.appended_ms,
                    self._epochs[partition],
                )
                size += record.weight
                if batch and size > max_bytes:
                    return Closed.BYTES
                batch.append(record)
                self._positions[partition] = entry.offset + 1
                if len(batch) == max_records:
                    return Closed.RECORDS
        return Closed.EMPTY


class FakeSink:
    """`Sink` over a `FakeBus`."""

    def __init__(self, bus: FakeBus) -> None:
        self._bus = bus

    async def publish(self, records: Sequence[Outgoing]) -> list[Undeliverable | None]:
        """See `Sink`."""
        self._bus.ask()
        return [self._bus.append(record) for record in records]


def _size(headers: Headers) -> int:
    return sum(len(name) + len(value) for name, value in headers)
