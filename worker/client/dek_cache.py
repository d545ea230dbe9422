"""DEKs in the clear, bounded three ways: by uses, by age, by number. Callers of one name share one making."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from worker.seal.secrets import Unpicklable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def seconds_since_boot() -> float:
    """A clock that goes on while the machine sleeps: a DEK ages then too."""
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True, slots=True)
class Limits:
    """How often a DEK is used, for how many seconds, and how many DEKs are kept at once."""

    uses: int = 1000
    age_s: float = 300.0
    kept: int = 1000


DEFAULT_LIMITS = Limits()


@dataclass(slots=True)
class _Entry(Generic[V]):
    making: asyncio.Task[V]
    born_s: float
    uses: int = 0


class DekCache(Unpicklable, Generic[K, V]):
    """Values by name; the one that was used the longest ago goes first."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = seconds_since_boot) -> None:
        self._limits = limits
        self._clock = clock
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()

    async def get(self, name: K, make: Callable[[], Awaitable[V]]) -> V:
        """The value, which counts as one more use of it. Raises what `make` raises; a failure is not kept."""
        entry = self._entries.get(name)
        if entry is None or entry.uses >= self._limits.uses or self._is_old(entry):
            entry = self._entries[name] = _Entry(asyncio.ensure_future(_awaited(make)), self._clock())
            entry.making.add_done_callback(lambda task: self._forget_failure(name, task))
        entry.uses += 1
        self._entries.move_to_end(name)
        while len(self._entries) > self._limits.kept:
            self._entries.popitem(last=False)
        # One impatient caller must not cancel what others wait for.
        return await asyncio.shield(entry.making)

    def _is_old(self, entry: _Entry[V]) -> bool:
        return self._clock() - entry.born_s > self._limits.age_s

    def _forget_failure(self, name: K, task: asyncio.Task[V]) -> None:
        failed = task.cancelled() or task.exception() is not None
        entry = self._entries.get(name)
        if failed and entry is not None and entry.making is task:
            del self._entries[name]


async def _awaited(make: Callable[[], Awaitable[V]]) -> V:
    return await make()
