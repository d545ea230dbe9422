"""Encryptions leased per key version (S10): the sum counts what was leased, used or burnt."""

import json
from typing import cast
from uuid import UUID

from worker.edges.store.pool import Pool
from worker.edges.store.queries import SQL
from worker.model.effects import Announce
from worker.model.ids import derived_id

ROTATION_STARTS = 2**31
"""Rotation is due when the sum reaches this; SP 800-38D allows 2^32 random nonces under one key."""
ROTATION_DUE = "keyriver.key.rotation-due.v1"


def rotation_due(key: UUID, version: int, tenant: str) -> Announce:
    """The event that one key version is worn; the same id whoever writes it."""
    body = json.dumps({"key": str(key), "version": version, "leased": ROTATION_STARTS}, separators=(",", ":"))
    return Announce(derived_id(0, ROTATION_DUE, str(key), str(version)), ROTATION_DUE, tenant, body.encode())


class PostgresLeases:
    """The port `Leases`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def lease(self, key: UUID, version: int, count: int) -> int:
        """One statement; the lease that crosses 2^31 leaves the event in the outbox, once and with it."""
        event = rotation_due(key, version, "")
        arguments = (key, version, count, ROTATION_STARTS, event.id, event.type, event.body)
        return cast(int, await self._pool.run(lambda connection: connection.fetchval(SQL["lease"], *arguments)))
