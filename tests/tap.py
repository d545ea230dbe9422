"""What stands in topics: everything that came, from the first record on, and how far consumer groups are."""

import asyncio
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from worker.model.records import Entry, Partition


class Tap:
    """Reads some topics from their beginning, without a group, and keeps all it read."""

    def __init__(self, bootstrap: str, *topics: str) -> None:
        self.entries: list[Entry] = []
        self._topics = topics
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=16 * 1024 * 1024,
            fetch_max_wait_ms=20,  # a long poll would hold back the question where the end is
        )
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        self._consumer.subscribe(self._topics)
        await until_known(self._consumer, self._topics)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()

    async def read(self, timeout_ms: int = 100) -> None:
        """Take what has come."""
        async with self._turn:
            for where, records in (await self._consumer.getmany(timeout_ms=timeout_ms)).items():
                self.entries += [
                    Entry(
                        Partition(where.topic, where.partition),
                        record.offset,
                        record.key,
                        record.value,
                        tuple((name, value or b"") for name, value in record.headers),
                        record.timestamp,
                    )
                    for record in records
                ]

    async def until(self, holds: Callable[[list[Entry]], bool], what: str, seconds: float = 60.0) -> list[Entry]:
        """Read on until a condition holds for all that was read."""
        deadline = time.monotonic() + seconds
        while not holds(self.entries):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:.0f} s: {what} ({len(self.entries)} records were read)")
            await self.read()
        return self.entries

    async def to_end(self) -> list[Entry]:
        """Everything that stands there at this moment."""
        spots = self._consumer.assignment()
        ends = await self._consumer.end_offsets(spots)
        while any([await self._consumer.position(spot) < end for spot, end in ends.items()]):
            await self.read()
        return self.entries


async def until_known(consumer: AIOKafkaConsumer, topics: Sequence[str]) -> None:
    """Wait until the consumer knows of the topics' partitions."""
    async with asyncio.timeout(60):
        while not {spot.topic for spot in consumer.assignment()} >= set(topics):
            await asyncio.sleep(0.01)


class Gauge:
    """How far consumer groups are. Its connections stay open: learning of topics takes aiokafka half a second."""

    def __init__(self, bootstrap: str) -> None:
        self._admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        self._consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
        self._spots: dict[str, list[TopicPartition]] = {}

    async def __aenter__(self) -> Self:
        await self._admin.start()
        await self._consumer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()
        await self._admin.close()

    async def backlog(self, group: str, topics: Sequence[str]) -> dict[Partition, int]:
        """Records of each partition that the group has not committed; partitions without any are left out."""
        if unknown := [topic for topic in topics if topic not in self._spots]:
            for told in await self._admin.describe_topics(unknown):
                numbers = [each["partition"] for each in told["partitions"]]
                self._spots[told["topic"]] = [TopicPartition(told["topic"], number) for number in numbers]
        spots = [spot for topic in topics for spot in self._spots[topic]]
        ends = await self._consumer.end_offsets(spots)
        committed = await self._admin.list_consumer_group_offsets(group, partitions=spots)
        behind = {spot: ends[spot] - max(0, committed[spot].offset if spot in committed else 0) for spot in spots}
        return {Partition(spot.topic, spot.partition): count for spot, count in behind.items() if count}

    async def members(self, group: str) -> int:
        """How many members a group has while it is stable; 0 while it rebalances."""
        try:
            (answer,) = await self._admin.describe_consumer_groups([group])
        except GroupCoordinatorNotAvailableError:  # on a new broker, until its first group is there
            return 0
        ((code, _, state, _, _, found, *_),) = answer.groups
        return len(found) if code == 0 and state == "Stable" else 0
