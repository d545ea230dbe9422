"""What needs a person at once stands on the audit trail, too: a PIN that was refused (S9), rows set back (S7)."""

from collections.abc import Callable
from dataclasses import dataclass, field

from worker.chain.leaves import pin_locked, set_back
from worker.flow.fresh import new_ids, now_ms
from worker.flow.sequences import SequencedStore
from worker.ports import Store


@dataclass(slots=True)
class PinAlarm:
    """Tells it once per run. Needs no token: other workers' sequencer signs the log."""

    name: str
    refused: Callable[[], bool]
    store: Store
    _told: bool = field(default=False)

    async def turn(self) -> None:
        """Look, and write it down."""
        if self._told or not self.refused():
            return
        leaf, event = new_ids(2)
        await self.store.settle([pin_locked((leaf, event), now_ms(), self.name)])
        self._told = True


@dataclass(slots=True)
class SetBackAlarm:
    """Tells of each row that this process found older than the fleet said, once for each revision that was told."""

    name: str
    store: SequencedStore

    async def turn(self) -> int:
        """Write down what was found since the last turn; how many rows."""
        found = dict(self.store.noticed)
        for ref, mark in found.items():
            leaf, event = new_ids(2)
            await self.store.settle([set_back((leaf, event), now_ms(), self.name, ref, mark.revision)])
            self.store.written(ref, mark)
        return len(found)
