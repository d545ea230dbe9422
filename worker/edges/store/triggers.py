"""Keys for which an occasion has come that a rule waits for: found by one walk over all keys, page by page."""

from uuid import UUID

from worker.edges.store.leases import ROTATION_STARTS
from worker.edges.store.pool import Pool
from worker.edges.store.queries import SQL
from worker.model.campaigns import LAST_ID
from worker.model.triggers import Found, Occasion


class PostgresOccasions:
    """The port `Occasions`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def watched(self) -> bool:
        """One look at the rules."""
        return bool(await self._pool.run(lambda connection: connection.fetchval(SQL["triggers_watched"])))

    async def page(self, after: UUID, size: int) -> tuple[list[Found], UUID | None]:
        """By the primary key of keys."""
        last = await self._pool.run(lambda connection: connection.fetchval(SQL["key_page_end"], after, size))
        upto = LAST_ID if last is None else UUID(int=last.int)
        rows = await self._pool.run(lambda connection: connection.fetch(SQL["occasions"], after, upto, ROTATION_STARTS))
        found = [Found(Occasion(row["event"]), row["tenant"], UUID(int=row["id"].int), row["number"]) for row in rows]
        return found, None if last is None else upto
