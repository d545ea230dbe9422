"""What takes the token seconds, beside the pool: one thing at a time, and nobody waits for it."""

import logging
from collections.abc import Callable
from threading import Lock, Thread

_LOG = logging.getLogger(__name__)


class Aside:
    """One thread at most. Whoever wants what is made there comes again."""

    def __init__(self) -> None:
        self._busy = Lock()

    def begin(self, work: Callable[[], None]) -> bool:
        """Begin, unless something is being made already."""
        if not self._busy.acquire(blocking=False):
            return False
        Thread(target=self._run, args=(work,), name="hsm-aside", daemon=True).start()
        return True

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:  # noqa: BLE001 - who comes again begins anew
            _LOG.warning("what was to be made beside the pool was not made", exc_info=True)
        finally:
            self._busy.release()
