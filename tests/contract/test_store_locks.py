"""Settles that wait for each other in Postgres: in one order, never for ever, and never past each other."""

import asyncio
from dataclasses import replace

import asyncpg
import pytest

from tests.unit.store import fixtures
from tests.unit.store.builders import (
    Chain,
    bumped,
    chain,
    command,
    deks_of,
    entry_of,
    intake_row,
    wrap,
)
from tests.unit.store.rooms import until_waiting, value
from worker.edges.store.pool import Pool, PostgresSettings, connected
from worker.edges.store.store import PostgresStore
from worker.model.effects import Lost, Moved, MoveDek, Seen, Settled, Settlement
from worker.model.rows import Alias, IntakeKey, Row, Version
from worker.ports import StoreUnavailable

acme = fixtures.acme
pool = fixtures.pool
raw = fixtures.raw
real = fixtures.real
store = fixtures.store


class TestLocks:
    async def test_rotations_wraps_and_moves_never_deadlock(self, pool: Pool, store: PostgresStore) -> None:
        chains = [chain() for _ in range(4)]
        await store.settle([command(*one.rows) for one in chains])
        made = [wrap(one, items=3) for one in chains]
        await store.settle(made)
        deks = [one for settlement in made for one in deks_of(settlement)]

        async def crowd(turn: int) -> None:
            order = chains if turn % 2 else chains[::-1]
            wraps = [wrap(one, f"r{turn // 2 % 3}") for one in order]
            moves = tuple(MoveDek(replace(one, version=turn), one.blob) for one in (deks if turn % 3 else deks[::-1]))
            keys = [key for one in order for key in one.keys[:: 1 if turn % 3 else -1]]
            puts = [command(bumped(key), seen=tuple(Seen(k.ref, 1) for k in keys)) for key in keys]
            await store.settle([*wraps, Settlement(None, None, (), (), moves), *puts])

        before = await value(pool, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        await asyncio.gather(*(crowd(turn) for turn in range(48)))
        await pool.run(lambda connection: connection.execute("SELECT pg_stat_force_next_flush()"))
        after = await value(pool, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert after == before

    async def test_ledger_entries_are_claimed_in_the_order_of_their_keys(
        self, store: PostgresStore, acme: Chain, raw: "asyncpg.Connection[asyncpg.Record]"
    ) -> None:
        """While a settle waits for the second key it does not hold the third, whatever order the batch has."""

        async def insert(connection: "asyncpg.Connection[asyncpg.Record]", name: str) -> None:
            key = acme.request(name)
            sql = "INSERT INTO keyriver.ledger VALUES ($1, $2, $3, $4, 'wrap', '', '{}')"
            await connection.execute(sql, key.tenant, key.client, key.source, key.id)

        transaction = raw.transaction()
        await transaction.start()
        await insert(raw, "b")
        waiting = asyncio.create_task(store.settle([wrap(acme, name) for name in ("c", "b", "a")]))
        await until_waiting(raw, 1)
        await raw.execute("SET LOCAL lock_timeout = '50ms'")
        await insert(raw, "c")
        await transaction.rollback()
        assert await waiting == [Settled()] * 3

    @pytest.mark.parametrize("index", range(9))
    async def test_a_settle_waits_for_a_change_and_sees_it(
        self, store: PostgresStore, raw: "asyncpg.Connection[asyncpg.Record]", index: int
    ) -> None:
        row = (await _some_rows(store))[index]
        async with raw.transaction():
            await _hold(raw, row, "UPDATE")
            await raw.execute(f"UPDATE keyriver.{row.TABLE.value} SET revision = 2 WHERE {_named(row)}")  # noqa: S608
            waiting = asyncio.create_task(store.settle([Settlement(None, None, (Seen(row.ref, 1),), (), ())]))
            await until_waiting(raw, 1)
        assert await waiting == [Moved()]

    @pytest.mark.parametrize("index", range(9))
    async def test_settles_share_a_row_and_of_two_changes_one_wins(
        self, store: PostgresStore, raw: "asyncpg.Connection[asyncpg.Record]", index: int
    ) -> None:
        row = (await _some_rows(store))[index]
        async with raw.transaction():
            await _hold(raw, row, "SHARE")
            assert await store.settle([Settlement(None, None, (Seen(row.ref, 1),), (), ())]) == [Settled()]
            changes = [asyncio.create_task(store.settle([command(replace(row, revision=2))])) for _ in range(2)]
            await until_waiting(raw, 2)
        assert sorted([await change for change in changes], key=repr) == [[Moved()], [Settled()]]

    async def test_of_two_fills_of_an_open_entry_one_wins(
        self, store: PostgresStore, acme: Chain, raw: "asyncpg.Connection[asyncpg.Record]"
    ) -> None:
        fills = [wrap(acme, "fill") for _ in range(2)]
        half = replace(entry_of(fills[0]), outcomes=(None,))
        assert await store.settle([Settlement(half, None, (), (), ())]) == [Settled()]
        async with raw.transaction():
            await raw.execute("SELECT 1 FROM keyriver.ledger WHERE id = 'fill' FOR UPDATE")
            tasks = [asyncio.create_task(store.settle([replace(fill, opened=half)])) for fill in fills]
            await until_waiting(raw, 2)
        fates = [(await task)[0] for task in tasks]
        assert sorted(type(fate).__name__ for fate in fates) == ["Lost", "Settled"]
        winner = fills[fates.index(Settled())]
        assert Lost(entry_of(winner)) in fates

    async def test_of_two_moves_of_a_dek_one_wins(
        self, store: PostgresStore, acme: Chain, raw: "asyncpg.Connection[asyncpg.Record]"
    ) -> None:
        made = wrap(acme)
        (one,) = deks_of(made)
        await store.settle([made])
        async with raw.transaction():
            await raw.execute("SELECT 1 FROM keyriver.deks WHERE id = $1 FOR UPDATE", one.id)
            moves = [MoveDek(replace(one, blob=blob), one.blob) for blob in (b"1", b"2")]
            tasks = [asyncio.create_task(store.settle([Settlement(None, None, (), (), (m,))])) for m in moves]
            await until_waiting(raw, 2)
        assert sorted([(await task)[0] for task in tasks], key=repr) == [Moved(), Settled()]

    async def test_a_lock_that_is_held_for_long_is_an_outage(
        self, database: str, acme: Chain, raw: "asyncpg.Connection[asyncpg.Record]"
    ) -> None:
        async with raw.transaction(), connected(PostgresSettings(database, lock_s=0.05)) as pool:
            await raw.execute("SELECT 1 FROM keyriver.keys WHERE id = $1 FOR UPDATE", acme.kek.id)
            with pytest.raises(StoreUnavailable, match="lock timeout"):
                await PostgresStore(pool).settle([wrap(acme)])


async def _some_rows(store: PostgresStore) -> tuple[Row, ...]:
    rows = (*chain().rows, intake_row())
    assert await store.settle([command(*rows)]) == [Settled()]
    return rows


def _named(row: Row) -> str:
    """The row's primary key as a condition."""
    key = row.ref.key
    match row:
        case Version():
            return f"key = '{row.key}' AND number = {row.number}"
        case Alias():
            return f"name = '{key}'"
        case IntakeKey():
            return f"sequence = {key}"
        case _:
            return f"id = '{key}'"


async def _hold(raw: "asyncpg.Connection[asyncpg.Record]", row: Row, strength: str) -> None:
    await raw.execute(f"SELECT 1 FROM keyriver.{row.TABLE.value} WHERE {_named(row)} FOR {strength}")  # noqa: S608
