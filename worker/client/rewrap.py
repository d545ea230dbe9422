"""Bulk rewrap of blobs that the application keeps itself: any number, in order, a bounded number under way.

A blob that is not stored is not ledgered either (DELIVERY D1): asking twice makes two blobs of the same DEK, and either
serves. So after a request's deadline, whose retries were identical bytes with a new time, the rest is asked anew.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from worker.client.calls import Pace
from worker.client.errors import BusDown, ClientError, NoAnswer, RequestRefused
from worker.client.inorder import in_order
from worker.client.results import ItemError, Rewrapped
from worker.model.bodies import RewrapItem
from worker.model.codes import Code

Result = Rewrapped | ItemError
"""Of one blob. An `ItemError` here is final: what may pass is tried again until it does."""

_LATE = frozenset({Code.DEADLINE_EXCEEDED, Code.STALE})
"""Of the request's own age, so the next one may fare better."""
_OF_ONE = frozenset({Code.MALFORMED, Code.TOO_LARGE, Code.TOO_MANY_ITEMS, Code.POISON})
"""One item may be at fault, or their number: halves are asked, down to single items."""


class Stalled(ClientError):
    """For as long as the job is patient nothing was rewrapped; the message says what was in the way."""


class Rewraps(Protocol):
    """What the job needs of a `KeyriverClient`."""

    async def rewrap(
        self, items: Sequence[RewrapItem], *, to: str | None = None, return_blob: bool = False
    ) -> list[Rewrapped | ItemError]:
        """See `KeyriverClient.rewrap`."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """How a job goes about it. `to`: the target key; None: the current version of each blob's own key.

    `at_once` requests of at most `items` blobs are under way. It gives up after `patience_s` seconds without a result.
    """

    to: str | None = None
    items: int = 1000
    at_once: int = 8
    patience_s: float = 900.0
    pace: Pace = field(default_factory=lambda: Pace(pause_s=0.2, longest_pause_s=10.0))


DEFAULTS = Bulk()


async def rewrap_all(
    client: Rewraps, blobs: Iterable[bytes] | AsyncIterable[bytes], bulk: Bulk = DEFAULTS
) -> AsyncGenerator[Result, None]:
    """One result for each blob, in their order; the blobs are taken as results are.

        async for result in rewrap_all(keys, blobs):
            print(result.code if isinstance(result, ItemError) else result.blob)

    Raises `RequestRefused` (the client itself is refused), `BusRefused` or `Stalled`.
    """
    rewrapper = Rewrapper(client, bulk)
    async with aclosing(in_order(rewrapper.some, _in_portions(blobs, bulk.items), bulk.at_once)) as portions:
        async for portion in portions:
            for result in portion:
                yield result


class Rewrapper:
    """Rewraps portions until each blob has a final result. `on_wait` is told what is in the way."""

    def __init__(self, client: Rewraps, bulk: Bulk, on_wait: Callable[[str], None] = lambda _: None) -> None:
        self._client = client
        self._bulk = bulk
        self._on_wait = on_wait
        self._moved_s = 0.0

    async def some(self, blobs: Sequence[bytes]) -> list[Result]:
        """The final results of at most `Bulk.items` blobs, in their order. Raises as `rewrap_all` does."""
        done: dict[int, Result] = {}
        began_s, tries = time.monotonic(), 0
        while len(done) < len(blobs):
            left = [place for place in range(len(blobs)) if place not in done]
            answers = await self._ask([blobs[place] for place in left])
            final = {place: one for place, one in zip(left, answers, strict=True) if not _may_pass(one)}
            if final:
                self._moved_s, tries = time.monotonic(), 0
            done |= final
            if len(final) < len(left):
                why = next(one for one in answers if isinstance(one, ItemError) and one.retry)
                await self._wait(why, began_s, tries)
                tries += 1
        return [done[place] for place in range(len(blobs))]

    async def _ask(self, blobs: Sequence[bytes]) -> list[Result]:
        """What became of each; a request that failed in a way that may pass is a passing error of each item."""
        try:
            items = [RewrapItem(blob=blob) for blob in blobs]
            return await self._client.rewrap(items, to=self._bulk.to, return_blob=True)
        except (NoAnswer, BusDown) as error:
            return [ItemError("NO_ANSWER", str(error), retry=True)] * len(blobs)
        except RequestRefused as refusal:
            if refusal.code in _OF_ONE and len(blobs) > 1:
                middle = len(blobs) // 2
                return [*await self._ask(blobs[:middle]), *await self._ask(blobs[middle:])]
            if refusal.code in _OF_ONE or refusal.code in _LATE or refusal.retry:
                retry = refusal.code not in _OF_ONE
                return [ItemError(refusal.code, refusal.meaning, retry)] * len(blobs)
            raise

    async def _wait(self, why: ItemError, began_s: float, tries: int) -> None:
        idle_s = time.monotonic() - max(began_s, self._moved_s)
        if idle_s > self._bulk.patience_s:
            raise Stalled(f"nothing was rewrapped for {idle_s:.0f} seconds; {why.code}: {why.message}")
        self._on_wait(f"{why.code}: {why.message}")
        await asyncio.sleep(self._bulk.pace.pause(tries))


def _may_pass(one: Result) -> bool:
    return isinstance(one, ItemError) and one.retry


async def _in_portions(blobs: Iterable[bytes] | AsyncIterable[bytes], most: int) -> AsyncIterator[list[bytes]]:
    portion: list[bytes] = []
    async for blob in _each(blobs):
        portion.append(blob)
        if len(portion) == most:
            yield portion
            portion = []
    if portion:
        yield portion


async def _each(blobs: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(blobs, AsyncIterable):
        async for blob in blobs:
            yield blob
    else:
        for blob in blobs:
            yield blob
