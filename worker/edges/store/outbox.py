"""Facts without a record (D9), as they wait in Postgres for the bus."""

from collections.abc import Sequence
from uuid import UUID

from worker.edges.store.pool import Pool
from worker.edges.store.queries import SQL
from worker.model.effects import Announce


class PostgresOutbox:
    """The port `Outbox`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def waiting(self, limit: int) -> list[Announce]:
        """The oldest first."""
        rows = await self._pool.run(lambda connection: connection.fetch(SQL["outbox_waiting"], limit))
        return [Announce(row["id"], row["type"], row["tenant"], row["body"]) for row in rows]

    async def acknowledge(self, ids: Sequence[UUID]) -> None:
        """Unknown ids, or those acknowledged before, are no error."""
        await self._pool.run(lambda connection: connection.execute(SQL["outbox_acknowledge"], ids))
