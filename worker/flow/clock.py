"""Time for durations: it goes on while the process is frozen and, on Linux, while the machine sleeps."""

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boottime() -> float:
    """Seconds since some fixed moment."""
    return time.clock_gettime(_CLOCK)
