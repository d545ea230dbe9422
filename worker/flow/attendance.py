"""Each worker's presence, and its word that the handles of what is about to be destroyed are gone (S15).

A worker is present before it opens its first handle. What it confirms it opens no more, so its word stays true. One
that was frozen until its session had expired is not waited for any more; it drops all its handles when it goes on, and
whatever it was in the middle of meets the new state at its settle.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from worker.chain.importing_due import is_closed
from worker.flow.trust import Trust
from worker.model.facts import Question
from worker.model.hsm import Condemned
from worker.model.rows import State, Version
from worker.ports import Hsm, Store

log = logging.getLogger(__name__)

AT_ONCE = 1000


class Presence(Protocol):
    """Which workers live, by the database's clock, and which handles each has confirmed to be gone (S15)."""

    async def beat(self, run: UUID, name: str, seconds: float) -> bool:
        """Be seen as alive for so long from now; whether this run was seen as alive until now."""
        ...

    async def condemned(self, limit: int) -> Sequence[tuple[UUID, int]]:
        """Key versions whose destruction is due, and whose imported material goes; their rows are not verified."""
        ...

    async def confirm(self, run: UUID, gone: Sequence[Condemned]) -> None:
        """This run has no handle of these any more, and opens none."""
        ...

    async def awaited(self, versions: Sequence[Condemned]) -> Mapping[Condemned, Sequence[str]]:
        """The names of living workers that have not confirmed, of each version that waits for any."""
        ...


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
        scheduled = [row for row in rows if is_closed(row) or _is_due(row, facts.now_ms)]
        gone = self.hsm.condemn(Condemned(row.key, row.number, row.revision) for row in scheduled)
        if len(gone) < len(scheduled):
            log.info(
                "handles of %d versions that are to be destroyed are still in use here", len(scheduled) - len(gone)
            )
        if gone:
            await self.presence.confirm(self.run, list(gone))
        return len(gone)


def _is_due(row: Version, now_ms: int) -> bool:
    return row.state is State.DESTROY_SCHEDULED and 0 < row.due_ms <= now_ms
