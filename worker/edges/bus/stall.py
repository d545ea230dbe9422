"""Notices a consumer that stands still while records wait: aiokafka's fetcher is known to stop after a restart."""

import asyncio
from collections.abc import Iterable

from worker.edges.bus.kafka import Consumer, Spot
from worker.edges.bus.pulse import seconds_since_boot
from worker.ports import BusUnavailable


class StallWatch:
    """After `stall_s` without a record it looks whether there are any; the second time in vain is a stall."""

    def __init__(self, stall_s: float, answer_s: float) -> None:
        self._stall_s = stall_s
        self._answer_s = answer_s
        self._next_look = 0.0
        self._behind: dict[Spot, int] = {}

    def delivered(self) -> None:
        """Records came, or everything begins anew."""
        self._next_look = seconds_since_boot() + self._stall_s
        self._behind = {}

    async def nothing_came(self, client: Consumer, held: Iterable[Spot]) -> None:
        """Look, if it is time. Raises `BusUnavailable` when a position stood behind its end twice in a row."""
        if seconds_since_boot() < self._next_look:
            return
        async with asyncio.timeout(self._answer_s):
            ends = await client.end_offsets(held)
            behind = {where: at for where, end in ends.items() if (at := await client.position(where)) < end}
        if stuck := [where for where, at in behind.items() if self._behind.get(where) == at]:
            raise BusUnavailable(f"Kafka: records wait and none comes: {', '.join(map(str, stuck))}")
        self.delivered()
        self._behind = behind
