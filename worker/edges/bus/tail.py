"""A topic read without a group: from its beginning (compacted topics) or its end (broadcasts). Nothing is committed."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from aiokafka.errors import KafkaConnectionError, KafkaError

from worker.edges.bus.access import KafkaAccess
from worker.edges.bus.kafka import Consumer, Spot, consumer, partition_of, partitions, spot
from worker.model.records import Entry, Partition
from worker.ports import BusUnavailable

ANSWER_S = 5.0
CATCH_UP_S = 0.1
BATCH = 1000


class Tail:
    """Every partition of one topic. Entered when its start is fixed: what is published after that is seen."""

    def __init__(self, access: KafkaAccess, topic: str, *, from_end: bool = False) -> None:
        self._access = access
        self._topic = topic
        self._from_end = from_end
        self._open: Consumer | None = None

    async def __aenter__(self) -> Self:
        """Reach the cluster. Raises `BusUnavailable`, saying the likely causes, or that the topic is missing."""
        client = consumer(self._access, request_timeout_ms=int(ANSWER_S * 1000))
        try:
            await client.start()
            async with asyncio.timeout(ANSWER_S):
                await self._place(client)
        except KafkaConnectionError as error:
            await client.stop()
            raise self._access.unreachable(error) from error
        except Exception as error:
            await client.stop()
            raise BusUnavailable(f"Kafka: {self._topic} can't be read; is it there, and may we? ({error!r})") from error
        self._open = client
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        if self._open is not None:
            await self._open.stop()

    async def catch_up(self) -> list[Entry]:
        """Everything up to the end as it is now. Raises `BusUnavailable` when the broker falls silent on the way.

        Then it begins again where it had begun: what was read and not told must not be lost.
        """
        client = self._client
        starts = {each: await client.position(each) for each in client.assignment()}
        try:
            return [entry async for batch in self.to_end() for entry in batch]
        except BaseException:
            for each, offset in starts.items():
                client.seek(each, offset)
            raise

    async def to_end(self) -> AsyncIterator[list[Entry]]:
        """The same, batch by batch, for topics that are too long to be held."""
        client = self._client
        try:
            async with asyncio.timeout(ANSWER_S):
                ends = await client.end_offsets(client.assignment())
            while not await _reached(client, ends):
                async with asyncio.timeout(ANSWER_S):
                    while not (more := await self.wait(CATCH_UP_S)) and not await _reached(client, ends):
                        pass
                yield more
        except (TimeoutError, KafkaError) as error:
            raise BusUnavailable(f"Kafka falls silent in the middle of {self._topic}: {error!r}") from error

    async def wait(self, seconds: float) -> list[Entry]:
        """What came next, in the order of each partition; empty after so many seconds."""
        try:
            fetched = await self._client.getmany(timeout_ms=int(seconds * 1000), max_records=BATCH)
        except Exception as error:
            raise BusUnavailable(f"Kafka: reading {self._topic} failed: {error!r}") from error
        return [
            Entry(
                partition_of(where),
                record.offset,
                record.key,
                record.value,
                tuple((name, value or b"") for name, value in record.headers),
                record.timestamp,
            )
            for where, records in fetched.items()
            for record in records
        ]

    async def _place(self, client: Consumer) -> None:
        where = [spot(Partition(self._topic, number)) for number in await partitions(client, self._topic)]
        if not where:
            raise LookupError("no such topic")
        client.assign(where)
        starts = await (client.end_offsets(where) if self._from_end else client.beginning_offsets(where))
        for each, offset in starts.items():
            client.seek(each, offset)

    @property
    def _client(self) -> Consumer:
        if self._open is None:
            raise BusUnavailable(f"{self._topic} is not open")
        return self._open


async def _reached(client: Consumer, ends: dict[Spot, int]) -> bool:
    return all([await client.position(each) >= end for each, end in ends.items()])
