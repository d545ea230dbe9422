"""aiokafka with types: it has none of its own, so the part that we use is written down here, once."""
# ruff: noqa: D102 - names and meanings are aiokafka's

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, Protocol, cast
from zlib import crc32

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner

from worker.edges.bus import lenient
from worker.edges.bus.access import KafkaAccess
from worker.model.records import Partition

FETCH_PARTITION_BYTES = 2 * 1024 * 1024
FETCH_WAIT_MS = 100
"""One fetch at a time is under way per broker: a long wait for quiet partitions would hold back a busy one."""
FETCH_TOTAL_BYTES = 16 * 1024 * 1024
"""What may wait in memory, unread; a single larger record is delivered all the same (KIP-74)."""
LONG_KEY = 1024
"""Bytes. Up to here a key's partition is the one that every Kafka client would choose."""
_USUAL = DefaultPartitioner()


class Spot(Protocol):
    """aiokafka's TopicPartition, a named tuple that is its own key."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    def __hash__(self) -> int: ...


class Consumed(Protocol):
    """One record as aiokafka delivers it; `timestamp` in Unix milliseconds, by the broker's clock if its type is 1."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def timestamp_type(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class RebalanceListener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """What aiokafka calls, from its own task, while a group rebalances."""


class Consumer(Protocol):
    """The part of AIOKafkaConsumer that we use."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def subscribe(self, topics: Sequence[str], *, listener: RebalanceListener) -> None: ...
    def assign(self, partitions: Sequence[Spot]) -> None: ...
    def partitions_for_topic(self, topic: str) -> set[int] | None: ...
    async def getmany(self, *, timeout_ms: int, max_records: int | None = None) -> dict[Spot, list[Consumed]]: ...
    async def commit(self, offsets: Mapping[Spot, int]) -> None: ...
    async def committed(self, partition: Spot) -> int | None: ...
    async def position(self, partition: Spot) -> int: ...
    def seek(self, partition: Spot, offset: int) -> None: ...
    async def beginning_offsets(self, partitions: Iterable[Spot]) -> dict[Spot, int]: ...
    async def end_offsets(self, partitions: Iterable[Spot]) -> dict[Spot, int]: ...
    def highwater(self, partition: Spot) -> int | None: ...
    def pause(self, *partitions: Spot) -> None: ...
    def resume(self, *partitions: Spot) -> None: ...
    def assignment(self) -> frozenset[Spot]: ...


class Metadata(Protocol):
    """What a client knows of the cluster."""

    unauthorized_topics: set[str]

    def partitions_for_topic(self, topic: str) -> set[int] | None: ...


class Client(Protocol):
    """The connection below a producer."""

    cluster: Metadata

    def add_topic(self, topic: str) -> object: ...
    async def force_metadata_update(self) -> bool: ...


class Producer(Protocol):
    """The part of AIOKafkaProducer that we use."""

    client: Client

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def send(
        self,
        topic: str,
        *,
        value: bytes | None,
        key: bytes | None,
        partition: int | None,
        headers: list[tuple[str, bytes]],
    ) -> asyncio.Future[object]: ...


def consumer(access: KafkaAccess, **options: object) -> Consumer:
    """A consumer that is not started; `options` are AIOKafkaConsumer's."""
    lenient.install()
    return cast(
        Consumer,
        AIOKafkaConsumer(
            **access.options(),
            fetch_max_bytes=FETCH_TOTAL_BYTES,
            max_partition_fetch_bytes=FETCH_PARTITION_BYTES,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            **options,
        ),
    )


def producer(access: KafkaAccess, **options: object) -> Producer:
    """A producer that is not started; `options` are AIOKafkaProducer's."""
    return cast(Producer, AIOKafkaProducer(**access.options(), partitioner=partition_for, **options))


def partition_for(key: bytes | None, every: Sequence[int], available: Sequence[int]) -> int:
    """Kafka's usual choice, save for long keys: its hash is pure Python here, and 5 MB would stop the loop for seconds.

    Answers and dead letters carry the key of a record that anybody may have written.
    """
    if key is None or len(key) <= LONG_KEY:
        return cast(int, _USUAL(key, every, available))
    return every[crc32(key) % len(every)]


async def partitions(client: Consumer, topic: str) -> set[int]:
    """The partitions of a topic that this consumer does not consume; empty when it is missing or not for us."""
    await cast(Any, client)._client.add_topic(topic)  # noqa: SLF001 - aiokafka is pinned
    return client.partitions_for_topic(topic) or set()


def raise_group_error(client: Consumer) -> None:
    """Raise what went wrong while the group was joined; otherwise only getmany would, which nobody calls meanwhile."""
    cast(Any, client)._coordinator.check_errors()  # noqa: SLF001 - aiokafka is pinned


def is_expelled(client: Consumer) -> bool:
    """Whether the group has no place for this consumer any more: its coordinator took its generation away."""
    return bool(cast(Any, client)._coordinator.generation < 0)  # noqa: SLF001 - aiokafka is pinned


def forget_topic(client: Client, topic: str) -> None:
    """Ask no more about a missing topic, which would be an error in the log at every refresh."""
    cast(Any, client)._topics.discard(topic)  # noqa: SLF001 - aiokafka is pinned


async def close(client: Producer, patience_s: float) -> None:
    """Close a producer; what is not acknowledged by then fails. Its own `stop` waits for ever on an idempotent one."""
    with suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            await client.stop()
            return
    inside = cast(Any, client)
    waiting = inside._message_accumulator  # noqa: SLF001 - aiokafka is pinned
    waiting.fail_all(KafkaError("given up"))
    for batch in (*chain(*waiting._batches.values()), *waiting._pending_batches):  # noqa: SLF001
        batch._drain_waiter.exception()  # noqa: SLF001 - nobody else asks for it
    await inside._sender.close()  # noqa: SLF001
    await inside.client.close()


def spot(partition: Partition) -> Spot:
    """Our name of a partition as aiokafka's."""
    return cast(Spot, TopicPartition(partition.topic, partition.number))


def partition_of(where: Spot) -> Partition:
    """Our name of what aiokafka calls a TopicPartition."""
    return Partition(where.topic, where.partition)
