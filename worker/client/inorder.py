"""Work on a stream of things, so many at once, results in the order of the things."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")


async def in_order(
    work: Callable[[_T], Awaitable[_R]], source: AsyncIterator[_T], at_once: int
) -> AsyncGenerator[_R, None]:
    """The results. At most `at_once` things are taken from the source and not yet handed on as results.

    Raises what the work on a thing raised, or the source, after the results of all that came before it.
    """
    room = asyncio.Semaphore(at_once)
    begun: asyncio.Queue[asyncio.Future[_R] | None] = asyncio.Queue()

    async def feed() -> None:
        try:
            while True:
                await room.acquire()
                begun.put_nowait(asyncio.ensure_future(work(await anext(source))))
        except StopAsyncIteration:
            pass
        finally:
            begun.put_nowait(None)

    feeding, current = asyncio.create_task(feed()), None
    try:
        while (current := await begun.get()) is not None:
            yield await current
            room.release()
        await feeding
    finally:
        left = [feeding, current, *(begun.get_nowait() for _ in range(begun.qsize()))]
        running = [one for one in left if one is not None]
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
