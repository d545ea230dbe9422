"""Concurrent single-item calls travel together: one signature, one answer and one HSM batch for all of them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from worker.client.calls import Outcome
from worker.client.errors import RequestRefused
from worker.client.orders import Order

Send = Callable[[Order[Any, Any], list[Any]], Awaitable[list[Outcome]]]
Waiter = tuple[Any, asyncio.Future[Outcome]]


class Batcher:
    """Collects the items of equal orders for at most `window_s` seconds, `most` at a time."""

    def __init__(self, send: Send, window_s: float, most: int) -> None:
        self._send = send
        self._window_s = window_s
        self._most = most
        self._open: dict[Order[Any, Any], list[Waiter]] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def submit(self, order: Order[Any, Any], item: object) -> Outcome:
        """The item's outcome, by a request that it may share. Raises what the request ends in."""
        loop = asyncio.get_running_loop()
        waiters = self._open.get(order)
        if waiters is None:
            waiters = self._open[order] = []
            loop.call_later(self._window_s, self._flush, order, waiters)
        future: asyncio.Future[Outcome] = loop.create_future()
        waiters.append((item, future))
        if len(waiters) >= self._most:
            self._flush(order, waiters)
        return await future

    async def close(self) -> None:
        """Give up what is under way; its callers are cancelled."""
        waiting = [future for waiters in self._open.values() for _, future in waiters]
        self._open.clear()
        for future in waiting:
            future.cancel()
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _flush(self, order: Order[Any, Any], waiters: list[Waiter]) -> None:
        if self._open.get(order) is not waiters:
            return  # it was full before its time
        del self._open[order]
        waiters = [(item, future) for item, future in waiters if not future.done()]
        if not waiters:
            return
        task = asyncio.create_task(self._run(order, waiters))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        left = len(waiters)

        def one_left(future: asyncio.Future[Outcome]) -> None:
            nonlocal left
            left -= future.cancelled()
            if not left:
                task.cancel()

        for _, future in waiters:
            future.add_done_callback(one_left)

    async def _run(self, order: Order[Any, Any], waiters: list[Waiter]) -> None:
        try:
            outcomes = await self._send(order, [item for item, _ in waiters])
        except RequestRefused as refusal:
            if refusal.retry or len(waiters) == 1:
                _fail(waiters, refusal)
            else:
                # Nothing was done. One item may be at fault (a context over the limit), and harms no neighbour.
                await asyncio.gather(*[self._run(order, [waiter]) for waiter in waiters])
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the waiters'
            _fail(waiters, error)
        except asyncio.CancelledError:
            for _, future in waiters:
                future.cancel()
            raise
        else:
            for (_, future), outcome in zip(waiters, outcomes, strict=True):
                if not future.done():
                    future.set_result(outcome)


def _fail(waiters: list[Waiter], error: Exception) -> None:
    for _, future in waiters:
        if not future.done():
            future.set_exception(error)
