"""What falls due by the database's clock, and who leads the duty that carries it out."""

from collections.abc import Sequence
from uuid import UUID

from worker.edges.store.pool import Pool
from worker.edges.store.queries import SQL


class PostgresDues:
    """The port `Dues`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def lead(self, duty: str, holder: str, seconds: float) -> bool:
        """One committed statement; whoever leads already renews."""
        return bool(await self._pool.run(lambda connection: connection.fetchval(SQL["lead"], duty, holder, seconds)))

    async def due(self, limit: int, serial: str) -> tuple[Sequence[tuple[UUID, int]], Sequence[UUID]]:
        """The longest due first."""
        versions = await self._pool.run(lambda connection: connection.fetch(SQL["versions_due"], limit, serial))
        materials = await self._pool.run(lambda connection: connection.fetch(SQL["materials_due"], limit, serial))
        approvals = await self._pool.run(lambda connection: connection.fetch(SQL["approvals_due"], limit))
        places = dict.fromkeys((UUID(int=key.int), number) for key, number in (*versions, *materials))
        return list(places), [UUID(int=one["id"].int) for one in approvals]

    async def imports_due(self, limit: int, serial: str) -> Sequence[UUID]:
        """The longest due first."""
        found = await self._pool.run(lambda connection: connection.fetch(SQL["imports_due"], limit, serial))
        return [UUID(int=one["id"].int) for one in found]
