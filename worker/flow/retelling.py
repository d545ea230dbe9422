"""Of each row the newest sequence must be the last one on its topic, for compaction keeps the last.

A process that stood still may publish an older one after a newer one. Whoever reads that tells the newest again, as the
row stands in the store; once by whom leads, or a few times, which is no harm.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import UUID

from worker.flow.fresh import new_ids
from worker.flow.sequences import SequenceFeed
from worker.flow.trust import Trust
from worker.model.effects import Announce, Settlement
from worker.model.facts import Question, StoredRow
from worker.model.rows import FLEET_TENANT
from worker.model.sequences import SEQUENCE
from worker.model.words import RowRef, Table
from worker.ports import Dues, FleetKeys, Store
from worker.seal.sequences import Sequence as Told

LEAD_S = 5.0
AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Retelling:
    """The duty."""

    holder: str
    dues: Dues
    feed: SequenceFeed
    store: Store
    trust: Trust
    fleet_keys: FleetKeys
    ids: Callable[[int], list[UUID]] = new_ids

    async def turn(self) -> int:
        """Tell again what was overtaken; how many rows."""
        refs = frozenset(list(self.feed.overtaken)[:AT_ONCE])
        if not refs:
            return 0
        if not await self.dues.lead("sequences told again", self.holder, LEAD_S):
            self.feed.overtaken -= refs  # who leads has read the same
            return 0
        answer = await self.store.know(naming(refs))
        facts = await self.trust.verified(answer)
        rows = [stored for stored in answer.rows if stored.row.ref in refs - facts.tampered]
        await self.store.settle([Settlement(None, None, (), (), tuple(await self._told(rows)))])
        self.feed.overtaken -= refs
        return len(rows)

    async def _told(self, rows: list[StoredRow]) -> list[Announce]:
        """In the words of the row's own MAC, whatever the newest version is."""
        told = [Told(stored.row.ref, stored.row.revision, stored.mac_version, stored.mac) for stored in rows]
        tags = await self.fleet_keys.mac([one.payload() for one in told])
        bodies = [one.to_json(tag.version, tag.value) for one, tag in zip(told, tags, strict=True)]
        ids = self.ids(len(bodies))
        return [Announce(id_, SEQUENCE, FLEET_TENANT, body) for id_, body in zip(ids, bodies, strict=True)]


def naming(refs: frozenset[RowRef]) -> Question:
    """The question that names these rows and no others; it may lead to more."""
    of = {table: frozenset(ref.key for ref in refs if ref.table is table) for table in Table}
    asked = Question(
        clients=of.pop(Table.CLIENTS),
        tenants=of.pop(Table.TENANTS),
        aliases=of.pop(Table.ALIASES),
        keys=frozenset(map(UUID, of.pop(Table.KEYS))),
        versions=frozenset(_version(key) for key in of.pop(Table.VERSIONS)),
        intake_keys=frozenset(map(int, of.pop(Table.INTAKE_KEYS))),
    )
    return replace(asked, refs=frozenset(RowRef(table, key) for table, keys in of.items() for key in keys))


def _version(name: str) -> tuple[UUID, int]:
    key, _, number = name.partition("/")
    return UUID(key), int(number)
