"""Every worker follows the versions of the fleet's own keys: within a second it makes everything under the newest.

A new signing key is announced, certified by the one before it, and this run's own key is then certified by the new one.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from worker.chain import fleet
from worker.flow.trust import Trust
from worker.flow.voice import RunVoice, announce
from worker.model.facts import Question
from worker.model.fleet import FleetKey, FleetKind
from worker.ports import FleetKeys, Sink, Store
from worker.seal.lineage import announcement

log = logging.getLogger(__name__)

AGAIN_MS = 12 * 3_600_000
"""The topic forgets after 48 hours, and who pinned an old key must find the whole chain there."""


class FleetKeysDoubted(Exception):
    """A row of the fleet's keys can't be believed, or is gone; the versions known before stay in use."""


@dataclass(slots=True)
class FollowedKeys:
    """What `turn` keeps up to date; every worker runs it."""

    fleet: str
    intake_topic: str
    store: Store
    trust: Trust
    fleet_keys: FleetKeys
    sink: Sink
    voice: RunVoice
    _rows: Sequence[FleetKey] = field(default_factory=tuple)
    _told_ms: int | None = None
    _buried: frozenset[int] = frozenset()

    async def turn(self, now_ms: int) -> None:
        """Take up what was rotated. Raises `FleetKeysDoubted`, and what the ports raise."""
        facts = await self.trust.verified(await self.store.know(Question(pages=frozenset({fleet.ROWS}))))
        rows = fleet.fleet_keys(facts)
        if rows is None:
            raise FleetKeysDoubted("a row of fleet_keys failed its check: the versions known before stay in use")
        rotated = sorted(rows, key=lambda row: row.id) != self._rows
        if rotated:
            self.fleet_keys.follow(rows)
            self._rows = sorted(rows, key=lambda row: row.id)
            versions = ", ".join(f"{kind} {self.fleet_keys.newest(kind)}" for kind in FleetKind)
            log.info("fleet keys in use: %s", versions)
        if self.fleet_keys.retired != self._buried:
            await self.fleet_keys.bury()
            self._buried = self.fleet_keys.retired
            log.warning("row MACs of these versions are believed no more: %s", sorted(self._buried))
        if rotated or self._told_ms is None or now_ms - self._told_ms > AGAIN_MS:
            await self._announce()
            self._told_ms = now_ms
        await self.voice.renew(now_ms)

    async def _announce(self) -> None:
        """Each link of the chain, in the same words by whichever worker: both signatures stand in the row."""
        for row in sorted(self._rows, key=lambda row: row.number):
            if row.kind is FleetKind.SIGNING and row.number > 1:
                key = f"fleet-key/{row.number}".encode()
                await announce(self.sink, self.intake_topic, key, announcement(self.fleet, row))
