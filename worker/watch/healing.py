"""Lines of libraries that sound worse than they are: what heals by itself is told calmly, and aloud if it lasts."""

import logging
import time
from collections.abc import Callable

PATIENCE_S = 15.0
"""A fresh cluster makes its topic of offsets in a second or two; who waits longer for a coordinator has a trouble."""
_SERIES_S = 60.0
_COORDINATOR = "Group Coordinator Request failed"
_SOON_THERE = {"GroupCoordinatorNotAvailableError", "GroupLoadInProgressError", "NotCoordinatorForGroupError"}


class CoordinatorSoon(logging.Filter):
    """On aiokafka's coordinator: that there is none yet is an error only after `PATIENCE_S`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._first = self._last = -_SERIES_S

    def filter(self, record: logging.LogRecord) -> bool:
        """Demote it to info. Whether info is heard is the root's to say."""
        if not str(record.msg).startswith(_COORDINATOR) or not _SOON_THERE & _kinds(record.args):
            return True
        now = self._clock()
        if now - self._last >= _SERIES_S:
            self._first = now
        self._last = now
        if now - self._first >= PATIENCE_S:
            return True
        record.levelno, record.levelname = logging.INFO, "INFO"
        return logging.getLogger().isEnabledFor(logging.INFO)


class WithoutTrace(logging.Filter):
    """On asyncpg's pool, which tries again and again during an outage: one line each time, with what failed."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Put the error's kind into the line, and drop the trace."""
        if record.levelno == logging.WARNING and record.exc_info and record.exc_info[0] is not None:
            record.msg, record.args = f"{record.getMessage()}: {record.exc_info[0].__name__}", ()
            record.exc_info = record.exc_text = None
        return True


_FILTERS: dict[str, Callable[[], logging.Filter]] = {
    "aiokafka.consumer.group_coordinator": CoordinatorSoon,
    "asyncpg.pool": WithoutTrace,
}


def calm() -> None:
    """Install these, once however often it is called."""
    for name, make in _FILTERS.items():
        logging.getLogger(name).filters[:] = [make()]


def _kinds(args: object) -> set[str]:
    return {type(one).__name__ for one in args} if isinstance(args, tuple) else set()
