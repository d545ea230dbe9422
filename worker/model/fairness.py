"""What processes know of one another's speed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The living processes: the worst p99 of interactive answers in milliseconds, and how many do bulk work."""

    p99_ms: int
    bulk: int
