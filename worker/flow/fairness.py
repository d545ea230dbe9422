"""Bulk work beside interactive work (D6): how long interactive answers take, and how bulk keeps out of their way.

Each process with an interactive lane says in its row how slow its slowest hundredth was lately; each bulk process reads
the worst of them once a second and goes on at the pace that `chain.fair` gives. Losing any of it costs only speed.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil, inf
from time import perf_counter, time_ns
from typing import Protocol
from uuid import UUID

from worker.chain import fair
from worker.chain.fair import Pace
from worker.flow.clock import boottime
from worker.flow.intake import River
from worker.model.campaign_bodies import FULL_SHARE
from worker.model.fairness import Neighbours
from worker.model.hsm import Condemned, HsmOp, HsmResult
from worker.model.records import Record, Verdict
from worker.ports import Hsm

LATELY_S = 3.0
SAMPLES = 5000
AT_ONCE_ON_TOKEN = 256
"""Operations of bulk work in one run on the token: some milliseconds, and whoever else waits has his turn."""
BACKED_OFF_S = 1.0
"""The longest rest that only the pace wants: a busy machine alone must not starve a campaign. A share is kept to."""
SMALLEST = 100
"""Items of a slice."""
LOOK_S = 0.5
"""Whoever rests looks so often whether the pace is another one."""
LONGEST_REST_S = 5.0
"""Of a batch of requests: below the time in which a lane has to drain."""


class Peers(Protocol):
    """The rows of all living processes; unverified, for nothing rests on them but speed."""

    async def tell(self, run: UUID, p99_ms: int | None, pace: float | None) -> None:
        """Say how slow its interactive answers are, and the pace of its bulk work; None: it has no such lane."""
        ...

    async def neighbours(self) -> Neighbours:
        """As of now; what nobody said in the last seconds counts as nothing."""
        ...


class PaceWatch(Protocol):
    """Who wants to know. Must not block or raise."""

    def interactive(self, p99_ms: int) -> None:
        """The slowest hundredth of this process's interactive answers of the last seconds took longer."""
        ...

    def paced(self, pace: float) -> None:
        """Bulk work goes on at this part of its full speed."""
        ...


@dataclass(slots=True)
class Latencies:
    """Milliseconds from a record's arrival at the broker to its answer, of the last seconds."""

    clock: Callable[[], float] = boottime
    _samples: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=SAMPLES))

    def note(self, took_ms: Iterable[int]) -> None:
        """So long these answers took."""
        now = self.clock()
        self._samples.extend((now, max(0, one)) for one in took_ms)

    def p99_ms(self) -> int:
        """0 if there was no answer."""
        since = self.clock() - LATELY_S
        while self._samples and self._samples[0][0] < since:
            self._samples.popleft()
        took = sorted(one for _, one in self._samples)
        return took[ceil(len(took) * 0.99) - 1] if took else 0


@dataclass(frozen=True, slots=True)
class Timed:
    """A river that notes how long its answers took, waiting in Kafka included."""

    river: River
    latencies: Latencies

    async def run(self, records: Sequence[Record]) -> list[Verdict]:
        """See `flow.intake.River`."""
        verdicts = await self.river.run(records)
        now_ms = time_ns() // 1_000_000
        self.latencies.note(now_ms - one.appended_ms for one in records if one.appended_ms)
        return verdicts

    async def bury(self, record: Record) -> Verdict:
        """See `flow.intake.River`."""
        return await self.river.bury(record)

    async def set_aside(self, record: Record) -> Verdict:
        """See `flow.intake.River`."""
        return await self.river.set_aside(record)


@dataclass(slots=True)
class Throttle:
    """This process's bulk work: with all its like `share` percent of the token at most, and less when it disturbs."""

    share: int = FULL_SHARE
    limit_ms: int = 0
    pace: Pace = field(default_factory=Pace)
    processes: int = 1
    clock: Callable[[], float] = perf_counter
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _used: dict[str, float] = field(default_factory=dict)
    """When each kind of bulk work was last on the token: those of this moment divide it."""

    def looked(self, seen: Neighbours) -> None:
        """One look at the neighbours."""
        self.processes = max(1, seen.bulk)
        self.pace = fair.after(self.pace, seen.p99_ms, self.limit_ms)

    def part(self, share: int = FULL_SHARE) -> float:
        """Of the token's time, what this process may take now for work that has this share itself."""
        return fair.part(self.pace, min(share, self.share), self.processes)

    def size(self, whole: int) -> int:
        """How many items are done at once: fewer while answers are slow, for whoever reads waits for Postgres, too."""
        return min(whole, max(SMALLEST, round(whole * self.pace.share)))

    async def rest(self, kind: str, began: float, spent_s: float, share: int, at_once: int) -> None:
        """Let others go on after so long on the token, in work that `began` on our clock in one of so many lanes."""
        self._used[kind] = since = self.clock()
        bound = inf if min(share, self.share) < FULL_SHARE else since + BACKED_OFF_S
        while (now := self.clock()) < bound:
            left = fair.rest_s(spent_s, now - began, self.part(share), at_once * self._kinds())
            if left <= 0:
                return
            await self.sleep(min(left, LOOK_S))

    def _kinds(self) -> int:
        since = self.clock() - LATELY_S
        return sum(at >= since for at in self._used.values()) or 1


@dataclass(frozen=True, slots=True)
class BulkHsm:
    """The token for bulk work: in short runs, and with a rest after each batch, if it has `lanes` of its own.

    One batch of this process at a time: two take as long together, and then nobody is on the token while both are
    settled.
    """

    hsm: Hsm
    throttle: Throttle
    lanes: int = 0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, ops: Sequence[HsmOp], timeout_s: float) -> list[HsmResult]:
        """See `worker.ports.Hsm.run`."""
        began = perf_counter()
        try:
            async with asyncio.timeout(timeout_s):
                await self._turn.acquire()
        except TimeoutError:
            return await self.hsm.run(ops, 0.0)
        try:
            results, spent = await self._pieces(ops, began + timeout_s)
        finally:
            self._turn.release()
        if self.lanes and ops:
            rest = self.throttle.rest("requests", began, spent, FULL_SHARE, self.lanes)
            with suppress(TimeoutError):
                await asyncio.wait_for(rest, LONGEST_REST_S)
        return results

    async def _pieces(self, ops: Sequence[HsmOp], until: float) -> tuple[list[HsmResult], float]:
        """The results, and for how many seconds the token was at it."""
        began = perf_counter()
        results: list[HsmResult] = []
        for start in range(0, len(ops), AT_ONCE_ON_TOKEN):
            left = max(0.0, until - perf_counter())
            results += await self.hsm.run(ops[start : start + AT_ONCE_ON_TOKEN], left)
        return results, perf_counter() - began

    def drop(self, keys: Iterable[UUID] | None) -> None:
        """See `worker.ports.Hsm.drop`."""
        self.hsm.drop(keys)

    def condemn(self, versions: Iterable[Condemned]) -> frozenset[Condemned]:
        """See `worker.ports.Hsm.condemn`."""
        return self.hsm.condemn(versions)


@dataclass(frozen=True, slots=True)
class Manners:
    """The duty: say how this process does, see how the others do. `latencies` and `throttle` as its lanes need them."""

    run: UUID
    peers: Peers
    watch: PaceWatch
    latencies: Latencies | None
    throttle: Throttle | None

    async def turn(self) -> None:
        """Once a second."""
        p99_ms = None if self.latencies is None else self.latencies.p99_ms()
        if p99_ms is not None:
            self.watch.interactive(p99_ms)
        if self.throttle is not None:
            self.throttle.looked(await self.peers.neighbours())
            self.watch.paced(self.throttle.pace.share)
        pace = None if self.throttle is None else self.throttle.pace.share
        await self.peers.tell(self.run, p99_ms, pace)
