"""Notices that this process stood still longer than its session may last: then the group has expelled it meanwhile."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

log = logging.getLogger(__name__)

BEAT_S = 0.1
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def seconds_since_boot() -> float:
    """A clock that goes on while the machine sleeps: a suspended process was expelled like a frozen one."""
    return time.clock_gettime(_CLOCK)


class Pulse:
    """Beats while the event loop turns. A blocked loop is a frozen process: heartbeats run on it too."""

    def __init__(self, session_s: float, on_standstill: Callable[[], None]) -> None:
        self._session_s = session_s
        self._on_standstill = on_standstill
        self._last = seconds_since_boot()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._last = seconds_since_boot()
        self._task = asyncio.create_task(self._beat())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def is_steady(self) -> bool:
        """Whether there was no standstill up to this very moment; the first code to run after one learns it here."""
        return seconds_since_boot() - self._last <= self._session_s

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            if not self.is_steady():
                log.warning("stood still for %.1f s: everything held is void", seconds_since_boot() - self._last)
                self._on_standstill()
            self._last = seconds_since_boot()
