"""`publish`: answers and dead letters, and where an answer goes that can't be delivered (D5)."""

from collections.abc import Sequence
from dataclasses import dataclass

from worker.flow.deadletters import DeadLetters
from worker.flow.opening import Dead
from worker.model.codes import Code
from worker.model.records import Outgoing, Record, Verdict
from worker.ports import Sink


@dataclass(frozen=True, slots=True)
class Letter:
    """What goes out for one record, and what that makes of the record."""

    record: Record
    outgoing: Outgoing
    verdict: Verdict = Verdict.DONE


@dataclass(frozen=True, slots=True)
class Publishing:
    """The `publish` stage."""

    sink: Sink
    dead_letters: DeadLetters

    async def publish(self, letters: Sequence[Letter]) -> None:
        """Publish all and wait for the broker. Raises `BusUnavailable`: then nothing may be committed."""
        undelivered = []
        for letter, reason in zip(
            letters, await self.sink.publish([letter.outgoing for letter in letters]), strict=True
        ):
            if reason is not None:
                undelivered.append(self.dead_letters.undelivered(letter.outgoing, letter.record, reason))
        if undelivered:
            await self._insist(undelivered)

    async def bury(self, dead: Sequence[Dead]) -> None:
        """Dead-letter what is not authentic, at a bounded rate; beyond it only the coordinates are noted (S9)."""
        letters = [
            letter for item in dead if (letter := self.dead_letters.unauthentic(item.record, item.code)) is not None
        ]
        if letters:
            await self._insist(letters)

    async def set_aside(self, record: Record, code: Code, attempts: int) -> None:
        """Dead-letter an authentic record."""
        await self._insist([self.dead_letters.authentic(record, code, attempts)])

    async def _insist(self, letters: Sequence[Outgoing]) -> None:
        """What nobody takes must not be lost: without a dead-letter topic the batch fails and the partition waits."""
        for letter, reason in zip(letters, await self.sink.publish(letters), strict=True):
            if reason is not None:
                raise UndeliverableError(f"{letter.topic} does not take dead letters: {reason}")


class UndeliverableError(Exception):
    """A dead-letter topic refused a record. An operator must create it or make it larger; nothing is lost meanwhile."""
