"""The loop of one lane: catch a batch, let the river run it, commit what is finished without a hole.

Several batches are under way at once, so that one's settle overlaps the next one's HSM work. A failure drops its batch
and every later one of its partitions: they are rewound to what is committed and come again under a new epoch (D3).
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from worker.flow.alone import Quiet
from worker.flow.clock import boottime
from worker.flow.offsets import Prefix
from worker.model.records import Catch, Closed, Partition, Record, Verdict
from worker.ports import Attempts, BusUnavailable, Source, StaleEpoch, StoreUnavailable, TokenUnavailable

log = logging.getLogger(__name__)

DEATHS = 3
"""So many deaths at one offset make its records suspects; so many deaths alone bury one (D5)."""
_PASSING = (BusUnavailable, StoreUnavailable, TokenUnavailable, StaleEpoch)


class River(Protocol):
    """What the intake feeds."""

    async def run(self, records: Sequence[Record]) -> list[Verdict]:
        """Answer a batch; one verdict per record, in order. Raising means that the batch failed as a whole."""
        ...

    async def bury(self, record: Record) -> Verdict:
        """Dead-letter a record that stopped its worker three times, and answer POISON if its signature held."""
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
        """A batch was dropped and will come again."""
        ...

    def revoked(self, partitions: int, unfinished: int) -> None:
        """Partitions were given back, with so many records unfinished."""
        ...

    def suspected(self, record: Record, times: int) -> None:
        """A record is processed alone, for the `times`-th time; more than three: it is buried."""
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

    @property
    def reach(self) -> int:
        """How far behind the committed offset a record may have been when its worker died."""
        return self.max_records * self.in_flight


@dataclass(slots=True)
class _Held:
    """One assigned partition. `epoch` None: rewound, and its first record is awaited."""

    epoch: int | None
    prefix: Prefix
    committed: int
    assignments: int
    suspect_until: int = 0
    failures: int = 0
    dead: int = 0
    has_progressed: bool = False


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
        clock: Callable[[], float] = boottime,
    ) -> None:
        self._group = group
        self._source = source
        self._river = river
        self._attempts = attempts
        self._observer = observer
        self._bounds = bounds
        self._quiet = quiet or Quiet()
        self._clock = clock
        self.last_turn = clock()
        """When the loop last turned, on `clock`: what /livez watches. It does not turn while every batch hangs."""
        self._held: dict[Partition, _Held] = {}
        self._flying: dict[asyncio.Task[None], frozenset[Partition]] = {}
        self._stopped: set[Partition] = set()
        self._stop = asyncio.Event()
        self._unsaved = asyncio.Event()
        self._saving = asyncio.Lock()
        self._failures = 0
        self._retry_at = 0.0
        source.on_revoke(self._drain)

    @property
    def is_ready(self) -> bool:
        """Whether no partition was stopped by the dead-letter limit."""
        return not self._stopped

    def stop(self) -> None:
        """Take nothing more, finish what was begun, commit, and let `run` return."""
        self._stop.set()

    async def run(self) -> None:
        """Run the lane. Errors of bus, store and token are waited out; nothing else comes out either."""
        tasks = [asyncio.create_task(self._turns()), asyncio.create_task(self._save_forever())]
        try:
            stop = asyncio.create_task(self._stop.wait())
            await asyncio.wait([*tasks, stop], return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._drain(frozenset(self._held))
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _turns(self) -> None:
        while True:
            self.last_turn = self._clock()
            if (pause := self._retry_at - self._clock()) > 0:
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
        records = catch.records
        self._observer.caught(len(records), sum(record.size for record in records), catch.closed)
        try:
            await self._take_over(records)
        except Exception as error:  # noqa: BLE001 - whatever it is, the records come again
            await self._fail(records, error)
            return
        usual: list[Record] = []
        suspects: list[Record] = []
        for record in records:
            held = self._held.get(record.partition)
            if held is None or held.epoch != record.epoch or record.partition in self._stopped:
                continue
            held.prefix.caught([record.offset])
            (suspects if record.offset < held.suspect_until else usual).append(record)
        if usual:
            self._start(usual, self._together(usual))
        for record in suspects:
            if self._source.is_current(record.partition, record.epoch):
                await asyncio.shield(self._start([record], self._alone(record)))

    async def _take_over(self, records: Iterable[Record]) -> None:
        """Meet each partition that comes under a new epoch; one that is new to us may have killed its last worker."""
        for record in {record.partition: record for record in reversed(list(records))}.values():
            partition, held = record.partition, self._held.get(record.partition)
            if partition in self._stopped:
                self._source.pause([partition])
            elif held is not None and held.epoch is None:
                held.epoch, held.prefix, held.committed = record.epoch, Prefix(record.offset), record.offset
            elif held is None or held.epoch != record.epoch:
                count = await self._attempts.assigned(self._group, partition, record.offset)
                suspect_until = record.offset + self._bounds.reach if count > DEATHS else 0
                self._held[partition] = _Held(record.epoch, Prefix(record.offset), record.offset, count, suspect_until)

    def _start(self, records: Sequence[Record], work: Awaitable[list[Verdict]]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._fly(records, work))
        self._flying[task] = frozenset(record.partition for record in records)
        task.add_done_callback(self._flying.pop)
        return task

    async def _fly(self, records: Sequence[Record], work: Awaitable[list[Verdict]]) -> None:
        begun = self._clock()
        try:
            verdicts = await work
        except Exception as error:  # noqa: BLE001 - whatever it is, the batch comes again
            await self._fail(records, error)
            return
        self._failures = 0
        self._observer.finished(len(records), self._clock() - begun)
        for record, verdict in zip(records, verdicts, strict=True):
            held = self._held.get(record.partition)
            if held is not None and held.epoch == record.epoch:
                held.prefix.finished(record.offset, verdict)
        for partition in {record.partition for record in records}:
            self._advance(partition)

    async def _together(self, records: Sequence[Record]) -> list[Verdict]:
        async with self._quiet.company():
            return await self._river.run(records)

    async def _alone(self, record: Record) -> list[Verdict]:
        where = (self._group, record.partition, record.offset)
        async with self._quiet.alone():
            times = await self._attempts.begin_alone(*where)
            self._observer.suspected(record, times)
            try:
                verdicts = [await self._river.bury(record)] if times > DEATHS else await self._river.run([record])
            except _PASSING:
                await self._attempts.end_alone(*where)  # not the record's fault
                raise
            await self._attempts.end_alone(*where)
            return verdicts

    def _advance(self, partition: Partition) -> None:
        held = self._held.get(partition)
        if held is None or held.epoch is None:
            return
        for verdict in held.prefix.advance():
            if verdict is Verdict.DEAD:
                held.dead += 1
            elif verdict is Verdict.DONE:
                held.dead = 0
        held.failures = 0 if held.prefix.next_offset > held.committed else held.failures
        if held.dead >= self._bounds.dead_letters and partition not in self._stopped:
            self._stopped.add(partition)
            self._source.pause([partition])
            self._observer.stopped(partition)
        self._unsaved.set()

    async def _fail(self, records: Sequence[Record], error: Exception) -> None:
        self._note_failure(len(records), error)
        async with self._saving:  # a commit under way would be overtaken by the rewind
            ours = []
            for partition, epoch in {record.partition: record.epoch for record in records}.items():
                held = self._held.get(partition)
                if held is not None and held.epoch not in (epoch, None):
                    continue  # rewound already, and running again
                if held is not None:
                    if not isinstance(error, _PASSING):
                        held.failures += 1
                        if held.failures >= DEATHS:
                            held.suspect_until = held.committed + self._bounds.reach
                    held.epoch, held.dead = None, 0
                if self._source.is_current(partition, epoch):
                    ours.append(partition)
            await self._source.rewind(ours)

    def _note_failure(self, records: int, error: Exception) -> None:
        self._observer.failed(records, error)
        if isinstance(error, StaleEpoch):
            return
        log.warning("%s: a batch of %d records failed and comes again: %r", self._group, records, error)
        now = self._clock()
        if now >= self._retry_at:  # batches that fail together count once
            self._failures += 1
            longest = min(self._bounds.longest_pause_s, self._bounds.first_pause_s * 2 ** (self._failures - 1))
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
            except BusUnavailable as error:
                log.warning("%s: offsets are not committed, and will be: %r", self._group, error)
                self._unsaved.set()
                await asyncio.sleep(self._bounds.first_pause_s)

    async def _save(self) -> None:
        """Commit the finished prefixes of what is held under the epoch that finished it."""
        async with self._saving:
            done = {
                partition: held
                for partition, held in self._held.items()
                if held.epoch is not None
                and held.prefix.next_offset > held.committed
                and self._source.is_current(partition, held.epoch)
            }
            if not done:
                return
            offsets = {partition: held.prefix.next_offset for partition, held in done.items()}
            await self._source.commit(offsets)
            for partition, held in done.items():
                held.committed = offsets[partition]
            proven = [partition for partition, held in done.items() if held.assignments > 1 and not held.has_progressed]
            for held in done.values():
                held.has_progressed = True
            await self._release(proven)

    async def _drain(self, partitions: frozenset[Partition]) -> None:
        """Finish what was begun on these, commit it, and forget them."""
        flying = [task for task, touched in self._flying.items() if touched & partitions]
        if flying:
            await asyncio.wait(flying, timeout=self._bounds.drain_s)
        with suppress(StaleEpoch, BusUnavailable):
            await self._save()
        gone = {partition: held for partition in partitions if (held := self._held.pop(partition, None)) is not None}
        unfinished = sum(held.prefix.open_records for held in gone.values())
        self._observer.revoked(len(partitions), unfinished)
        # With progress the next assignment begins elsewhere and counts anew; without it, this one did end cleanly.
        await self._release(p for p, held in gone.items() if not held.has_progressed and held.prefix.is_idle)

    async def _release(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            try:
                await self._attempts.released(self._group, partition)
            except StoreUnavailable as error:
                log.warning("%s: %s keeps its count of deaths: %r", self._group, partition, error)
