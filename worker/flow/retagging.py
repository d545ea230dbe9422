"""After a rotation of the row MAC key, what was told of rows is vouched for by the newest version, too (S7).

Rows that are renewed are told anew. What is left are rows that are gone, or whose MAC does not hold: of these, too, it
must stay known that they were there, once nobody believes the older version any more.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from worker.chain.sequences import Sequences
from worker.flow.fresh import new_ids
from worker.model.effects import Announce, Settlement
from worker.model.rows import FLEET_TENANT
from worker.model.sequences import SEQUENCE
from worker.model.words import RowRef
from worker.ports import FleetKeys, Store
from worker.seal.sequences import Sequence as Told

LOOKED_AT = 5000
AT_ONCE = 200


@dataclass(slots=True)
class Retagging:
    """Takes its turns while the rows' MACs are all renewed, under the same lead."""

    sequences: Sequences
    store: Store
    fleet_keys: FleetKeys
    ids: Callable[[int], list[UUID]] = new_ids
    _left: deque[RowRef] = field(default_factory=deque)

    async def turn(self, newest: int) -> int:
        """Tell the next piece again, in the words that were told; of how many rows."""
        if not self._left:
            self._left.extend(self.sequences.refs())
        told: list[Told] = []
        for _ in range(min(LOOKED_AT, len(self._left))):
            ref = self._left.popleft()
            mark = self.sequences.mark(ref)
            if mark is not None and mark.tag < newest:
                told.append(Told(ref, mark.revision, mark.mac_version, mark.mac))
            if len(told) == AT_ONCE:
                break
        if told:
            tags = await self.fleet_keys.mac([one.payload() for one in told])
            bodies = [one.to_json(tag.version, tag.value) for one, tag in zip(told, tags, strict=True)]
            ids = self.ids(len(bodies))
            said = [Announce(id_, SEQUENCE, FLEET_TENANT, body) for id_, body in zip(ids, bodies, strict=True)]
            await self.store.settle([Settlement(None, None, (), (), tuple(said))])
        return len(told)
