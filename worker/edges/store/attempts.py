"""How often records killed their worker (D5), in Postgres: each call is one committed statement."""

from typing import cast

from worker.edges.store.pool import Pool
from worker.edges.store.queries import SQL
from worker.model.records import Partition


class PostgresAttempts:
    """The port `Attempts`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def assigned(self, group: str, partition: Partition, offset: int) -> int:
        """Another offset than the last assignment's begins a new count."""
        return await self._count("assigned", group, partition, offset)

    async def released(self, group: str, partition: Partition) -> None:
        """A partition that was never assigned is no error."""
        await self._do("released", group, partition)

    async def begin_alone(self, group: str, partition: Partition, offset: int) -> int:
        """The marker is durable when this returns."""
        return await self._count("begin_alone", group, partition, offset)

    async def end_alone(self, group: str, partition: Partition, offset: int) -> None:
        """A record without a marker is no error."""
        await self._do("end_alone", group, partition, offset)

    async def _count(self, name: str, group: str, partition: Partition, offset: int) -> int:
        arguments = (group, partition.topic, partition.number, offset)
        return cast(int, await self._pool.run(lambda connection: connection.fetchval(SQL[name], *arguments)))

    async def _do(self, name: str, group: str, partition: Partition, *offset: int) -> None:
        arguments = (group, partition.topic, partition.number, *offset)
        await self._pool.run(lambda connection: connection.execute(SQL[name], *arguments))
