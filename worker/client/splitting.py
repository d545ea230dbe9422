"""Any number of items as requests of at most so many, some of them under way at once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from worker.client.answers import Refusal
from worker.client.calls import Outcome
from worker.client.errors import RequestRefused

_I = TypeVar("_I")


async def in_requests(
    send: Callable[[Sequence[_I]], Awaitable[list[Outcome]]], items: Sequence[_I], most: int, at_once: int
) -> list[Outcome]:
    """The outcomes in item order.

    One request: its refusal is raised. Several: a refusal becomes that of each of its items, for the others' results
    stand; any other error is raised when all have ended.
    """
    chunks = [items[start : start + most] for start in range(0, len(items), most)]
    if len(chunks) == 1:
        return await send(chunks[0])
    gate = asyncio.Semaphore(at_once)

    async def one(chunk: Sequence[_I]) -> list[Outcome]:
        async with gate:
            try:
                return await send(chunk)
            except RequestRefused as refusal:
                said = Refusal(code=refusal.code, message=refusal.meaning, retry=refusal.retry)
                return [(said, b"")] * len(chunk)

    done = await asyncio.gather(*map(one, chunks), return_exceptions=True)
    outcomes: list[Outcome] = []
    for part in done:
        if isinstance(part, BaseException):
            raise part
        outcomes += part
    return outcomes
