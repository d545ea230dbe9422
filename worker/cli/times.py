"""Moments as the command line reads and prints them."""

import time
from datetime import UTC, datetime

from worker.model.topics import DAY_MS


def in_days(days: int) -> int:
    """So many days from now, in Unix milliseconds."""
    return time.time_ns() // 1_000_000 + days * DAY_MS


def moment(unix_ms: int) -> str:
    """To the second, in UTC."""
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="seconds")
