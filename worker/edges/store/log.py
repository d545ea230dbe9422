"""The audit logs in Postgres: what the sequencer appends and signs, and the trail as an auditor reads it (S16)."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import fields
from datetime import timedelta
from typing import Any, TypeVar, cast
from uuid import UUID

import asyncpg

from worker.edges.store.pool import Connection, Pool
from worker.edges.store.queries import SQL
from worker.model.audit import (
    HASH_BYTES,
    AuditLeaf,
    Checkpoint,
    Due,
    Fault,
    Growth,
    Head,
    LogEntry,
    LogRow,
    Span,
    Stray,
)
from worker.model.fleet import FleetKey

T = TypeVar("T")
FETCH = 2000
"""Rows that are read ahead: a megabyte or two."""
STRAYS = 1000


class PostgresAuditLog:
    """The port `worker.flow.sequencer.AuditLog`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def hold(self, holder: UUID, seconds: float) -> int | None:
        """One row that all want; who does not get it reads it and goes away."""
        found = await self._value("sequencer_hold", holder, timedelta(seconds=seconds))
        return cast(int | None, found)

    async def release(self, holder: UUID) -> None:
        """No error if another holds it."""
        await self._value("sequencer_release", holder)

    async def waiting(self, after: int, limit: int) -> list[AuditLeaf]:
        """In the order of their numbers, of which some may be missing and come later."""
        return [AuditLeaf(*row) for row in await self._rows("unsequenced", after, limit)]

    async def heads(self, tenants: Sequence[str]) -> dict[str, Head]:
        """An empty one for who has no log yet."""
        found = await self._rows("log_heads", tenants)
        heads = {row["tenant"]: _head(row) for row in found}
        return {tenant: heads.get(tenant, Head(tenant)) for tenant in tenants}

    async def append(self, epoch: int, growths: Sequence[Growth]) -> bool:
        """One statement, so all of it or nothing."""
        entries = [(growth.head.tenant, entry) for growth in growths for entry in growth.entries]
        nodes = [(growth.head.tenant, node) for growth in growths for node in growth.nodes]
        arguments = (
            [growth.head.tenant for growth in growths],
            [growth.was for growth in growths],
            [growth.head.size for growth in growths],
            [b"".join(growth.head.frontier) for growth in growths],
            [tenant for tenant, _ in entries],
            *_columns([entry for _, entry in entries], "index", "number", "leaf", "hash"),
            [tenant for tenant, _ in nodes],
            *_columns([node for _, node in nodes], "level", "index", "hash"),
        )
        return bool(await self._value("log_append", epoch, *arguments))

    async def due(self, limit: int) -> list[Due]:
        """By tenant."""
        rows = await self._rows("log_due", limit)
        return [
            Due(Head(row["tenant"], row["size"], _hashes(row["frontier"])), _last(row), row["now_ms"]) for row in rows
        ]

    async def nodes(self, spans: Sequence[Span]) -> dict[tuple[str, int, int], bytes]:
        """One statement for all of them."""
        return await self._pool.run(lambda connection: _nodes(connection, spans))

    async def checkpoint(self, epoch: int, signed: Sequence[Checkpoint]) -> bool:
        """One statement, so all of them or none."""
        columns = list(_columns(signed, "tenant", "size", "fleet", "root", "time_ms", "previous_size"))
        proofs = [b"".join(each.consistency) for each in signed]
        return bool(await self._value("log_checkpoint", epoch, *columns, proofs, [each.signature for each in signed]))

    async def unpublished(self, limit: int) -> list[Checkpoint]:
        """By tenant and size."""
        return [_checkpoint(row) for row in await self._rows("log_unpublished", limit)]

    async def acknowledge(self, published: Sequence[Checkpoint]) -> None:
        """Again is no error."""
        await self._value("log_published", *_columns(published, "tenant", "size"))

    async def behind_s(self) -> float:
        """By the database's clock."""
        return cast(float, await self._value("log_behind"))

    async def _rows(self, name: str, *arguments: object) -> list[asyncpg.Record]:
        return await self._pool.run(lambda connection: connection.fetch(SQL[name], *arguments))

    async def _value(self, name: str, *arguments: object) -> object:
        return await self._pool.run(lambda connection: connection.fetchval(SQL[name], *arguments))


class PostgresTrail:
    """The port `worker.flow.auditing.AuditTrail`: everything as of one moment, read in passing."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def tenants(self, tenant: str = "") -> list[str]:
        """Those that have a head, an entry or a checkpoint."""
        return [row["tenant"] for row in await self._connection.fetch(SQL["trail_tenants"], tenant)]

    async def head(self, tenant: str) -> Head | None:
        """Where the log says that it ends."""
        row = await self._connection.fetchrow(SQL["log_heads"], [tenant])
        return None if row is None else _head(row)

    async def rows(self, tenant: str, first: int = 0) -> AsyncIterator[LogRow]:
        """A log from an index on, never more than a few thousand rows at once."""
        async for row in self._connection.cursor(SQL["trail"], tenant, first, prefetch=FETCH):
            yield _log_row(row)

    async def row(self, tenant: str, index: int) -> LogRow | None:
        """The one at this index."""
        found = await self._connection.fetchrow(SQL["trail"], tenant, index)
        return None if found is None or found["index"] != index else _log_row(found)

    async def checkpoints(self, tenant: str) -> AsyncIterator[Checkpoint]:
        """The stored ones, by size."""
        async for row in self._connection.cursor(SQL["trail_checkpoints"], tenant, prefetch=FETCH):
            yield _checkpoint(row)

    async def checkpoint_of(self, tenant: str, index: int) -> Checkpoint | None:
        """The newest that covers the record at this index."""
        row = await self._connection.fetchrow(SQL["trail_checkpoint_of"], tenant, index)
        return None if row is None else _checkpoint(row)

    async def nodes(self, spans: Sequence[Span]) -> dict[tuple[str, int, int], bytes]:
        """What is kept for proofs."""
        return await _nodes(self._connection, spans)

    async def strays(self, tenant: str = "") -> list[Stray]:
        """The first thousand."""
        rows = await self._connection.fetch(SQL["trail_strays"], tenant, STRAYS)
        return [
            Stray(Fault.REMOVED if row["id"] is None else Fault.INSERTED, row["number"], row["tenant"] or "", row["id"])
            for row in rows
        ]

    async def rotations(self) -> list[FleetKey]:
        """Those of the fleet's signing key, oldest first. Nothing about them was verified; their signatures do that."""
        rows = await self._connection.fetch(SQL["trail_rotations"])
        columns = [field.name for field in fields(FleetKey)]
        return [FleetKey(**{name: row[name] for name in columns}) for row in rows]

    async def of_leaf(self, leaf: UUID) -> list[tuple[str, int]]:
        """Tenant and index; one, unless somebody tampered."""
        return [(row["tenant"], row["index"]) for row in await self._connection.fetch(SQL["trail_of_a_leaf"], leaf)]

    async def of_text(self, text: bytes, tenant: str = "") -> list[tuple[str, int]]:
        """Tenant and index of the first records whose body holds these bytes."""
        rows = await self._connection.fetch(SQL["trail_of_a_request"], text, tenant)
        return [(row["tenant"], row["index"]) for row in rows]


async def read_trail(pool: Pool, work: Callable[[PostgresTrail], Awaitable[T]]) -> T:
    """Do `work` in a transaction that can't write and sees one moment."""

    async def reading(connection: Connection) -> T:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await work(PostgresTrail(connection))

    return await pool.run(reading)


async def _nodes(connection: Connection, spans: Sequence[Span]) -> dict[tuple[str, int, int], bytes]:
    rows = await connection.fetch(SQL["log_nodes"], *_columns(spans, "tenant", "level", "first", "count"))
    return {(row["tenant"], row["level"], row["index"]): row["hash"] for row in rows}


def _columns(rows: Sequence[object], *names: str) -> list[list[Any]]:
    return [[getattr(row, name) for row in rows] for name in names]


def _hashes(joined: bytes) -> tuple[bytes, ...]:
    return tuple(joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES))


def _log_row(row: asyncpg.Record) -> LogRow:
    leaf = None
    if row["id"] is not None:
        leaf = AuditLeaf(row["number"], row["id"], row["leaf_tenant"], row["at_us"], row["body"])
    return LogRow(LogEntry(row["index"], row["number"], row["leaf"], row["hash"]), leaf)


def _head(row: asyncpg.Record) -> Head:
    return Head(row["tenant"], row["size"], _hashes(row["frontier"]))


def _last(row: asyncpg.Record) -> Checkpoint | None:
    return None if row["last_size"] is None else _checkpoint(row, row["last_size"])


def _checkpoint(row: asyncpg.Record, size: int | None = None) -> Checkpoint:
    return Checkpoint(
        row["fleet"],
        row["tenant"],
        row["size"] if size is None else size,
        row["root"],
        row["time_ms"],
        row["previous_size"],
        _hashes(row["consistency"]),
        row["signature"],
    )
