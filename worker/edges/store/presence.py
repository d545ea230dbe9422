"""Which workers live, and which handles each has confirmed to be gone (S15)."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from worker.edges.store.pool import Pool
from worker.edges.store.queries import SQL
from worker.model.fairness import Neighbours
from worker.model.hsm import Condemned


class PostgresPresence:
    """As `flow.attendance.Presence` wants it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def beat(self, run: UUID, name: str, seconds: float) -> bool:
        """One committed statement."""
        return bool(await self._pool.run(lambda connection: connection.fetchval(SQL["beat"], run, name, seconds)))

    async def condemned(self, limit: int) -> Sequence[tuple[UUID, int]]:
        """By the index of what is due."""
        rows = await self._pool.run(lambda connection: connection.fetch(SQL["condemned"], limit))
        return [(UUID(int=row["key"].int), row["number"]) for row in rows]

    async def confirm(self, run: UUID, gone: Sequence[Condemned]) -> None:
        """May be said again."""
        await self._pool.run(lambda connection: connection.execute(SQL["confirm"], run, *_columns(gone)))

    async def awaited(self, versions: Sequence[Condemned]) -> Mapping[Condemned, Sequence[str]]:
        """One question for all of them."""
        rows = await self._pool.run(lambda connection: connection.fetch(SQL["awaited"], *_columns(versions)))
        found: dict[Condemned, list[str]] = {}
        for row in rows:
            found.setdefault(versions[row["ord"] - 1], []).append(row["name"])
        return found

    async def tell(self, run: UUID, p99_ms: int | None, pace: float | None) -> None:
        """As `flow.fairness.Peers`; a run that is not seen yet says nothing."""
        await self._pool.run(lambda connection: connection.execute(SQL["tell_pace"], run, p99_ms, pace))

    async def neighbours(self) -> Neighbours:
        """As `flow.fairness.Peers`."""
        (row,) = await self._pool.run(lambda connection: connection.fetch(SQL["neighbours"]))
        return Neighbours(row["p99_ms"], row["bulk"])

    async def prune(self) -> None:
        """Forget whose session is over since a day."""
        await self._pool.run(lambda connection: connection.execute(SQL["prune_workers"]))


def _columns(versions: Sequence[Condemned]) -> tuple[list[UUID], list[int], list[int]]:
    return [one.key for one in versions], [one.version for one in versions], [one.revision for one in versions]
