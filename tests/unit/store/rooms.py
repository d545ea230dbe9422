"""One face for the fake and for Postgres: the four ports, and a look at what has no port to read it by."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import asyncpg

from worker.edges.store.attempts import PostgresAttempts
from worker.edges.store.chores import census, private_halves
from worker.edges.store.fake import FakeStore
from worker.edges.store.leases import PostgresLeases
from worker.edges.store.migrate import migrate
from worker.edges.store.outbox import PostgresOutbox
from worker.edges.store.pool import Pool, PostgresSettings, connected
from worker.edges.store.store import PostgresStore
from worker.model.facts import Question
from worker.model.rows import Dek
from worker.ports import Attempts, Leases, Outbox, Store


class Look(Protocol):
    async def stored(self, key: UUID, version: int) -> tuple[int, int]:
        """The census of one key version: stored, issued outside."""
        ...

    async def leaves(self, tenant: str) -> int: ...

    async def private_halves(self, below: int) -> list[int]: ...

    async def tamper(self, tenant: str) -> None:
        """Change a tenant's row behind the store's back."""
        ...


@dataclass(frozen=True)
class Room:
    store: Store
    leases: Leases
    outbox: Outbox
    attempts: Attempts
    look: Look

    async def deks(self, *ids: UUID) -> dict[UUID, Dek]:
        return dict((await self.store.know(Question(deks=frozenset(ids)))).deks)


@dataclass(frozen=True)
class FakeLook:
    fake: FakeStore

    async def stored(self, key: UUID, version: int) -> tuple[int, int]:
        return self.fake.census.get((key, version), (0, 0))

    async def leaves(self, tenant: str) -> int:
        return sum(leaf.tenant == tenant for leaf in self.fake.leaves)

    async def private_halves(self, below: int) -> list[int]:
        return await self.fake.private_halves(below)

    async def tamper(self, tenant: str) -> None:
        for ref, stored in self.fake.rows.items():
            if ref.key == tenant:
                object.__setattr__(stored.row, "layers", 9)


@dataclass(frozen=True)
class PostgresLook:
    pool: Pool

    async def stored(self, key: UUID, version: int) -> tuple[int, int]:
        totals = [total for total in await census(self.pool, [key]) if total.version == version]
        return (totals[0].stored, totals[0].issued_outside) if totals else (0, 0)

    async def leaves(self, tenant: str) -> int:
        sql = "SELECT count(*) FROM keyriver.leaves WHERE tenant = $1"
        found = await self.pool.run(lambda connection: connection.fetchval(sql, tenant))
        assert isinstance(found, int)
        return found

    async def private_halves(self, below: int) -> list[int]:
        return await private_halves(self.pool, below)

    async def tamper(self, tenant: str) -> None:
        sql = "UPDATE keyriver.tenants SET layers = 9 WHERE id = $1"
        await self.pool.run(lambda connection: connection.execute(sql, tenant))


def fake_room() -> Room:
    fake = FakeStore()
    return Room(fake, fake, fake, fake, FakeLook(fake))


def postgres_room(pool: Pool) -> Room:
    return Room(
        PostgresStore(pool), PostgresLeases(pool), PostgresOutbox(pool), PostgresAttempts(pool), PostgresLook(pool)
    )


@asynccontextmanager
async def migrated(dsn: str, pool_size: int = 8) -> AsyncIterator[Pool]:
    """A pool on a database that has the schema."""
    async with connected(PostgresSettings(dsn, pool_size=pool_size)) as pool:
        await migrate(pool)
        yield pool


async def value(pool: Pool, sql: str, *arguments: object) -> int:
    """One number."""
    return await pool.run(lambda connection: connection.fetchval(sql, *arguments))


async def until_waiting(raw: "asyncpg.Connection[asyncpg.Record]", number: int) -> None:
    """Until so many backends of this database wait for a lock; 0 means none any more."""
    sql = (
        "SELECT count(DISTINCT pid) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)"
        " WHERE NOT l.granted AND a.datname = current_database()"
    )
    async with asyncio.timeout(60):
        while (found := await raw.fetchval(sql)) < number or (number == 0 and found):
            await asyncio.sleep(0.01)
