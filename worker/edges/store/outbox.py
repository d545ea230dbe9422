"""Facts without a record (D9), as they wait in Postgres for the bus."""

from collections.abc import Sequence
from uuid import UUID

from worker.edges.store.pool import Pool
from worker.edges.store.queries import SQL
from worker.model.effects import Announce
from worker.model.sequences import SEQUENCE


class PostgresOutbox:
    """The port `Outbox`: of the sequences of rows alone, or of all else."""

    def __init__(self, pool: Pool, *, sequences: bool = False) -> None:
        self._pool, self._sequences = pool, sequences

    async def waiting(self, limit: int) -> list[Announce]:
        """The oldest first."""
        arguments = (limit, SEQUENCE, self._sequences)
        rows = await self._pool.run(lambda connection: connection.fetch(SQL["outbox_waiting"], *arguments))
        return [Announce(row["id"], row["type"], row["tenant"], row["body"]) for row in rows]

    async def acknowledge(self, ids: Sequence[UUID]) -> None:
        """Unknown ids, or those acknowledged before, are no error."""
        await self._pool.run(lambda connection: connection.execute(SQL["outbox_acknowledge"], ids))
