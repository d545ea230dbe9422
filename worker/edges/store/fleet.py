"""The one row that says which fleet this database belongs to; `init` writes it, workers and `doctor` read it."""

from dataclasses import dataclass

from worker.edges.store.pool import Pool
from worker.edges.store.queries import SQL


@dataclass(frozen=True, slots=True)
class Fleet:
    """`signing_key` is public (65 bytes, uncompressed P-256 point); `serial` is the token that holds the fleet keys.

    `rotated_ms`: when the newest version of any fleet key was made, or None.
    """

    id: str
    signing_key: bytes
    serial: str
    created_ms: int
    backup_recorded_ms: int | None = None
    rotated_ms: int | None = None


async def read_fleet(pool: Pool) -> Fleet | None:
    """None when `init` has not run."""
    row = await pool.run(lambda connection: connection.fetchrow(SQL["fleet"]))
    return None if row is None else Fleet(**row)


async def found_fleet(pool: Pool, fleet: Fleet) -> bool:
    """Write the row if there is none; whether it was written."""
    arguments = (fleet.id, fleet.signing_key, fleet.serial, fleet.created_ms)
    return await pool.run(lambda connection: connection.execute(SQL["found_fleet"], *arguments)) == "INSERT 0 1"


async def record_backup(pool: Pool, now_ms: int) -> None:
    """An officer says that the fleet keys were backed up at this time."""
    await pool.run(lambda connection: connection.execute(SQL["record_backup"], now_ms))
