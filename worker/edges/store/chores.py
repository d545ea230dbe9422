"""What keeps the store small, outside the river: pruning and folding; and a look at the server for `doctor`."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from worker.edges.store.migrate import applied
from worker.edges.store.pool import Pool
from worker.edges.store.queries import SQL
from worker.model.effects import Count

CHUNK = 1000
"""Rows per transaction: a settle waits for a few milliseconds at most."""


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What `doctor` wants to know of the server and of our connection. `schema` is the newest migration, or empty."""

    version: str
    synchronous_commit: str
    fsync: bool
    is_primary: bool
    ssl: bool
    schema: str


async def inspect(pool: Pool) -> StoreFacts:
    """Ask the server."""
    (row,) = await pool.run(lambda connection: connection.fetch(SQL["inspect"]))
    return StoreFacts(**row, schema=max(await applied(pool), default=""))


async def prune(pool: Pool, window: timedelta, chunk: int = CHUNK) -> int:
    """Delete ledger entries older than the window and events acknowledged before it; how many went."""
    return await _in_chunks(pool, "prune_ledger", window, chunk) + await _in_chunks(pool, "prune_outbox", window, chunk)


async def prune_slices(pool: Pool, window: timedelta, chunk: int = CHUNK) -> int:
    """Delete slices of campaigns that were done before the window; how many went. What they came to stays known."""
    return await _in_chunks(pool, "prune_slices", window, chunk)


async def fold(pool: Pool) -> None:
    """Sum the census's deltas into one row per key version; the totals stay the same at every moment."""
    await pool.run(lambda connection: connection.execute(SQL["fold_census"]))


async def census(pool: Pool, keys: Iterable[UUID]) -> list[Count]:
    """The totals of every version of these keys that was ever counted."""
    wanted = list(keys)
    rows = await pool.run(lambda connection: connection.fetch(SQL["census"], wanted))
    return [Count(**row) for row in rows]


async def private_halves(pool: Pool, below: int) -> list[int]:
    """The sequences below this one of the intake keys whose private half is still stored."""
    rows = await pool.run(lambda connection: connection.fetch(SQL["private_halves"], below))
    return [row["sequence"] for row in rows]


async def _in_chunks(pool: Pool, name: str, window: timedelta, chunk: int) -> int:
    gone = 0
    while True:
        deleted: int = await pool.run(lambda connection: connection.fetchval(SQL[name], window, chunk))
        gone += deleted
        if deleted < chunk:
            return gone
