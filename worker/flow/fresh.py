"""What the pure rooms can't make themselves: the time, and ids that were never given before."""

import os
import time
from uuid import UUID

from worker.model.ids import uuid7


def now_ms() -> int:
    """Unix milliseconds by this machine's clock; life-cycle times use the database's instead."""
    return time.time_ns() // 1_000_000


def new_ids(count: int) -> list[UUID]:
    """Fresh UUIDv7, 74 random bits each, from one call to the operating system."""
    moment, raw = now_ms(), os.urandom(10 * count)
    return [uuid7(moment, int.from_bytes(raw[at : at + 10], "big")) for at in range(0, len(raw), 10)]
