"""One request until its answer or its deadline: identical retries, and items filled in as they become final (D4)."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from worker.client.answers import Refusal, Result
from worker.client.errors import BusDown, NoAnswer, RequestRefused
from worker.client.replies import Accepted, Call, Replies
from worker.client.transport import Transport
from worker.client.wire import Letterhead, Prepared, attempt
from worker.model.codes import Code

Outcome = tuple[Result, bytes]
"""An item's result and its DEK; no bytes where there is none."""

_DOUBLINGS = 16
_KEY_ROTATED = "its intake key rotated away before it was sent again; an earlier attempt may have taken effect"
"""An attempt is judged by its own time, so a refusal of the second says nothing of what became of the first."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds. An attempt waits `answer_s` for its answer; before a retry comes a pause; both double."""

    answer_s: float = 5.0
    pause_s: float = 0.05
    longest_pause_s: float = 2.0

    def pause(self, tries: int) -> float:
        """How long to wait after so many tries: half to all of the doubled pause, lest clients march in step."""
        full = min(self.longest_pause_s, self.pause_s * 2.0 ** min(tries, _DOUBLINGS))
        return full * random.uniform(0.5, 1)  # noqa: S311 - jitter


@dataclass(slots=True)
class _Progress:
    outcomes: list[Outcome] = field(default_factory=list)
    refusal: Refusal | None = None
    trouble: str = ""

    def add(self, accepted: Accepted) -> bool:
        """Keep what is final, take the rest anew; whether everything is final now."""
        if accepted.error is not None:
            self.refusal = accepted.error
            return not accepted.error.retry
        self.refusal = None
        fresh = list(zip(accepted.results, accepted.deks, strict=True))
        self.outcomes = [old if _is_final(old) else new for old, new in zip(self.outcomes or fresh, fresh, strict=True)]
        return all(map(_is_final, self.outcomes))

    def pause(self, pause_s: float) -> float:
        """How long to wait before it is sent again: not less than the fleet asks for."""
        asked_ms = None if self.refusal is None else self.refusal.retry_after_ms
        return pause_s if asked_ms is None else asked_ms / 1000 + pause_s

    def result(self, call: Call) -> list[Outcome]:
        """What the call ends in. Final results are never given up for a later refusal."""
        if self.outcomes:
            return self.outcomes
        if self.refusal is not None:
            if self.refusal.code == Code.INTAKE_KEY_UNKNOWN and len(call.digests) > 1:
                raise NoAnswer(call.request.id, call.refused, _KEY_ROTATED)
            said = self.refusal
            raise RequestRefused(said.code, said.message, retry=said.retry, retry_after_ms=said.retry_after_ms)
        raise NoAnswer(call.request.id, call.refused, self.trouble)


def _is_final(outcome: Outcome) -> bool:
    return not (isinstance(outcome[0], Refusal) and outcome[0].retry)


class Calls:
    """Sends requests and waits for their answers."""

    def __init__(
        self, head: Letterhead, transport: Transport, replies: Replies, pace: Pace, now_ms: Callable[[], int]
    ) -> None:
        self._head = head
        self._transport = transport
        self._replies = replies
        self._pace = pace
        self._now_ms = now_ms

    async def ask(self, request: Prepared) -> list[Outcome]:
        """One outcome per item; items that are retryable still at the deadline say so.

        Raises `RequestRefused`, `NoAnswer` or `BusRefused`.
        """
        call = self._replies.open(request)
        progress = _Progress()
        try:
            async with asyncio.timeout(max(0, request.deadline_ms - self._now_ms()) / 1000):
                await self._pursue(call, progress)
        except TimeoutError:
            pass
        finally:
            self._replies.close(call)
        return progress.result(call)

    async def _pursue(self, call: Call, progress: _Progress) -> None:
        tries = 0
        while True:
            accepted = await self._attempt(call, tries, progress)
            if accepted is not None:
                if progress.add(accepted):
                    return
                self._replies.again(call)
                pause_s = progress.pause(self._pace.pause(tries))
                if self._now_ms() + pause_s * 1000 > call.request.deadline_ms:
                    return  # it would not be sent again: whoever waits is told now
                await asyncio.sleep(pause_s)
            tries += 1

    async def _attempt(self, call: Call, tries: int, progress: _Progress) -> Accepted | None:
        """Send it once more and wait a while."""
        record, digest = attempt(self._head, call.request, self._now_ms())
        call.digests.append(digest)
        try:
            await self._transport.send(record)
            progress.trouble = ""
        except BusDown as error:
            progress.trouble = str(error)
            wait_s = self._pace.pause(tries)
        else:
            wait_s = self._pace.answer_s * 2.0 ** min(tries, _DOUBLINGS)
        await asyncio.wait([call.answer], timeout=wait_s)
        return call.answer.result() if call.answer.done() else None
