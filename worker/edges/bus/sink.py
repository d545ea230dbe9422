"""Publishing to Kafka with acks=all. The fleet's own topics and callers' reply topics go through two producers.

Own topics: an idempotent producer. Reply topics belong to callers, who may delete them, shrink their limits or take our
rights away; each refusal leaves a hole in an idempotent producer's sequence, after which the broker refuses everything
for that partition. Answers are delivered at least once anyway, so these go through a plain one that gives up.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from types import TracebackType
from typing import Self

from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)
from cachetools import TTLCache

from worker.edges.bus.access import KafkaAccess
from worker.edges.bus.kafka import Client, Producer, close, forget_topic, producer
from worker.model.records import Outgoing, Undeliverable
from worker.model.topics import DEAD_LETTER_LIMIT_BYTES
from worker.ports import BusUnavailable

log = logging.getLogger(__name__)

ANSWER_S = 10.0
"""How long a publish may take before the broker counts as away, or a caller's topic as refusing."""
LOOK_UP_TRIES = 3
"""An answer may belong to a question asked before the topic was added; and new topics want a moment."""
LOOK_UP_PAUSE_S = 0.05
CHECK_S = 0.25
"""How often an unanswered publish looks whether its topic is still there."""
CLOSE_S = 1.0
SHUN_S = 2.0
SHUNNED = 10_000
BATCH_BYTES = 256 * 1024
FRAME_BYTES = 8 * 1024
"""More than what record and batch framing add to keys, values and headers."""

_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_NO_TOPIC = (UnknownTopicOrPartitionError, InvalidTopicError)


class KafkaSink:
    """`Sink` over two producers. `own_limit` gives the size limit of a topic of the fleet's, None for a caller's."""

    def __init__(self, access: KafkaAccess, own_limit: Callable[[str], int | None], answer_s: float = ANSWER_S) -> None:
        self._access = access
        self._own_limit = own_limit
        self._answer_s = answer_s
        self._producers: dict[bool, Producer] = {}
        self._opening = asyncio.Lock()
        self._shunned: TTLCache[str, Undeliverable] = TTLCache(SHUNNED, SHUN_S)
        self._refreshed: TTLCache[str, bool] = TTLCache(SHUNNED, SHUN_S)

    async def __aenter__(self) -> Self:
        """Reach the cluster. Raises `BusUnavailable`, saying the likely causes."""
        await self._producer(own=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close both producers; nothing is under way by now."""
        for own, client in list(self._producers.items()):
            await self._retire(own, client)

    async def publish(self, records: Sequence[Outgoing]) -> list[Undeliverable | None]:
        """See `Sink`."""
        results: list[Undeliverable | None] = [None] * len(records)
        for own in (True, False):
            places = [place for place, each in enumerate(records) if (self._own_limit(each.topic) is not None) is own]
            if places:
                outcomes = await self._publish([records[place] for place in places], own)
                for place, outcome in zip(places, outcomes, strict=True):
                    results[place] = outcome
        return results

    async def _publish(self, records: Sequence[Outgoing], own: bool) -> list[Undeliverable | None]:
        client = await self._producer(own)
        try:
            return await self._deliver(client, records, own)
        except (KafkaError, TimeoutError, BusUnavailable) as error:
            # What is under way may still arrive; its answers are repeated, so twice does no harm.
            await self._retire(own, client)
            if isinstance(error, BusUnavailable):
                raise
            raise BusUnavailable(f"Kafka: publishing failed: {error!r}") from error

    async def _deliver(self, client: Producer, records: Sequence[Outgoing], own: bool) -> list[Undeliverable | None]:
        wanted: defaultdict[str, set[int | None]] = defaultdict(set)
        for each in records:
            wanted[each.topic].add(each.partition)
        async with asyncio.timeout(self._answer_s):
            found = await asyncio.gather(*(self._look_up(client.client, *each) for each in wanted.items()))
            missing = dict(zip(wanted, found, strict=True))
            pending = [missing[each.topic] or await self._send(client, each) for each in records]
        outcomes = [
            sent if isinstance(sent, Undeliverable) else await self._outcome(client, record, sent, own)
            for record, sent in zip(records, pending, strict=True)
        ]
        for place, record in enumerate(records):
            shared = len(records) > 1 and outcomes[place] is Undeliverable.TOO_LARGE
            if shared and not isinstance(pending[place], Undeliverable):
                # The broker refused the batch that the producer had put it in, for a neighbour's size perhaps.
                outcomes[place] = (await self._deliver(client, [record], own))[0]
        return outcomes

    async def _send(self, client: Producer, record: Outgoing) -> asyncio.Future[object] | Undeliverable:
        limit = self._own_limit(record.topic)
        size = len(record.value or b"") + len(record.key or b"") + sum(len(n) + len(v) for n, v in record.headers)
        if limit is not None and size + FRAME_BYTES > limit:
            return Undeliverable.TOO_LARGE
        if not _has(client.client, record.topic, {record.partition}):
            return Undeliverable.NO_TOPIC
        try:
            sent = await client.send(
                record.topic,
                value=record.value,
                key=record.key,
                partition=record.partition,
                headers=list(record.headers),
            )
        except _TOO_LARGE:
            return Undeliverable.TOO_LARGE
        sent.add_done_callback(_forget)  # a batch that fails as a whole asks for none of the rest
        return sent

    async def _outcome(
        self, client: Producer, record: Outgoing, sent: asyncio.Future[object], own: bool
    ) -> Undeliverable | None:
        waited = 0.0
        while not sent.done() and waited < self._answer_s:
            await asyncio.wait([sent], timeout=CHECK_S)
            waited += CHECK_S
            if not sent.done() and not own and (missing := await self._look_up(client.client, record.topic)):
                return missing
        if not sent.done():
            if own or not await client.client.force_metadata_update():
                raise BusUnavailable(f"Kafka does not acknowledge records of {record.topic}")
            log.warning("the cluster answers, but %s takes nothing", record.topic)
            return self._shun(record.topic, Undeliverable.REFUSED)
        error = sent.exception()
        return None if error is None else _reason(error, own)

    async def _look_up(
        self, client: Client, topic: str, numbers: AbstractSet[int | None] = frozenset()
    ) -> Undeliverable | None:
        """Why nothing can be sent there; None if it can. Without this, aiokafka would wait for a missing topic.

        A caller chooses the partition numbers: asking for each that is not there would hold back everybody's answers.
        So a topic that is known is asked once in a while whether it has grown, and `_send` refuses the rest.
        """
        if shunned := self._shunned.get(topic):
            return shunned
        for _ in range(LOOK_UP_TRIES):
            if client.cluster.partitions_for_topic(topic) is not None:
                if not _has(client, topic, numbers) and topic not in self._refreshed:
                    await self._refresh(client)
                    self._refreshed[topic] = True
                return None
            client.add_topic(topic)
            await self._refresh(client)
            if topic in client.cluster.unauthorized_topics:
                return self._shun(topic, Undeliverable.REFUSED)
            await asyncio.sleep(LOOK_UP_PAUSE_S)
        if client.cluster.partitions_for_topic(topic) is not None:
            return None
        forget_topic(client, topic)
        return self._shun(topic, Undeliverable.NO_TOPIC)

    async def _refresh(self, client: Client) -> None:
        if not await client.force_metadata_update():
            raise BusUnavailable("Kafka does not say which topics there are")

    def _shun(self, topic: str, reason: Undeliverable) -> Undeliverable:
        """Ask nothing of this topic for a while: a batch with a thousand answers for it asks once."""
        self._shunned[topic] = reason
        return reason

    async def _producer(self, own: bool) -> Producer:
        async with self._opening:
            if own not in self._producers:
                client = producer(
                    self._access,
                    acks="all",
                    enable_idempotence=own,
                    max_request_size=DEAD_LETTER_LIMIT_BYTES,
                    max_batch_size=BATCH_BYTES,
                    request_timeout_ms=int(self._answer_s * 1000),
                )
                try:
                    await client.start()
                except Exception as error:
                    await client.stop()
                    raise self._access.unreachable(error) from error
                self._producers[own] = client
            return self._producers[own]

    async def _retire(self, own: bool, client: Producer) -> None:
        if self._producers.get(own) is client:  # else a neighbour's failure retired it already
            del self._producers[own]
            await close(client, CLOSE_S)


def _has(client: Client, topic: str, numbers: AbstractSet[int | None]) -> bool:
    """Whether the topic has all these partitions; None is any, and always there."""
    return numbers - {None} <= (client.cluster.partitions_for_topic(topic) or set())


def _reason(error: BaseException, own: bool) -> Undeliverable:
    if own or not isinstance(error, KafkaError):
        # Our own topics were checked at start; if one refuses now, that is an operator's to mend and nobody's loss.
        raise BusUnavailable(f"Kafka: publishing failed: {error!r}") from error
    if isinstance(error, _TOO_LARGE):
        return Undeliverable.TOO_LARGE
    if isinstance(error, _NO_TOPIC):
        return Undeliverable.NO_TOPIC
    return Undeliverable.REFUSED


def _forget(sent: asyncio.Future[object]) -> None:
    if not sent.cancelled():
        sent.exception()
