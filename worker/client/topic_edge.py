"""Kafka for topic jobs, over aiokafka: a topic read from given offsets to its end, and records put whole or not at all.

The one place with Kafka transactions: a single writer whose place is the last record that it wrote needs just what
they give, and the next process of the same name shuts out the one before. (The river has its reasons to do without.)
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol, Self, cast

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from worker.client.errors import BusDown, BusRefused
from worker.client.kafka import partitions
from worker.model.records import Entry, Headers, Partition
from worker.model.topics import TOPIC_LIMIT_BYTES

_FIRST_SPAN = 100
_WIDER = 10


class _Found(Protocol):
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class Fenced(BusRefused):
    """Another process took the job over."""


class Reader:
    """Committed records of any topics, without a group."""

    def __init__(self, options: Mapping[str, object]) -> None:
        self._options = options

    async def __aenter__(self) -> Self:
        self._consumer = AIOKafkaConsumer(
            **self._options,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_partition_fetch_bytes=TOPIC_LIMIT_BYTES,
        )
        try:
            await self._consumer.start()
        except (KafkaError, OSError) as error:
            await self._consumer.stop()
            raise BusDown(f"Kafka can't be reached: {error}") from error
        return self

    async def __aexit__(self, *about: object) -> None:
        await self._consumer.stop()

    async def bounds(self, topic: str, numbers: Sequence[int]) -> dict[int, tuple[int, int]]:
        """First offset and end of each of these partitions."""
        spots = [TopicPartition(topic, number) for number in numbers]
        begins, ends = await self._consumer.beginning_offsets(spots), await self._consumer.end_offsets(spots)
        return {spot.partition: (begins[spot], ends[spot]) for spot in spots}

    async def last(self, topic: str, number: int, bounds: tuple[int, int]) -> Entry | None:
        """The last record of a partition; what marks a transaction's end takes offsets, too, so it is looked for."""
        begin, end = bounds
        span = _FIRST_SPAN
        while begin < end:
            start, found = max(begin, end - span), None
            async for portion in self.portions(topic, {number: start}, {number: end}, most=_FIRST_SPAN):
                found = portion[-1]
            if found is not None or start == begin:
                return found
            span *= _WIDER
        return None

    async def portions(
        self, topic: str, starts: Mapping[int, int], ends: Mapping[int, int], most: int
    ) -> AsyncIterator[list[Entry]]:
        """Records from the starts to the ends; each portion is of one partition, in order."""
        spots = {TopicPartition(topic, number): end for number, end in ends.items() if starts[number] < end}
        self._consumer.assign(list(spots))
        for spot in spots:
            self._consumer.seek(spot, starts[spot.partition])
        while spots:
            for spot, records in (await self._consumer.getmany(timeout_ms=500, max_records=most)).items():
                taken = [_entry(spot, one) for one in records if one.offset < spots.get(spot, 0)]
                if taken:
                    yield taken
            for spot in [spot for spot, end in spots.items() if await self._consumer.position(spot) >= end]:
                del spots[spot]
                self._consumer.pause(spot)


class Writer:
    """Puts records all together; the newest process with this name is the only one that can."""

    def __init__(self, options: Mapping[str, object], name: str) -> None:
        self._options = options
        self._name = name

    async def __aenter__(self) -> Self:
        self._producer = AIOKafkaProducer(
            **self._options, transactional_id=self._name, max_request_size=TOPIC_LIMIT_BYTES, retry_backoff_ms=5
        )
        try:
            await self._producer.start()
        except (KafkaError, OSError) as error:
            await self._producer.stop()
            raise BusDown(f"Kafka does not let {self._name} write: {error!r}") from error
        return self

    async def __aexit__(self, *about: object) -> None:
        await self._producer.stop()

    async def partitions(self, topic: str) -> list[int]:
        """Their numbers. Raises `BusRefused` if there is no such topic."""
        return await partitions(self._producer, topic)

    async def put(self, entries: Sequence[Entry]) -> None:
        """Write these records into their partitions, or none of them. Raises `Fenced` or `BusDown`."""
        try:
            async with self._producer.transaction():
                await self._sent(entries)
        except ProducerFenced:
            raise Fenced("another process took this job over") from None
        except (KafkaError, OSError) as error:
            raise BusDown(f"Kafka did not take the records: {error!r}") from error

    async def _sent(self, entries: Sequence[Entry]) -> None:
        written: list[asyncio.Future[object]] = []
        try:
            for one in entries:
                place, headers = one.partition, list(one.headers)
                sent = self._producer.send(
                    place.topic,
                    one.value,
                    key=one.key,
                    partition=place.number,
                    timestamp_ms=one.appended_ms,
                    headers=headers,
                )
                written.append(await sent)
        finally:
            await asyncio.gather(*written, return_exceptions=True)  # where one fails, the others do, too
        for future in written:
            future.result()


def _entry(spot: object, found: _Found) -> Entry:
    where = cast("TopicPartition", spot)
    headers: Headers = tuple((name, value or b"") for name, value in found.headers)
    return Entry(
        Partition(where.topic, where.partition), found.offset, found.key, found.value, headers, found.timestamp
    )
