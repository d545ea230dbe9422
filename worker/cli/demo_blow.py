"""SIGKILL for a worker in the middle of its work, and how long nothing came back afterwards."""

import asyncio
from time import monotonic

from worker.cli.demo_fleet import SESSION_S, Fleet
from worker.cli.demo_story import Story


class Blow:
    """Falls once `one_more` was called so many times."""

    def __init__(self, fleet: Fleet, story: Story, after: int) -> None:
        self._fleet = fleet
        self._story = story
        self._left = after
        self._falling: asyncio.Task[int] | None = None
        self._last_s = self._silence_s = 0.0

    def one_more(self) -> None:
        """Something came back."""
        self._left -= 1
        if self._left == 0:
            self._falling = asyncio.create_task(self._fall())
        elif self._last_s:
            now = monotonic()
            self._silence_s = max(self._silence_s, now - self._last_s)
            self._last_s = now

    async def tell(self) -> None:
        """What came of it."""
        assert self._falling is not None  # noqa: S101 - there are more records than `after`
        index = await self._falling
        self._story.tell(f"Nothing came for {self._silence_s:.1f} s, then the other worker went on from there.")
        self._story.tell(f"keyriver run started a new one in its place, pid {self._fleet.pids()[index]}.")

    async def _fall(self) -> int:
        index = await asyncio.to_thread(self._fleet.busiest)
        pid = await asyncio.to_thread(self._fleet.kill, index)
        self._last_s = monotonic()
        self._story.tell(f"kill -9 {pid}: the busy worker is gone, with requests on their way.", "bold red")
        self._story.tell(f"Kafka misses it after {SESSION_S} s and gives its partitions to the other one …")
        return index
