"""What needs a person at once stands on the audit trail, too: that the token refused its PIN (S9, S16)."""

from collections.abc import Callable
from dataclasses import dataclass, field

from worker.chain.leaves import pin_locked
from worker.flow.fresh import new_ids, now_ms
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
