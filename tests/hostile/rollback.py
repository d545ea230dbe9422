"""Who owns the database and kept a dump of it: he puts single rows back as they were, and takes away what is newer."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from worker.model.words import RowRef, Table

KEYS = {
    Table.VERSIONS: ("key", "number"),
    Table.ALIASES: ("name",),
    Table.INTAKE_KEYS: ("sequence",),
}
Rows = Mapping[RowRef, str]
"""Every row as JSON, by its name."""


@dataclass(frozen=True, slots=True)
class Rollback:
    """A dump from before, and the database as it is now."""

    pool: asyncpg.Pool
    before: Rows

    @classmethod
    async def begin(cls, pool: asyncpg.Pool) -> "Rollback":
        return cls(pool, await dump(pool))

    async def changed(self) -> list[RowRef]:
        """Rows that are others by now, or that are new."""
        now = await dump(self.pool)
        return sorted(ref for ref, row in now.items() if row != self.before.get(ref))

    @asynccontextmanager
    async def put_back(self, ref: RowRef) -> AsyncIterator[None]:
        """This one row as it was before, or gone; afterwards as it is now."""
        now = (await dump(self.pool))[ref]
        await self._replace(ref, self.before.get(ref))
        try:
            yield
        finally:
            await self._replace(ref, now)

    async def _replace(self, ref: RowRef, row: str | None) -> None:
        columns = KEYS.get(ref.table, ("id",))
        name = " || '/' || ".join(f"{column}::text" for column in columns)
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(f"DELETE FROM keyriver.{ref.table} WHERE {name} = $1", ref.key)  # noqa: S608
            if row is not None:
                record = f"jsonb_populate_record(NULL::keyriver.{ref.table}, $1::jsonb)"
                await connection.execute(f"INSERT INTO keyriver.{ref.table} SELECT * FROM {record}", row)  # noqa: S608


async def dump(pool: asyncpg.Pool) -> Rows:
    """All rows of all tables that carry a MAC."""
    found: dict[RowRef, str] = {}
    for table in Table:
        columns = KEYS.get(table, ("id",))
        for one in await pool.fetch(f"SELECT to_jsonb(t) AS doc FROM keyriver.{table} AS t"):  # noqa: S608
            row = json.loads(one["doc"])
            found[RowRef(table, "/".join(str(row[column]) for column in columns))] = one["doc"]
    return found
