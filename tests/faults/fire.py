"""Stories under fire: while one is told, workers die at failpoints and by SIGKILL, and others take their place.

Which point comes next and whom a kill hits follow from a seed: KEYRIVER_FIRE_SEED.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from random import Random

from tests.fleet import Fleet
from tests.processes import POLL_S, Member
from worker.flow.failpoints import DUE_NAMES, NAMES

SEED = int(os.environ.get("KEYRIVER_FIRE_SEED", "4711"))
PASSES = 4
"""A failpoint kills at one of its first passes, so that a story comes some way between two deaths."""
PAUSE_S = 1.5
"""So long both are left alone once both have begun; a dead one's partitions are another's after a second."""


@dataclass
class Fire:
    """Two workers at any time: one armed with the next failpoint, the other not."""

    fleet: Fleet
    chance: Random
    points: "cycle[str]"
    steady: Member = field(init=False)
    armed: Member = field(init=False)
    deaths: Counter[str] = field(default_factory=Counter)
    point: str = ""

    def __post_init__(self) -> None:
        self.steady = self.fleet.start()
        self._arm()

    def _arm(self) -> None:
        self.point = next(self.points)
        failpoints = f"{self.point}=kill@{self.chance.randint(1, PASSES)}"
        self.armed = self.fleet.start(failpoints=failpoints)

    async def burn(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        next_kill = loop.time() + PAUSE_S
        while True:
            await asyncio.sleep(POLL_S)
            if not (self.steady.serves and self.armed.serves):  # whoever starts is let start, or nothing gets done
                next_kill = loop.time() + PAUSE_S
            elif loop.time() > next_kill:
                self.strike()
                next_kill = loop.time() + PAUSE_S
            if not self.steady.is_running:
                self.steady = self.fleet.start()
            if not self.armed.is_running:
                self.deaths[self.point] += 1
                self._arm()

    def strike(self) -> None:
        """SIGKILL for one of the two."""
        self.chance.choice((self.steady, self.armed)).kill()
        self.deaths["kill"] += 1


@asynccontextmanager
async def on_fire(fleet: Fleet, points: tuple[str, ...] = NAMES + DUE_NAMES) -> AsyncIterator[Fire]:
    """Workers die for as long as the block lasts; afterwards none runs."""
    chance = Random(SEED)  # noqa: S311 - must be repeatable
    fire = Fire(fleet, chance, cycle(chance.sample(points, len(points))))
    burning = asyncio.create_task(fire.burn())
    try:
        yield fire
        assert not burning.done(), burning.exception()
    finally:
        burning.cancel()
        for member in (fire.steady, fire.armed):
            member.kill()
