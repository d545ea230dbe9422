"""Records as they come from and go to the bus, and what became of each."""

from dataclasses import dataclass, field
from enum import StrEnum

Headers = tuple[tuple[str, bytes], ...]
"""Kafka headers in their order; a name may come twice, which `open` refuses where it matters."""

ITEM_BYTES = 512
MOST_ITEMS = 1000
"""No request may have more, whatever the settings."""
"""What an item takes in memory, about."""


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One partition of one topic."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class Record:
    """One consumed record. `appended_ms` is the broker's append time; `epoch` its assignment's number (D3)."""

    partition: Partition
    offset: int
    key: bytes | None
    value: bytes = field(repr=False)
    headers: Headers = field(repr=False)
    appended_ms: int
    epoch: int

    @property
    def at(self) -> tuple[Partition, int]:
        """Where it stands in the bus, for ever."""
        return self.partition, self.offset

    @property
    def place(self) -> str:
        """Where it stands, for people: topic/partition@offset."""
        return f"{self.partition.topic}/{self.partition.number}@{self.offset}"

    @property
    def size(self) -> int:
        """Bytes of the key, the value and the headers."""
        return len(self.key or b"") + len(self.value) + sum(len(name) + len(value) for name, value in self.headers)

    @property
    def weight(self) -> int:
        """Bytes it will take while it is worked on: an item is a few bytes of JSON, and half a kilobyte of objects.

        What is in base64 can't be counted, so a structured event weighs as much as it may hold.
        """
        items = self.value.count(b"{")
        if b'"data_base64"' in self.value:
            items = max(items, min(len(self.value) // 4, MOST_ITEMS))
        return self.size + ITEM_BYTES * items


class Closed(StrEnum):
    """Why a batch has no more records."""

    RECORDS = "records"
    BYTES = "bytes"
    EMPTY = "empty"
    """Nothing more was waiting: the usual case below saturation, and never a reason to wait."""


@dataclass(frozen=True, slots=True)
class Catch:
    """One batch as it came from the bus."""

    records: list[Record]
    closed: Closed


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a topic that is read without a group; `value` None is a tombstone of a compacted topic."""

    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None = field(repr=False)
    headers: Headers = field(repr=False)
    appended_ms: int


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record to be published; `partition` None lets the key decide."""

    topic: str
    key: bytes | None
    value: bytes | None = field(repr=False)
    headers: Headers = field(repr=False)
    partition: int | None = None


class Undeliverable(StrEnum):
    """Why a record will never be delivered where it was meant to go (D5)."""

    NO_TOPIC = "no-topic"
    TOO_LARGE = "too-large"
    REFUSED = "refused"


class Verdict(StrEnum):
    """What became of one consumed record."""

    DONE = "done"
    """Answered (whatever the answer) or, for an idle duplicate, answered again."""
    DEAD = "dead"
    """Authentic, and dead-lettered: counts toward the dead-letter limit."""
    UNAUTHENTIC = "unauthentic"
    """No valid signature: dead-lettered at a bounded rate, counts toward nothing."""
