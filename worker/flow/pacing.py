"""Turns of CPU-heavy stages: the loop gets its turn every 2 ms, for heartbeats run on it (D6)."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from time import perf_counter
from typing import TypeVar

TURN_S = 0.002

T = TypeVar("T")


async def paced(items: Iterable[T]) -> AsyncIterator[T]:
    """The items, with a pause for the rest of the process whenever the turn is used up."""
    end = perf_counter() + TURN_S
    for item in items:
        yield item
        if perf_counter() > end:
            await asyncio.sleep(0)
            end = perf_counter() + TURN_S
