"""The loop of one lane: catch a batch, let the river run it, commit what is finished without a hole.

Several batches are under way at once, so that one's settle overlaps the next one's HSM work. A failure drops its batch
and every later one of its partitions: they are rewound to what is committed and come again under a new epoch (D3).
"""

import asyncio
import logging
import random
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from worker.flow.alone import Quiet
from worker.flow.clock import boottime
from worker.flow.failpoints import NONE, Failpoints
from worker.flow.holdings import DEATHS, Holdings
from worker.model.records import Catch, Closed, Partition, Record, Verdict
from worker.ports import Attempts, BusUnavailable, Source, StaleEpoch, StoreUnavailable, TokenUnavailable

log = logging.getLogger(__name__)

_PASSING = (BusUnavailable, StoreUnavailable, TokenUnavailable, StaleEpoch)
"""What is not the fault of any record: it is waited out, for ever if need be."""


class River(Protocol):
    """What the intake feeds."""

    async def run(self, records: Sequence[Record]) -> list[Verdict]:
        """Answer a batch; one verdict per record, in order. Raising means that the batch failed as a whole."""
        ...

    async def bury(self, record: Record) -> Verdict:
        """Dead-letter a record that stopped its worker three times, and answer POISON if its signature held."""
        ...

    async def set_aside(self, record: Record) -> Verdict:
        """Dead-letter a record without opening it: opening is what stopped three workers that were to bury it."""
        ...


class IntakeObserver(Protocol):
    """Who wants to know: metrics, logs and alarms are its business. Must not block or raise."""

    def caught(self, records: int, size: int, closed: Closed) -> None:
        """A batch was caught: its records, its bytes, and why it has no more."""
        ...

    def finished(self, records: int, seconds: float) -> None:
        """A batch came out of the river."""
        ...

    def failed(self, records: int, error: Exception) -> None:
        """A batch was dropped and will come again; 0 records: nothing could be caught."""
        ...

    def revoked(self, partitions: int, unfinished: int) -> None:
        """Partitions were given back, with so many records unfinished."""
        ...

    def suspected(self, record: Record, times: int) -> None:
        """A record is processed alone, for the `times`-th time; from the fourth on it is buried."""
        ...

    def stopped(self, partition: Partition) -> None:
        """The dead-letter limit was reached: nothing more is taken from this partition. Wake somebody."""
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of one lane."""

    max_records: int = 1000
    max_bytes: int = 1024 * 1024
    """Bounds the items of a batch too: one takes some tens of bytes."""
    in_flight: int = 3
    drain_s: float = 10.0
    """Must be well below the rebalance timeout."""
    commit_every_s: float = 0.02
    first_pause_s: float = 0.05
    longest_pause_s: float = 5.0
    dead_letters: int = 100
    """Authentic dead letters in a row that stop a partition (S9)."""


class Intake:
    """One lane. `run` until `stop`; then close the source, which leaves the group."""

    def __init__(
        self,
        group: str,
        source: Source,
        river: River,
        attempts: Attempts,
        observer: IntakeObserver,
        bounds: Bounds = Bounds(),
        quiet: Quiet | None = None,
    ) -> None:
        self._group = group
        self._source = source
        self._river = river
        self._attempts = attempts
        self._observer = observer
        self._bounds = bounds
        self._quiet = quiet or Quiet()
        self.failpoints: Failpoints = NONE
        """Those of this process: the point `committed` is passed here."""
        self.last_turn = boottime()
        """When the loop last turned, on that clock: what /livez watches. It does not turn while every batch hangs."""
        self._holdings = Holdings(bounds.max_records * bounds.in_flight, bounds.dead_letters)
        self._flying: dict[asyncio.Task[None], frozenset[Partition]] = {}
        self._stop = asyncio.Event()
        self._unsaved = asyncio.Event()
        self._saving = asyncio.Lock()
        self._failures = 0
        self._retry_at = 0.0
        source.on_revoke(self._drain)

    @property
    def is_ready(self) -> bool:
        """Whether no partition was stopped by the dead-letter limit."""
        return not self._holdings.stopped

    def stop(self) -> None:
        """Take nothing more, finish what was begun, commit, and let `run` return."""
        self._stop.set()

    async def run(self) -> None:
        """Run the lane. Errors of bus, store and token are waited out."""
        stop = asyncio.create_task(self._stop.wait())
        loops = [asyncio.create_task(self._turns()), asyncio.create_task(self._save_forever())]
        try:
            await asyncio.wait([*loops, stop], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stop, *loops):
                task.cancel()
            await asyncio.gather(stop, *loops, return_exceptions=True)
            await self._drain(self._holdings.partitions)
            for task in list(self._flying):
                task.cancel()
            await asyncio.gather(*self._flying, return_exceptions=True)
        for task in loops:
            if not task.cancelled():
                task.result()

    async def _turns(self) -> None:
        while True:
            self.last_turn = boottime()
            if (pause := self._retry_at - boottime()) > 0:
                await asyncio.sleep(pause)
            while len(self._flying) >= self._bounds.in_flight:
                await asyncio.wait(self._flying, return_when=asyncio.FIRST_COMPLETED)
            try:
                catch = await self._source.catch(self._bounds.max_records, self._bounds.max_bytes)
            except BusUnavailable as error:
                self._note_failure(0, error)
                continue
            if catch.records:
                await self._begin(catch)

    async def _begin(self, catch: Catch) -> None:
        self._observer.caught(len(catch.records), sum(record.size for record in catch.records), catch.closed)
        try:
            for first in self._holdings.newcomers(catch.records):
                count = await self._attempts.assigned(self._group, first.partition, first.offset)
                self._holdings.adopt(first, count)
        except Exception as error:  # noqa: BLE001 - whatever it is, the records come again
            await self._fail(catch.records, error)
            return
        if self._holdings.stopped:  # a new assignment had resumed them
            self._source.pause({record.partition for record in catch.records} & self._holdings.stopped)
        usual, suspects = self._holdings.begin(catch.records)
        if usual:
            self._start(usual, self._together(usual))
        for record in suspects:
            if self._source.is_current(record.partition, record.epoch):
                await asyncio.shield(self._start([record], self._alone(record)))

    def _start(self, records: Sequence[Record], work: Coroutine[None, None, list[Verdict]]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._fly(records, work))
        self._flying[task] = frozenset(record.partition for record in records)
        task.add_done_callback(self._flying.pop)
        return task

    async def _fly(self, records: Sequence[Record], work: Coroutine[None, None, list[Verdict]]) -> None:
        begun = boottime()
        try:
            verdicts = await work
            over = self._holdings.finish(records, verdicts)
        except Exception as error:  # noqa: BLE001 - whatever it is, the batch comes again
            await self._fail(records, error)
            return
        self._failures = 0
        self._observer.finished(len(records), boottime() - begun)
        for partition in over:
            log.error("%s: too many authentic dead letters in a row on %s, stopped", self._group, partition)
            self._source.pause([partition])
            self._observer.stopped(partition)
        self._unsaved.set()

    async def _together(self, records: Sequence[Record]) -> list[Verdict]:
        async with self._quiet.company():
            return await self._river.run(records)

    async def _alone(self, record: Record) -> list[Verdict]:
        where = (self._group, record.partition, record.offset)
        async with self._quiet.alone():
            try:
                times = await self._attempts.begin_alone(*where)
                self._observer.suspected(record, times)
                verdict = await self._one(record, times)
            except _PASSING:
                await self._attempts.end_alone(*where)  # not the record's fault
                raise
            except asyncio.CancelledError:  # nor is a shutdown that did not wait for it
                with suppress(StoreUnavailable):
                    await asyncio.shield(self._attempts.end_alone(*where))
                raise
            await self._attempts.end_alone(*where)
            return [verdict]

    async def _one(self, record: Record, times: int) -> Verdict:
        if times > 2 * DEATHS:
            return await self._river.set_aside(record)
        if times > DEATHS:
            return await self._river.bury(record)
        (verdict,) = await self._river.run([record])
        return verdict

    async def _fail(self, records: Sequence[Record], error: Exception) -> None:
        self._note_failure(len(records), error)
        async with self._saving:  # a commit under way would be overtaken by the rewind
            void = self._holdings.fail(records, blames_records=not isinstance(error, _PASSING))
            epochs = {record.partition: record.epoch for record in records}
            await self._source.rewind(each for each in void if self._source.is_current(each, epochs[each]))

    def _note_failure(self, records: int, error: Exception) -> None:
        self._observer.failed(records, error)
        if isinstance(error, StaleEpoch):
            return
        log.warning("%s: a batch of %d records failed and comes again: %r", self._group, records, error)
        now = boottime()
        if now >= self._retry_at:  # batches that fail together count once
            self._failures += 1
            longest = min(self._bounds.longest_pause_s, self._bounds.first_pause_s * 2 ** min(self._failures - 1, 10))
            self._retry_at = now + longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret

    async def _save_forever(self) -> None:
        while True:
            await self._unsaved.wait()
            await asyncio.sleep(self._bounds.commit_every_s)
            self._unsaved.clear()
            try:
                await self._save()
            except StaleEpoch:
                pass  # somebody else does these again
            except Exception as error:  # noqa: BLE001 - whatever it is, committing the same again does no harm
                log.warning("%s: offsets are not committed yet: %r", self._group, error)
                self._unsaved.set()
                await asyncio.sleep(self._bounds.first_pause_s)

    async def _save(self) -> None:
        """Commit the finished prefixes of what is held under the epoch that finished it."""
        async with self._saving:
            if offsets := self._holdings.unsaved(self._source.is_current):
                await self._source.commit(offsets)
                self.failpoints.reach("committed")
                await self._release(self._holdings.saved(offsets))

    async def _drain(self, partitions: frozenset[Partition]) -> None:
        """Finish what was begun on these, commit it, and forget them."""
        flying = [task for task, touched in self._flying.items() if touched & partitions]
        if flying:
            await asyncio.wait(flying, timeout=self._bounds.drain_s)
        with suppress(StaleEpoch, BusUnavailable):
            await self._save()
        dropped = self._holdings.drop(partitions)
        self._observer.revoked(len(partitions), dropped.unfinished)
        # With progress the next assignment begins elsewhere and counts anew; without it, this one still ended cleanly.
        await self._release(dropped.untouched)

    async def _release(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            try:
                await self._attempts.released(self._group, partition)
            except StoreUnavailable as error:
                log.warning("%s: %s keeps its count of deaths: %r", self._group, partition, error)
