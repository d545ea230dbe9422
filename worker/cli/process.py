"""One worker process as the outside sees it: signals, /livez, /readyz, /metrics, and the pipe to its supervisor."""

import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial

from worker.app import Worker, run_worker
from worker.cli.errors import Refused
from worker.edges.store.log import PostgresAuditLog
from worker.flow.clock import boottime
from worker.model.topics import Lane
from worker.parts import Parts
from worker.ports import StoreUnavailable
from worker.settings import Settings
from worker.watch import Check, Health, Pulse, serve_http

log = logging.getLogger(__name__)

READY = b"ready\n"
TURN_S = 60.0
"""A lane that has not turned for so long is stuck: longer than the longest statement, drain and pause together."""
ASK_S = 1.0
BEHIND_S = 5.0
"""So far the audit log may be behind the leaves (S16)."""


@dataclass(slots=True)
class Face:
    """What is told of the process; it fills once the worker is there."""

    pulses: list[Pulse] = field(default_factory=list)
    worker: Worker | None = None
    parts: Parts | None = None
    store_fault: str = "not asked yet"
    audit_fault: str = ""

    def checks(self) -> Sequence[Check]:
        """The dependencies, from what is known already."""
        if self.worker is None or self.parts is None:
            return [Check("start", "the worker is still starting")]
        token = self.parts.token
        lanes = [Check(f"lane {lane}", self._lane_fault(self.worker, lane)) for lane in self.worker.intakes]
        token_fault = "" if token.healthy else token.state.value
        edges = (("token", token_fault), ("store", self.store_fault), ("audit", self.audit_fault))
        return [*(Check(name, fault) for name, fault in edges), *lanes]

    @staticmethod
    def _lane_fault(worker: Worker, lane: Lane) -> str:
        if not worker.intakes[lane].is_ready:
            return "the dead-letter limit stopped a partition: look at its DLQ, then restart the worker"
        return "" if worker.sources[lane].is_assigned else "waits for its group's partitions"

    def metrics(self) -> bytes:
        """Nothing before the worker is there."""
        return b"" if self.parts is None else self.parts.metrics.render()


async def serve(settings: Settings, lanes: Sequence[Lane], index: int, *, supervised: bool) -> None:
    """Run one worker until SIGTERM, SIGINT or the end of the supervisor; then drain.

    Its port is `http_port` + `index`. Supervised, it says on stdout when it is logged in, and its stdin is a pipe that
    ends when the supervisor does, however that died.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    face = Face()
    beside: list[asyncio.Task[None]] = []

    def serving(worker: Worker, parts: Parts) -> None:
        face.worker, face.parts = worker, parts
        face.pulses += [
            Pulse(f"lane {lane}", partial(getattr, intake, "last_turn"), TURN_S)
            for lane, intake in worker.intakes.items()
        ]
        beside.append(asyncio.create_task(_ask_store(face, parts)))
        log.info("serving %s", ", ".join(lanes))
        if supervised:
            sys.stdout.buffer.write(READY)
            sys.stdout.buffer.flush()

    async with AsyncExitStack() as stack:
        if supervised:
            beside.append(asyncio.create_task(_watch_supervisor(stop)))
        if settings.http_port:
            health = Health(face.pulses, face.checks, boottime)
            await _open(stack, settings.http_host, settings.http_port + index, health, face)
        stack.push_async_callback(_cancel, beside)
        await run_worker(settings, lanes, stop, serving)
    log.info("drained and stopped")


async def _open(stack: AsyncExitStack, host: str, port: int, health: Health, face: Face) -> None:
    try:
        await stack.enter_async_context(serve_http(host, port, health, face.metrics))
    except OSError as error:
        raise Refused(f"http_port: {host}:{port} can't be had ({error.strerror})") from error


async def _ask_store(face: Face, parts: Parts) -> None:
    """So that /readyz need not wait for an answer."""
    audit_log = PostgresAuditLog(parts.pool)
    while True:
        try:
            behind_s = await audit_log.behind_s()
        except StoreUnavailable as error:
            face.store_fault = str(error)
        else:
            face.store_fault = ""
            face.audit_fault = f"{behind_s:.0f} s behind" if behind_s > BEHIND_S else ""
            parts.metrics.audit_behind(behind_s)
        await asyncio.sleep(ASK_S)


async def _watch_supervisor(stop: asyncio.Event) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    with suppress(OSError):
        await reader.read()
    stop.set()


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
