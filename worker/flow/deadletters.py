"""Dead letters and undelivered answers (D5): the same bytes and headers again, with where they came from and why.

Who can write a request topic can fill it with rubbish, so unauthentic dead letters have a rate; beyond it only their
coordinates are noted, and the bytes stay in their topic until retention (S9).
"""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from worker.flow.clock import boottime
from worker.model.codes import Code
from worker.model.records import Headers, Outgoing, Record, Undeliverable
from worker.model.topics import TOPIC_LIMIT_BYTES, dead_letter_topic

log = logging.getLogger(__name__)

UNAUTHENTIC_PER_S = 50.0


class Mourner(Protocol):
    """Who counts dead letters. Must not block or raise."""

    def buried(self, record: Record, code: Code) -> None:
        """A record goes to its dead-letter topic."""
        ...

    def noted(self, record: Record, code: Code) -> None:
        """An unauthentic record was beyond the rate: only its coordinates are kept, in the log."""
        ...

    def undelivered(self, topic: str, reason: Undeliverable) -> None:
        """An answer goes to the undelivered topic."""
        ...


@dataclass(slots=True)
class Bucket:
    """A token bucket: `rate` a second, and as many at once after a quiet second."""

    rate: float
    clock: Callable[[], float] = boottime
    _level: float = field(init=False)
    _at: float = field(init=False)

    def __post_init__(self) -> None:
        self._level, self._at = self.rate, self.clock()

    def take(self) -> bool:
        """Take one, if there is one."""
        now = self.clock()
        self._level = min(self.rate, self._level + (now - self._at) * self.rate)
        self._at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Makes the records; the river publishes them, and fails the batch when it can't. One per process."""

    undelivered_topic: str
    worker: str
    mourner: Mourner
    bucket: Bucket = field(default_factory=lambda: Bucket(UNAUTHENTIC_PER_S))

    def authentic(self, record: Record, code: Code, attempts: int) -> Outgoing:
        """The dead letter of an authentic request; it counts toward the dead-letter limit."""
        self.mourner.buried(record, code)
        return self._letter(record, code, attempts)

    def unauthentic(self, record: Record, code: Code, attempts: int = 1) -> Outgoing | None:
        """The dead letter of a record without a valid signature; None beyond the rate."""
        if not self.bucket.take():
            log.warning("%s: beyond the rate, not dead-lettered: %s", record.place, code)
            self.mourner.noted(record, code)
            return None
        self.mourner.buried(record, code)
        return self._letter(record, code, attempts)

    def undelivered(self, outgoing: Outgoing, record: Record, reason: Undeliverable) -> Outgoing:
        """An answer that its topic will never take, and which request it answers. It is sealed and signed."""
        self.mourner.undelivered(outgoing.topic, reason)
        told = {
            "topic": outgoing.topic,
            "partition": "" if outgoing.partition is None else str(outgoing.partition),
            "reason": reason.value,
            "worker": self.worker,
            **_origin(record),
        }
        value = outgoing.value or b""
        if len(value) > TOPIC_LIMIT_BYTES:  # no topic would take it; its digest still tells which one it was
            told |= {"size": str(len(value)), "sha256": hashlib.sha256(value).hexdigest()}
            value = b""
        headers = outgoing.headers + _headers("keyriver-undelivered-", told)
        return Outgoing(self.undelivered_topic, outgoing.key, value, headers)

    def _letter(self, record: Record, code: Code, attempts: int) -> Outgoing:
        told = {**_origin(record), "code": code.value, "attempts": str(attempts), "worker": self.worker}
        topic = dead_letter_topic(record.partition.topic)
        return Outgoing(topic, record.key, record.value, record.headers + _headers("keyriver-dlq-", told))


def _origin(record: Record) -> dict[str, str]:
    return {
        "origin-topic": record.partition.topic,
        "origin-partition": str(record.partition.number),
        "origin-offset": str(record.offset),
    }


def _headers(prefix: str, told: dict[str, str]) -> Headers:
    return tuple((prefix + name, value.encode()) for name, value in told.items())
