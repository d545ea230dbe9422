"""Keeps the processes of one machine running: staggered starts, restarts with backoff, and one clean drain of all.

Starts are one after the other, each waiting for the login of the one before: SoftHSM2 rewrites its token file at every
login, and several at once fail (FACTS 2.8).
"""

import asyncio
import logging
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from worker.model.topics import Lane

log = logging.getLogger(__name__)

REFUSED = 78
"""EX_CONFIG of sysexits.h: a child whose start will never succeed as things are."""


@dataclass(frozen=True, slots=True)
class Post:
    """One process that has to be there."""

    name: str
    lanes: tuple[Lane, ...]
    index: int


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds."""

    login: float = 60.0
    """The next start waits no longer than this for a child's login."""
    first_pause: float = 0.5
    longest_pause: float = 30.0
    settled: float = 60.0
    """A child that lived so long is restarted without a growing pause."""
    drain: float = 30.0
    """Longer than the drain of a lane; then a child is killed, and its work comes again."""


def posts(processes: int) -> tuple[Post, ...]:
    """So many for control and interactive, and one for bulk: one process can't hold two lanes apart (D6)."""
    several = [Post(f"worker {n}", (Lane.CONTROL, Lane.INTERACTIVE), n) for n in range(processes)]
    return (*several, Post("bulk", (Lane.BULK,), processes))


class Supervisor:
    """Runs `command(post)` for each post until told to stop."""

    def __init__(
        self, posts: Sequence[Post], command: Callable[[Post], Sequence[str]], patience: Patience = Patience()
    ) -> None:
        self._posts = posts
        self._command = command
        self._patience = patience
        self._starting = asyncio.Lock()
        self._children: dict[Post, Process] = {}
        self._clean = True

    async def run(self, stop: asyncio.Event) -> bool:
        """Return once all have ended; whether none was refused or had to be killed."""
        men = [asyncio.create_task(self._man(post, stop)) for post in self._posts]
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([stopping, *men], return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        stopping.cancel()
        self._send(signal.SIGTERM)
        _, late = await asyncio.wait(men, timeout=self._patience.drain)
        if late:
            log.error("killing %d processes that did not drain in time", len(late))
            self._clean = False
            self._send(signal.SIGKILL)
        await asyncio.gather(*men)
        return self._clean

    async def _man(self, post: Post, stop: asyncio.Event) -> None:
        pause = self._patience.first_pause
        while not stop.is_set():
            begun = monotonic()
            code = await self._one_life(post, stop)
            if stop.is_set():
                self._clean &= code in (0, None)
                return
            if code == REFUSED:
                log.error("%s can't run as things are; stopping", post.name)
                self._clean = False
                stop.set()
                return
            pause = self._patience.first_pause if monotonic() - begun > self._patience.settled else pause
            log.error("%s ended with code %s; started again in %.1f s", post.name, code, pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)
            pause = min(2 * pause, self._patience.longest_pause)

    async def _one_life(self, post: Post, stop: asyncio.Event) -> int | None:
        """Start it, wait for its end; its exit code, or None when it was not started any more."""
        async with self._starting:
            if stop.is_set():
                return None
            child = await asyncio.create_subprocess_exec(*self._command(post), stdin=PIPE, stdout=PIPE)
            self._children[post] = child
            if stop.is_set():
                child.terminate()
            log.info("%s started, pid %d", post.name, child.pid)
            assert child.stdout is not None  # noqa: S101 - a pipe was asked for
            with suppress(TimeoutError):
                await asyncio.wait_for(child.stdout.readline(), self._patience.login)
        try:
            return await child.wait()
        finally:
            del self._children[post]

    def _send(self, number: signal.Signals) -> None:
        for child in self._children.values():
            with suppress(ProcessLookupError):
                child.send_signal(number)
