"""Quotas leased from Postgres (D10): token buckets that the database's clock refills."""

from collections.abc import Sequence

from worker.edges.store.pool import Pool
from worker.edges.store.queries import SQL
from worker.model.quotas import Lease, Want


class PostgresQuotaLeases:
    """Implements `flow.quotas.QuotaLeases`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def lease_quotas(self, wants: Sequence[Want]) -> list[Lease]:
        """One round trip for all."""
        arguments = (
            [want.quota.id for want in wants],
            [want.quota.per_second for want in wants],
            [want.quota.burst for want in wants],
            [want.need for want in wants],
            [want.want for want in wants],
        )
        rows = await self._pool.run(lambda connection: connection.fetch(SQL["lease_quotas"], *arguments))
        return [Lease(row["granted"], row["wait_ms"]) for row in rows]
