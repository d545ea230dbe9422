"""Threads with one session each, fed from one queue. The event loop only puts jobs in and is woken once per batch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from math import ceil
from queue import SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from worker.edges.hsm.batch import Chunk
from worker.edges.hsm.ck import CkError
from worker.edges.hsm.config import HsmConfig, Observer
from worker.edges.hsm.crew import Crew
from worker.edges.hsm.deks import Results
from worker.edges.hsm.device import Away, Device
from worker.edges.hsm.keeper import Keeper
from worker.model.hsm import Condemned, Fault, HsmFault, HsmOp, HsmResult
from worker.ports import TokenUnavailable

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_LARGEST_PART = 64
_PATIENCE_S = 5.0
_LATE = HsmFault(Fault.UNAVAILABLE, "not done in time")


class Job(Protocol):
    """What a thread can do inside the gate; `deadline` is monotonic seconds."""

    deadline: float
    finish: Callable[[], None]

    def over(self) -> bool:
        """Whether it is too late to begin."""
        ...

    def work(self, crew: Crew, keeper: Keeper, observer: Observer, /) -> None:
        """Do what is not done yet. Raises `Away`: called again when the gate opens."""
        ...


class Pool:
    """Implements `worker.ports.Hsm`."""

    def __init__(self, config: HsmConfig, device: Device, observer: Observer) -> None:
        self._device, self._observer = device, observer
        self._keeper = Keeper(config)
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._sessions = config.sessions
        self._threads = [Thread(target=self._serve, name=f"hsm-{n}", daemon=True) for n in range(config.sessions)]
        for thread in self._threads:
            thread.start()

    async def run(self, ops: Sequence[HsmOp], timeout_s: float) -> list[HsmResult]:
        """See `worker.ports.Hsm.run`."""
        results: Results = [None] * len(ops)
        if ops:
            parts = self._parts(len(ops))
            done = _Countdown(len(parts))
            until = monotonic() + timeout_s
            chunks = [Chunk(ops, part, results, until, done.one) for part in parts]
            for chunk in chunks:
                self._queue.put(chunk)
            try:
                await done.wait(timeout_s)
            finally:
                # A cancelled caller wants no more of it.
                for chunk in chunks:
                    chunk.deadline = 0.0
        return [_LATE if result is None else result for result in results]

    def _parts(self, size: int) -> list[range]:
        """One part for a token in software, which threads don't help; for a network token as many as there are threads.

        Parts grow with the queue: a busy pool gains nothing from more of them, and each draws its own random bytes.
        """
        threads = self._sessions if self._device.abilities.remote else 1
        step = ceil(size / threads)
        if threads > 1:
            step = min(_LARGEST_PART, step + self._queue.qsize() // threads)
        return [range(start, min(size, start + step)) for start in range(0, size, step)]

    def drop(self, keys: Iterable[UUID] | None) -> None:
        """See `worker.ports.Hsm.drop`."""
        self._bury(self._keeper.drop(keys))

    def condemn(self, versions: Iterable[Condemned]) -> frozenset[Condemned]:
        """See `worker.ports.Hsm.condemn`."""
        gone, graves = self._keeper.condemn(versions)
        self._bury(graves)
        return gone

    def _bury(self, graves: bool) -> None:
        if graves:
            self._queue.put(_Call(self._keeper.bury, monotonic() + 1.0, lambda: None))

    @property
    def handles(self) -> int:
        """How many KEKs are open in the token by this process."""
        return self._keeper.living

    async def call(self, function: Callable[[Crew], T], timeout_s: float) -> T:
        """Run a function on a pool session. Raises `TokenUnavailable` when it is not done in time, or its own error."""
        done = _Countdown(1)
        call = _Call(function, monotonic() + timeout_s, done.one)
        self._queue.put(call)
        await done.wait(timeout_s)
        return call.result()

    def stop(self) -> None:
        """Let the threads finish what they are at, within some seconds. Blocks."""
        until = monotonic() + _PATIENCE_S
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(timeout=max(0.0, until - monotonic()))

    def _serve(self) -> None:
        crew = Crew(self._device)
        while (job := self._queue.get()) is not None:
            try:
                self._do(job, crew)
            finally:
                job.finish()

    def _do(self, job: Job, crew: Crew) -> None:
        while not job.over():
            with self._device.inside(job.deadline) as epoch:
                if epoch is None:
                    return
                try:
                    crew.board(epoch)
                    job.work(crew, self._keeper, self._observer)
                except Away:
                    continue
                except Exception:  # noqa: BLE001
                    # A fault of ours: this job is answered as not done, and the thread lives on for the others.
                    _LOG.exception("an HSM job failed")
                return


class _Countdown:
    """Wakes the event loop when `count` parts are done."""

    def __init__(self, count: int) -> None:
        self._left, self._lock = count, Lock()
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def one(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left or self._loop.is_closed():
                return
        self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, timeout_s: float) -> None:
        try:
            await asyncio.wait_for(self._event.wait(), timeout_s)
        except TimeoutError:
            return


class _Call(Generic[T]):
    """A job made of one function."""

    def __init__(self, function: Callable[[Crew], T], deadline: float, finish: Callable[[], None]) -> None:
        self._function, self.deadline, self.finish = function, deadline, finish
        self._made: list[T] = []
        self._failed: Exception = TokenUnavailable("the token did not answer in time")

    def over(self) -> bool:
        return monotonic() >= self.deadline

    def work(self, crew: Crew, _keeper: Keeper, _observer: Observer) -> None:
        try:
            try:
                self._made.append(self._function(crew))
            except CkError as error:
                crew.confirm(error)
                self._made.append(self._function(crew))
        except Away:
            raise
        except CkError as error:
            self._failed = TokenUnavailable(str(error))
        except Exception as error:  # noqa: BLE001 - carried to whoever called
            self._failed = error

    def result(self) -> T:
        if not self._made:
            raise self._failed
        return self._made[0]
