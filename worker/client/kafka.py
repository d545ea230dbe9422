"""The client's Kafka edge over aiokafka, which has no types of its own: the part that we use is typed here, once.

Each client listens to one partition of its reply topic, by assignment and without a group: nobody else's rebalance
disturbs it, and no quiet partition's long poll holds back an answer. Announcements have a consumer of their own.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol, TypeVar, cast

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from worker.client.errors import BusDown, BusRefused
from worker.client.transport import Listener
from worker.model.records import Entry, Outgoing, Partition
from worker.model.topics import TOPIC_LIMIT_BYTES

log = logging.getLogger(__name__)

ANSWER_S = 10.0
"""How long the broker may take before it counts as away."""
LOOK_UP_S = 3.0
PAUSE_S = 0.5
_FOR_GOOD = (
    InvalidTopicError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)
_T = TypeVar("_T")


class _Spot(Protocol):
    topic: str
    partition: int

    def __hash__(self) -> int: ...


class _Consumed(Protocol):
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class _Consumer(Protocol):
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def assign(self, partitions: Sequence[_Spot]) -> None: ...
    async def getmany(self, *, timeout_ms: int) -> dict[_Spot, list[_Consumed]]: ...
    async def position(self, partition: _Spot) -> int: ...
    def seek(self, partition: _Spot, offset: int) -> None: ...
    async def end_offsets(self, partitions: Sequence[_Spot]) -> dict[_Spot, int]: ...
    async def beginning_offsets(self, partitions: Sequence[_Spot]) -> dict[_Spot, int]: ...


class _Connection(Protocol):
    async def force_metadata_update(self) -> bool: ...


class _Producer(Protocol):
    client: _Connection

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def partitions_for(self, topic: str) -> set[int]: ...
    async def send_and_wait(
        self, topic: str, *, value: bytes | None, key: bytes | None, headers: Sequence[tuple[str, bytes]]
    ) -> object: ...


class _Feed:
    """Some partitions read from known offsets, for ever; after an error it goes on where it was."""

    def __init__(self, options: Mapping[str, object], listener: Listener) -> None:
        self._options = options
        self._listener = listener
        self._consumer: _Consumer | None = None
        self._offsets: dict[_Spot, int] = {}
        self._reading: asyncio.Task[None] | None = None

    async def begin(self, topic: str, partitions: Sequence[int], *, at_end: bool) -> None:
        """Fix the positions and read on in a task; from the beginning, what was there is delivered first."""
        self._consumer = consumer = await self._connect()
        spots = [cast("_Spot", TopicPartition(topic, number)) for number in partitions]
        ends = await _answered(consumer.end_offsets(spots))
        self._offsets = dict(ends) if at_end else dict(await _answered(consumer.beginning_offsets(spots)))
        self._place(consumer)
        if not at_end:
            async with asyncio.timeout(ANSWER_S):
                while any([await consumer.position(spot) < end for spot, end in ends.items()]):
                    await self._read(consumer)
        self._reading = asyncio.create_task(self._read_on())

    async def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        await self._drop()

    async def _read_on(self) -> None:
        while True:
            try:
                if self._consumer is None:
                    self._consumer = await self._connect()
                    self._place(self._consumer)
                await self._read(self._consumer)
            except Exception as error:  # noqa: BLE001 - whatever it is, reading goes on
                log.warning("reading from Kafka failed, trying again: %r", error)
                await self._drop()
                await asyncio.sleep(PAUSE_S)

    async def _read(self, consumer: _Consumer) -> None:
        for spot, records in (await consumer.getmany(timeout_ms=500)).items():
            for record in records:
                self._offsets[spot] = record.offset + 1
                self._listener(_entry(spot, record))

    def _place(self, consumer: _Consumer) -> None:
        consumer.assign(list(self._offsets))
        for spot, offset in self._offsets.items():
            consumer.seek(spot, offset)

    async def _connect(self) -> _Consumer:
        consumer = cast(
            "_Consumer",
            AIOKafkaConsumer(
                **self._options,
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=TOPIC_LIMIT_BYTES,
            ),
        )
        await _started(consumer, self._options)
        return consumer

    async def _drop(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                await _answered(consumer.stop())


class KafkaTransport:
    """`Transport` over one cluster. `options`: `bootstrap_servers`, and aiokafka's security options."""

    def __init__(self, options: Mapping[str, object], answer_s: float = ANSWER_S) -> None:
        self._options = dict(options)
        self._answer_s = answer_s
        self._producer: _Producer | None = None
        self._feeds: list[_Feed] = []

    async def start(self, reply_topic: str, intake_topic: str, on_reply: Listener, on_announcement: Listener) -> int:
        """See `Transport`."""
        try:
            producer = self._producer = await self._open_producer()
            intake, replies = _Feed(self._options, on_announcement), _Feed(self._options, on_reply)
            self._feeds = [intake, replies]
            await intake.begin(intake_topic, await partitions(producer, intake_topic), at_end=False)
            partition = random.choice(await partitions(producer, reply_topic))  # noqa: S311 - spreads clients
            await replies.begin(reply_topic, [partition], at_end=True)
        except BaseException:
            await self.stop()
            raise
        return partition

    async def send(self, record: Outgoing) -> None:
        """See `Transport`."""
        producer = self._producer
        if producer is None:
            raise BusRefused("the client is closed")
        try:
            await producer.send_and_wait(record.topic, value=record.value, key=record.key, headers=list(record.headers))
        except UnknownTopicOrPartitionError as error:
            raise await _missing(producer, record.topic) from error
        except _FOR_GOOD as error:
            raise BusRefused(f"Kafka refuses the request on {record.topic}: {error!r}") from error
        except (KafkaError, OSError) as error:
            raise BusDown(f"Kafka did not take the request: {error!r}") from error

    async def stop(self) -> None:
        """See `Transport`."""
        feeds, self._feeds = self._feeds, []
        for feed in feeds:
            await feed.close()
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                await _answered(producer.stop())

    async def _open_producer(self) -> _Producer:
        producer = cast(
            "_Producer",
            AIOKafkaProducer(
                **self._options,
                acks="all",
                max_request_size=TOPIC_LIMIT_BYTES,
                request_timeout_ms=int(self._answer_s * 1000),
            ),
        )
        await _started(producer, self._options)
        return producer


async def partitions(producer: _Producer, topic: str) -> list[int]:
    """The topic's partitions. Topics are not made by asking for them, so one that is not known soon is missing."""
    try:
        async with asyncio.timeout(LOOK_UP_S):
            return sorted(await producer.partitions_for(topic))
    except (TimeoutError, KafkaError) as error:
        raise await _missing(producer, topic) from error


async def _missing(producer: _Producer, topic: str) -> BusDown | BusRefused:
    """What an unknown topic means: that there is none, if the cluster answers at all."""
    if await producer.client.force_metadata_update():
        return BusRefused(f"Kafka has no topic {topic}, or this client may not use it")
    return BusDown("Kafka does not say which topics there are")


async def _started(client: _Consumer | _Producer, options: Mapping[str, object]) -> None:
    try:
        await client.start()
    except (KafkaError, OSError) as error:
        await client.stop()
        where = options.get("bootstrap_servers")
        raise BusDown(
            f"Kafka at {where} can't be reached: no broker there, or TLS, name or password are wrong ({error})"
        ) from error


async def _answered(awaitable: Awaitable[_T]) -> _T:
    try:
        async with asyncio.timeout(ANSWER_S):
            return await awaitable
    except TimeoutError as error:
        raise BusDown("Kafka does not answer") from error


def _entry(spot: _Spot, record: _Consumed) -> Entry:
    headers = tuple((name, value or b"") for name, value in record.headers)
    return Entry(
        Partition(spot.topic, spot.partition), record.offset, record.key, record.value, headers, record.timestamp
    )
