"""Each worker's presence, and its word that the handles of what is about to be destroyed are gone (S15).

A worker is present before it opens its first handle. What it confirms it opens no more, so its word stays true. One
that was frozen until its session had expired is not waited for any more; it drops all its handles when it goes on, and
whatever it was in the middle of meets the new state at its settle.
"""

import logging
from dataclasses import dataclass
from uuid import UUID

from worker.flow.trust import Trust
from worker.model.facts import Question
from worker.model.hsm import Condemned
from worker.model.rows import State
from worker.ports import Hsm, Presence, Store

log = logging.getLogger(__name__)

AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Attendance:
    """One process's: `run` is its own id, `name` tells operators whom a destruction waits for."""

    run: UUID
    name: str
    session_s: float
    presence: Presence
    store: Store
    trust: Trust
    hsm: Hsm

    async def turn(self) -> int:
        """Be seen; drop what must go and confirm what has gone; how many versions that was."""
        if not await self.presence.beat(self.run, self.name, self.session_s):
            self.hsm.drop(None)
        places = frozenset(await self.presence.condemned(AT_ONCE))
        if not places:
            return 0
        facts = await self.trust.verified(await self.store.know(Question(versions=places)))
        rows = [facts.versions[place] for place in places if place in facts.versions]
        scheduled = [row for row in rows if row.state is State.DESTROY_SCHEDULED and 0 < row.due_ms <= facts.now_ms]
        gone = self.hsm.condemn(Condemned(row.key, row.number, row.revision) for row in scheduled)
        if len(gone) < len(scheduled):
            log.info(
                "handles of %d versions that are to be destroyed are still in use here", len(scheduled) - len(gone)
            )
        if gone:
            await self.presence.confirm(self.run, list(gone))
        return len(gone)
