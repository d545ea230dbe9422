"""Listens to what the fleet says of itself, and lets callers wait a bounded time for an intake key."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from worker.client.errors import NoIntakeKey
from worker.client.replies import Replies
from worker.client.trust import Trust
from worker.model.records import Entry
from worker.model.rows import Suite
from worker.seal.announcements import IntakeAnnouncement, WorkerCertificate
from worker.seal.errors import BadCertificate
from worker.seal.lineage import Succession

log = logging.getLogger(__name__)


class News:
    """The intake topic, record by record."""

    def __init__(self, trust: Trust, replies: Replies, now_ms: Callable[[], int], patience_s: float) -> None:
        self._trust = trust
        self._replies = replies
        self._now_ms = now_ms
        self._patience_s = patience_s
        self._changed = asyncio.Event()
        self.refused: Counter[str] = Counter()
        """Refused announcements, by reason. Expired ones are among them: the topic keeps them for a while."""

    def take(self, entry: Entry) -> None:
        """One record; a tombstone says nothing."""
        if entry.value is not None:
            self._accept(entry.key, entry.value)

    def _accept(self, key: bytes | None, value: bytes) -> None:
        try:
            said = self._trust.accept(key, value, self._now_ms())
        except BadCertificate as error:
            self.refused[str(error)] += 1
            log.info("%s", error)
            return
        if isinstance(said, Succession):
            for name, unproven in self._trust.unproven().items():
                self._accept(name, unproven)
        elif isinstance(said, WorkerCertificate):
            self._replies.learned(said)
        self._changed.set()

    async def intake_key(self, prefer: Suite, above: int = 0) -> IntakeAnnouncement:
        """The key to seal DEKs to, its sequence over `above`; waits for one to be announced. Raises `NoIntakeKey`."""
        try:
            async with asyncio.timeout(self._patience_s):
                while (found := self._trust.intake_key(prefer, self._now_ms(), above)) is None:
                    self._changed.clear()
                    await self._changed.wait()
                return found
        except TimeoutError:
            raise NoIntakeKey("the fleet announced no intake key that holds now") from None
