"""Bad weather: workers at their posts are killed and frozen at random, the broker and the database lose their power.

Who is hit by what follows from a seed. A worker that is gone is replaced, as whoever runs workers does.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.fleet import Fleet
from tests.processes import Member
from worker.local import Stack
from worker.model.topics import Lane

LOOKS_S = 0.1


@dataclass(slots=True)
class Weather:
    """`posts`: the lanes of each worker. `settings`: what each of them is told. `frozen_s`: the longest standstill."""

    fleet: Fleet
    stack: Stack
    chance: Random
    posts: Sequence[Sequence[Lane]]
    settings: Mapping[str, int] = field(default_factory=dict)
    frozen_s: float = 3.0
    workers: list[Member] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    thawing: set[asyncio.Task[None]] = field(default_factory=set)
    power: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a part has none: whoever looks into the database himself waits for it."""

    def __post_init__(self) -> None:
        self.workers = [self._start(lanes) for lanes in self.posts]

    def _start(self, lanes: Sequence[Lane]) -> Member:
        return self.fleet.start(lanes=lanes, **dict[str, Any](self.settings))

    async def supervise(self) -> None:
        """Until cancelled. A worker that finds no broker or no database when it starts ends, too."""
        while True:
            for place, worker in enumerate(self.workers):
                if not worker.is_running:
                    self.workers[place] = self._start(self.posts[place])
                    self.faults["start"] += 1
            await asyncio.sleep(LOOKS_S)

    @asynccontextmanager
    async def blowing(self, least_s: float, most_s: float) -> AsyncIterator[None]:
        """Strike at such intervals while the block lasts; then nobody is frozen any more."""
        striking = asyncio.create_task(self._strike_on(least_s, most_s))
        try:
            yield
            assert not striking.done(), striking.exception()
        finally:
            striking.cancel()
            await asyncio.gather(*self.thawing)

    async def _strike_on(self, least_s: float, most_s: float) -> None:
        while True:
            await asyncio.sleep(self.chance.uniform(least_s, most_s))
            self.strike()

    def strike(self) -> None:
        """Kill one of the workers, or freeze it for a while, past its session or not."""
        victim = self.chance.choice(self.workers)
        if self.chance.random() < 0.5:
            victim.kill()
            self.faults["kill"] += 1
            return
        victim.freeze()
        self.faults["freeze"] += 1
        thawing = asyncio.create_task(_thaw(victim, self.chance.uniform(0.1, self.frozen_s)))
        self.thawing.add(thawing)
        thawing.add_done_callback(self.thawing.discard)

    async def restart(self, part: str) -> None:
        """The power cut of the `broker` or the `database`, and its return."""
        service = self.stack.kafka if part == "broker" else self.stack.postgres
        async with self.power:
            await asyncio.to_thread(service.kill)
            await asyncio.sleep(self.chance.uniform(0, 1))
            await asyncio.to_thread(service.start)
            await self.fleet.pool.expire_connections()
        self.faults[part] += 1


@asynccontextmanager
async def supervised(weather: Weather) -> AsyncIterator[Weather]:
    """While the block lasts, whoever dies is replaced; then all that are there end as they are asked to."""
    supervising = asyncio.create_task(weather.supervise())
    try:
        yield weather
        assert not supervising.done(), supervising.exception()
    finally:
        supervising.cancel()
    for worker in weather.workers:
        assert await worker.terminated() == 0, worker.log[-2000:]


async def _thaw(victim: Member, seconds: float) -> None:
    await asyncio.sleep(seconds)
    victim.thaw()
