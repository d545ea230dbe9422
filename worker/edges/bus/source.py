"""What one lane consumes from Kafka: manual commits, and an epoch for every assignment of a partition (D3).

aiokafka calls back while a group rebalances, and only logs what its callbacks raise. So the callbacks note what
happened and nothing else; `catch` does the work, where errors are seen: committed offset, seek, then a new epoch.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from aiokafka.errors import CommitFailedError, IllegalStateError

from worker.edges.bus import lenient
from worker.edges.bus.access import KafkaAccess
from worker.edges.bus.kafka import (
    Consumed,
    Consumer,
    RebalanceListener,
    Spot,
    consumer,
    is_expelled,
    partition_of,
    raise_group_error,
    spot,
)
from worker.edges.bus.pulse import Pulse
from worker.edges.bus.stall import StallWatch
from worker.model.records import Catch, Closed, Partition, Record
from worker.ports import BusUnavailable, StaleEpoch

log = logging.getLogger(__name__)


_APPEND_TIME = 1


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. The drain on revoke must end within `rebalance_s`; who is frozen longer than `session_s` is expelled."""

    session_s: float = 10.0
    heartbeat_s: float = 2.0
    rebalance_s: float = 30.0
    wait_s: float = 0.2
    """How long an empty catch takes."""
    answer_s: float = 5.0
    """How long the broker may take to answer before it counts as away."""
    stall_s: float = 15.0
    """After so long without a record, see whether there are any; the second time in vain, connect anew."""


Drain = Callable[[frozenset[Partition]], Awaitable[None]]


class KafkaSource:
    """`Source` over one consumer group. Heals itself: after an error the next catch opens another."""

    def __init__(self, access: KafkaAccess, group: str, topics: Sequence[str], timing: Timing = Timing()) -> None:
        self._access = access
        self._group = group
        self._topics = tuple(topics)
        self._timing = timing
        self._drain: Drain | None = None
        self._consumer: Consumer | None = None
        self._pulse = Pulse(timing.session_s, self._void)
        self._last_epoch = 0
        self._epochs: dict[Partition, int] = {}
        self._committed: dict[Partition, int] = {}
        self._unplaced: set[Partition] = set()
        """Assigned, paused, and waiting for `catch` to find their offset."""
        self._paused: set[Partition] = set()
        self._surplus: deque[Record] = deque()
        """Fetched beyond a batch's bytes; void like any other record when its epoch is."""
        self._assigned = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        self._stall = StallWatch(timing.stall_s, timing.answer_s)

    async def __aenter__(self) -> Self:
        """Reach the cluster. Raises `BusUnavailable`, saying the likely causes."""
        await self._open()
        self._pulse.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the group. The intake has drained and committed by now."""
        await self._pulse.stop()
        await self._close()
        if self._closing:
            await asyncio.wait(self._closing)

    def on_revoke(self, drain: Drain) -> None:
        """See `Source`."""
        self._drain = drain

    async def catch(self, max_records: int, max_bytes: int) -> Catch:
        """See `Source`."""
        try:
            return await self._catch(max_records, max_bytes)
        except BusUnavailable:
            await self._close()
            raise
        except Exception as error:
            await self._close()
            raise BusUnavailable(f"Kafka: reading {', '.join(self._topics)} failed: {error!r}") from error

    def is_current(self, partition: Partition, epoch: int) -> bool:
        """See `Source`. A process frozen past the session timeout holds nothing, even before its group says so."""
        return self._pulse.is_steady() and self._epochs.get(partition) == epoch

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """See `Source`."""
        client = self._consumer
        if client is None or not offsets.keys() <= self._epochs.keys():
            raise StaleEpoch("a partition was given back")
        try:
            async with asyncio.timeout(self._timing.answer_s):
                await client.commit({spot(partition): offset for partition, offset in offsets.items()})
        except (CommitFailedError, IllegalStateError) as error:
            raise StaleEpoch(str(error)) from error
        except Exception as error:
            raise BusUnavailable(f"Kafka: committing offsets of {self._group} failed: {error!r}") from error
        for partition, offset in offsets.items():
            self._committed[partition] = max(offset, self._committed.get(partition, 0))

    async def rewind(self, partitions: Iterable[Partition]) -> None:
        """See `Source`. Needs no broker: what this process committed under its own assignment is what is committed."""
        if self._consumer is None:
            return
        for partition in set(partitions) & self._epochs.keys():
            try:
                self._consumer.seek(spot(partition), self._committed[partition])
            except IllegalStateError:
                del self._epochs[partition]
            else:
                self._epochs[partition] = self._next_epoch()

    def pause(self, partitions: Iterable[Partition]) -> None:
        """See `Source`."""
        self._paused.update(partitions)
        if self._consumer is not None:
            self._consumer.pause(*self._held(self._paused))

    def resume(self, partitions: Iterable[Partition]) -> None:
        """See `Source`."""
        wanted = self._paused & set(partitions)
        self._paused -= wanted
        if self._consumer is not None:
            self._consumer.resume(*self._held(wanted))

    @property
    def is_assigned(self) -> bool:
        """Whether the group has given this process its share, be it empty."""
        return self._assigned.is_set()

    def lag(self) -> dict[Partition, int]:
        """Records not yet committed of each partition held, by what the last fetch told. Asks nobody."""
        client = self._consumer
        held = {} if client is None else {where: client.highwater(where) for where in self._held(self._committed)}
        ends = {partition_of(where): end for where, end in held.items() if end is not None}
        return {partition: max(0, end - self._committed[partition]) for partition, end in ends.items()}

    # What aiokafka calls while the group rebalances; a client that was given up meanwhile has no say.

    async def revoked(self, client: Consumer) -> None:
        """All is to be given back (the assignors are eager)."""
        if client is not self._consumer:
            return
        held = frozenset(self._epochs)
        self._assigned.clear()
        self._unplaced.clear()
        self._surplus.clear()
        if is_expelled(client):
            self._epochs.clear()
        try:
            if self._drain is not None and held:
                await self._drain(held)
        except Exception:
            log.exception("draining before a rebalance failed; what was not finished is done again")
        finally:
            if client is self._consumer:
                self._forget()

    def assigned(self, client: Consumer, partitions: frozenset[Partition]) -> None:
        """These are ours now; nothing is taken from them before `catch` has placed them."""
        if client is self._consumer:
            self._unplaced = set(partitions)
            client.pause(*map(spot, partitions))
            self._assigned.set()

    # The rest runs in the task that calls `catch`, save the pulse.

    async def _catch(self, max_records: int, max_bytes: int) -> Catch:
        client = self._consumer or await self._open()
        if not self._assigned.is_set():
            # During a rebalance getmany would wait for its end, however long that takes.
            raise_group_error(client)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._assigned.wait(), self._timing.wait_s)
            return Catch([], Closed.EMPTY)
        if self._unplaced:
            await self._place(client)
        if not self._surplus:
            fetched = await client.getmany(timeout_ms=int(self._timing.wait_s * 1000), max_records=max_records)
            # No await from here on: what was delivered belongs to the epochs of this moment.
            for where, records in fetched.items():
                self._take(partition_of(where), records)
            if fetched:
                self._stall.delivered()
            else:
                await self._stall.nothing_came(client, map(spot, self._epochs.keys() - self._paused))
        return self._batch(max_records, max_bytes)

    def _take(self, partition: Partition, records: Iterable[Consumed]) -> None:
        epoch = self._epochs.get(partition)
        if epoch is None:
            # Delivered in the middle of a rebalance: the position has moved, so it must be placed again if it is ours.
            self._unplaced.add(partition)
            return
        self._surplus.extend(_record(partition, epoch, record) for record in records)

    def _batch(self, max_records: int, max_bytes: int) -> Catch:
        batch: list[Record] = []
        size = 0
        while self._surplus:
            record = self._surplus[0]
            if not self.is_current(record.partition, record.epoch):
                self._surplus.popleft()
                continue
            if len(batch) == max_records:
                return Catch(batch, Closed.RECORDS)
            size += record.weight
            if batch and size > max_bytes:
                return Catch(batch, Closed.BYTES)
            batch.append(self._surplus.popleft())
        return Catch(batch, Closed.RECORDS if len(batch) == max_records else Closed.EMPTY)

    async def _place(self, client: Consumer) -> None:
        wanted = [spot(partition) for partition in self._unplaced]
        try:
            async with asyncio.timeout(self._timing.answer_s):
                offsets = dict(zip(wanted, await asyncio.gather(*map(client.committed, wanted)), strict=True))
                fresh = [where for where, offset in offsets.items() if offset is None]
                offsets |= await client.beginning_offsets(fresh) if fresh else {}
        except TimeoutError as error:
            raise BusUnavailable("Kafka does not say what is committed") from error
        if client is not self._consumer or not self._assigned.is_set():
            return  # all was revoked in the meantime
        for where, offset in offsets.items():
            partition = partition_of(where)
            if partition not in self._unplaced or where not in client.assignment():
                self._unplaced.discard(partition)
                continue
            client.seek(where, offset or 0)
            client.resume(where)
            self._paused.discard(partition)
            self._unplaced.discard(partition)
            self._committed[partition] = offset or 0
            self._epochs[partition] = self._next_epoch()
        self._stall.delivered()

    async def _open(self) -> Consumer:
        client = consumer(
            self._access,
            group_id=self._group,
            session_timeout_ms=int(self._timing.session_s * 1000),
            heartbeat_interval_ms=int(self._timing.heartbeat_s * 1000),
            rebalance_timeout_ms=int(self._timing.rebalance_s * 1000),
            request_timeout_ms=int(max(self._timing.rebalance_s, self._timing.answer_s) * 1000) + 5000,
        )
        try:
            await client.start()
        except Exception as error:
            await client.stop()
            raise self._access.unreachable(error) from error
        client.subscribe(self._topics, listener=_Listener(self, client))
        self._consumer = client
        return client

    async def _close(self) -> None:
        """Leave the group. It is never broken off: half closed, a member would keep its partitions and work on none."""
        client, self._consumer = self._consumer, None
        self._forget()
        if client is not None:
            task = asyncio.create_task(client.stop())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            await asyncio.wait([task], timeout=self._timing.answer_s)

    def _forget(self) -> None:
        self._epochs.clear()
        self._committed.clear()
        self._unplaced.clear()
        self._paused.clear()
        self._surplus.clear()
        self._assigned.clear()

    def _void(self) -> None:
        self._unplaced |= self._epochs.keys()
        self.pause(self._epochs)
        self._epochs.clear()
        self._surplus.clear()

    def _held(self, partitions: Iterable[Partition]) -> list[Spot]:
        held = self._consumer.assignment() if self._consumer is not None else frozenset()
        return [where for where in map(spot, partitions) if where in held]

    def _next_epoch(self) -> int:
        self._last_epoch += 1
        return self._last_epoch


class _Listener(RebalanceListener):
    def __init__(self, source: KafkaSource, client: Consumer) -> None:
        self._source = source
        self._client = client

    async def on_partitions_revoked(self, revoked: Iterable[Spot]) -> None:  # noqa: ARG002 - all is revoked
        await self._source.revoked(self._client)

    def on_partitions_assigned(self, assigned: Iterable[Spot]) -> None:
        self._source.assigned(self._client, frozenset(map(partition_of, assigned)))


def _record(partition: Partition, epoch: int, record: Consumed) -> Record:
    sent = record.headers if len(record.headers) <= lenient.MAX_HEADERS else lenient.crowd(len(record.headers))
    headers = tuple((name, value or b"") for name, value in sent)
    # A time that the producer chose says nothing about freshness (S3): such a record is as old as can be.
    appended_ms = record.timestamp if record.timestamp_type == _APPEND_TIME else 0
    return Record(partition, record.offset, record.key, record.value or b"", headers, appended_ms, epoch)
