"""A file of wrapped DEKs, rewrapped: read, ask, write, mark. The whole life of a job is in `FileJob.run`."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from worker.client.files.checkpoint import Counts, Task
from worker.client.files.errors import TooManyRejects
from worker.client.files.formats import Format
from worker.client.files.reading import Portion, Source
from worker.client.files.records import Fault, Record
from worker.client.files.unfinished import Places, Unfinished, complete
from worker.client.inorder import in_order
from worker.client.results import ItemError
from worker.client.rewrap import Bulk, Result, Rewrapper, Rewraps

_T = TypeVar("_T")


class Watcher(Protocol):
    """Is told how the job goes; never blocks."""

    def began(self, total: int, counts: Counts) -> None:
        """The input has so many bytes; a job that goes on has counts already."""

    def moved(self, read: int, counts: Counts) -> None:
        """So many bytes of the input are read, and these records are written."""

    def waits(self, why: str) -> None:
        """Something is in the way, and the job tries again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One job. `fleet` and `tenant` are the client's: a job goes on only with the same.

    A mark is set every `mark_s` seconds. `most_in_a_row`: so many rejects in a row end the job, for they have one
    cause; they are not booked, so that it can go on from before them.
    """

    source: Path
    out: Path
    rejects: Path
    form: Format
    fleet: str
    tenant: str
    bulk: Bulk = field(default_factory=Bulk)
    mark_s: float = 1.0
    most_in_a_row: int = 1000


class FileJob:
    """One run of it: from the beginning, or from the last mark of a run that ended early."""

    def __init__(self, client: Rewraps, plan: Plan, watcher: Watcher) -> None:
        self._plan = plan
        self._watcher = watcher
        self._rewrapper = Rewrapper(client, plan.bulk, watcher.waits)
        self._counts = Counts()
        self._in_a_row = 0
        self._marked_s = time.monotonic()

    async def run(self) -> Counts:
        """Do it. Raises `FileRefused`, `InputChanged`, `TooManyRejects`, and what `Rewrapper.some` raises.

        Whatever ends it, the same call goes on where it was.
        """
        plan = self._plan
        with Source(plan.source, plan.form) as source:
            places, task = Places(plan.out, plan.rejects), self._task(source)
            done = complete(places, task)
            if done is not None:
                return done.counts
            with Unfinished(places, task) as output:
                self._counts = output.reached.counts
                self._watcher.began(source.identity.bytes, self._counts)
                if not output.reached.finished:
                    await self._flow(source, output)
                output.finish()
        return self._counts

    async def _flow(self, source: Source, output: Unfinished) -> None:
        last = Portion([], output.reached.offset, output.reached.lines)
        rewrapped = in_order(self._rewrapped, self._read(source, last), self._plan.bulk.at_once)
        async with aclosing(rewrapped) as portions:
            async for portion, results in portions:
                await _whole(self._write, output, portion, results)
                last = portion
                self._watcher.moved(source.progress, self._counts)
                if self._is_due():
                    await _whole(self._mark, source, output, last, False)
        await _whole(self._mark, source, output, last, True)

    async def _read(self, source: Source, after: Portion) -> AsyncIterator[Portion]:
        portions = source.portions(self._plan.bulk.items, after.offset, after.lines)
        while (portion := await _whole(next, portions, None)) is not None:
            yield portion

    async def _rewrapped(self, portion: Portion) -> tuple[Portion, list[Result]]:
        """A result for each record that has a blob."""
        blobs = [record.blob for record in portion.records if record.blob is not None]
        return portion, await self._rewrapper.some(blobs)

    def _write(self, output: Unfinished, portion: Portion, results: list[Result]) -> None:
        waiting = iter(results)
        kept: list[bytes] = []
        rejects: list[tuple[Record, Fault]] = []
        rewrapped = unchanged = copied = 0
        for record in portion.records:
            result = record.fault if record.blob is None else next(waiting)
            if isinstance(result, Fault | ItemError):
                rejects.append((record, Fault(result.code, result.message)))
                self._rejected_one(result.code)
            elif result is None:
                kept.append(record.raw)
                copied += 1
            else:
                kept.append(record.raw if result.unchanged else record.carrying(_blob(result.blob)))
                rewrapped, unchanged = rewrapped + (not result.unchanged), unchanged + result.unchanged
                self._in_a_row = 0
        output.put(b"".join(kept), rejects)
        more = Counts(rewrapped=rewrapped, unchanged=unchanged, rejected=len(rejects), copied=copied)
        self._counts = self._counts.plus(more)

    def _rejected_one(self, code: str) -> None:
        self._in_a_row += 1
        if self._in_a_row >= self._plan.most_in_a_row:
            raise TooManyRejects(self._in_a_row, code)

    def _is_due(self) -> bool:
        """Rejects are booked once something good came after them."""
        return self._in_a_row == 0 and time.monotonic() - self._marked_s >= self._plan.mark_s

    def _mark(self, source: Source, output: Unfinished, last: Portion, finished: bool) -> None:
        source.check()
        output.mark(last.offset, last.lines, self._counts, finished=finished)
        self._marked_s = time.monotonic()

    def _task(self, source: Source) -> Task:
        plan = self._plan
        return Task(
            input=source.identity,
            format=plan.form.name,
            to=plan.bulk.to,
            fleet=plan.fleet,
            tenant=plan.tenant,
            rejects=str(plan.rejects),
        )


async def _whole(call: Callable[..., _T], *with_these: object) -> _T:
    """The call in a thread. Who is cancelled meanwhile waits for its end, lest files are closed under it."""
    running = asyncio.ensure_future(asyncio.to_thread(call, *with_these))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def _blob(blob: bytes | None) -> bytes:
    assert blob is not None  # noqa: S101 - `Rewrapper` asks for blobs
    return blob
