"""This process towards its machine: what others may read of it (S17), and how Python shares its time."""

import gc
import resource
import sys

SWITCH_INTERVAL_S = 5e-5
"""Short calls that release the GIL crawl beside a busy loop at Python's default of 5 ms (FACTS 2.12)."""
GC_THRESHOLDS = (50_000, 20, 50)
"""A batch makes some ten thousand short-lived objects without cycles; looking for cycles every 700 is a waste."""


def harden(*, development: bool) -> None:
    """No core dumps; in production nobody of the same user may read our memory either (S17)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux" and not development:
        import ctypes  # noqa: PLC0415 - only Linux has prctl

        pr_set_dumpable = 4
        ctypes.CDLL(None).prctl(pr_set_dumpable, 0, 0, 0, 0)


def tune() -> None:
    """For many short calls to the token beside a busy loop."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(*GC_THRESHOLDS)
