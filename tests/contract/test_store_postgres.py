"""What only real Postgres can show: plans, locks, the schema, chores, and how errors come out."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any, cast, get_args
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.unit.store import fixtures
from tests.unit.store.builders import (
    Chain,
    bumped,
    chain,
    client_row,
    command,
    deks_of,
    entry_of,
    fresh_id,
    intake_row,
    version_row,
    wrap,
)
from tests.unit.store.rooms import PostgresLook, until_waiting, value
from worker.edges.store import chores
from worker.edges.store.fleet import Fleet, found_fleet, read_fleet, record_backup
from worker.edges.store.migrate import MIGRATIONS, applied, check_schema, migrate
from worker.edges.store.outbox import PostgresOutbox
from worker.edges.store.pool import PLANS, Connection, Pool, PostgresSettings, SchemaMismatch, StoreRefused, connected
from worker.edges.store.store import PostgresStore
from worker.model.effects import Announce, Count, Lost, Moved, MoveDek, Seen, Settled, Settlement
from worker.model.facts import Paging, Question
from worker.model.rows import Row
from worker.ports import StoreUnavailable

acme = fixtures.acme
pool = fixtures.pool
raw = fixtures.raw
real = fixtures.real
store = fixtures.store

MONEY_TABLES = ("ledger", "deks", "versions", "keys", "aliases", "clients", "tenants", "intake_keys")


@pytest.fixture
async def other_database(database: str, raw: "asyncpg.Connection[asyncpg.Record]") -> AsyncIterator[str]:
    """One more empty database."""
    name = f"test_{fresh_id().hex}"
    await raw.execute(f'CREATE DATABASE "{name}"')
    yield urlsplit(database)._replace(path=f"/{name}").geturl()
    await raw.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def scans(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Every scan of a table in a plan, at any depth."""
    found = [plan] if plan.get("Relation Name") or plan["Node Type"] == "Bitmap Index Scan" else []
    return found + [scan for part in plan.get("Plans", []) for scan in scans(part)]


class Plans:
    """The plans of all statements that ran on a connection, those inside functions too."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def listen(self, _connection: object, message: object) -> None:
        self.texts.append(getattr(message, "message", ""))

    def scans(self) -> list[dict[str, Any]]:
        plans = [json.loads(text[text.index("{") :]) for text in self.texts if "plan:" in text]
        return [scan for plan in plans for scan in scans(plan["Plan"])]


class OneConnection:
    """In place of a pool: one connection with the river's settings that tells its plans."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection

    async def run(self, work: Callable[["asyncpg.Connection[asyncpg.Record]"], Awaitable[object]]) -> object:
        return await work(self._connection)


@asynccontextmanager
async def telling(database: str) -> AsyncIterator[tuple[Pool, Plans]]:
    plans = Plans()
    connection = await asyncpg.connect(database, server_settings=PLANS)
    await connection.execute(
        "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on;"
        "SET auto_explain.log_format = json; SET client_min_messages = log"
    )
    connection.add_log_listener(plans.listen)
    yield cast(Pool, OneConnection(connection)), plans
    await connection.execute("SET client_min_messages = warning")
    connection.remove_log_listener(plans.listen)
    await connection.close()


class TestPlans:
    @pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
    async def test_the_money_queries_read_by_index(self, database: str, pool: Pool, acme: Chain, filled: bool) -> None:
        if filled:
            await PostgresStore(pool).settle([wrap(acme, items=40) for _ in range(100)])
            await pool.run(lambda connection: connection.execute("ANALYZE"))
        whole = wrap(acme, items=3)
        half = replace(entry_of(whole), outcomes=(None, None, None))
        (one, *_) = deks_of(whole)
        question = Question(
            ledger=frozenset({half.key}),
            clients=frozenset({acme.client.id}),
            tenants=frozenset({acme.tenant.id}),
            aliases=frozenset({acme.alias.name}),
            keys=frozenset({acme.kek.id}),
            versions=frozenset({(acme.kek.id, 1)}),
            deks=frozenset({one.id}),
            trees=frozenset({acme.kek.id}),
            intake_keys=frozenset({1}),
            key_pages=frozenset({Paging(acme.tenant.id, "", 5)}),
            client_pages=frozenset({Paging(acme.tenant.id, "", 5)}),
        )
        stale = replace(wrap(acme), seen=(Seen(acme.kek.ref, 9),))
        rotate = command(bumped(acme.kek), version_row(bumped(acme.kek), 2), client_row(acme.tenant.id), intake_row())
        move = Settlement(None, None, acme.seen, (), (MoveDek(replace(one, version=2), one.blob),))

        async with telling(database) as (told_pool, plans):
            store = PostgresStore(told_pool)
            assert (await store.know(question)).rows
            assert await store.settle([Settlement(half, None, (), (), ()), stale]) == [Settled(), Moved()]
            assert await store.settle([replace(whole, opened=half), wrap(acme)]) == [Settled()] * 2
            assert isinstance((await store.settle([whole]))[0], Lost)
            assert await store.settle([move, rotate]) == [Settled()] * 2
            await chores.prune(told_pool, timedelta(days=14))
        seen = plans.scans()
        told = {scan.get("Relation Name", scan.get("Index Name", "")) for scan in seen}
        for table in MONEY_TABLES:
            assert any(name.startswith(table) for name in told), f"no plan of {table} was told"
        for scan in seen:
            name = scan.get("Relation Name", "")
            if not name.startswith(MONEY_TABLES) or scan["Node Type"] in ("ModifyTable", "Bitmap Heap Scan"):
                continue
            assert scan["Node Type"] in ("Index Scan", "Index Only Scan"), json.dumps(scan)
            assert "Index Cond" in scan, json.dumps(scan)

    async def test_a_move_within_a_key_stays_hot(self, pool: Pool, store: PostgresStore, acme: Chain) -> None:
        made = wrap(acme, items=100)
        await store.settle([made])
        moves = tuple(MoveDek(replace(one, version=2), one.blob) for one in deks_of(made))
        assert await store.settle([Settlement(None, None, (), (), moves)]) == [Settled()]
        updates = "SELECT sum(%s)::int FROM pg_stat_all_tables WHERE relname LIKE 'deks\\___'"
        async with asyncio.timeout(60):
            while (await value(pool, updates % "n_tup_upd") or 0) < 100:  # the server tells its statistics late
                await pool.run(lambda connection: connection.execute("SELECT pg_stat_force_next_flush()"))
        # A full page now and then has no room for one more.
        assert await value(pool, updates % "n_tup_hot_upd") > 80

    async def test_wrapped_bytes_are_not_compressed(self, pool: Pool) -> None:
        sql = (
            "SELECT count(*) FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid"
            " WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'keyriver'::regnamespace AND a.attstorage = 'e'"
            " AND (c.relname LIKE 'ledger%' AND a.attname = 'outcomes'"
            " OR c.relname LIKE 'deks%' AND a.attname = 'blob')"
        )
        assert await value(pool, sql) == 34


class TestSchema:
    async def test_two_inits_at_once_apply_each_migration_once(self, other_database: str) -> None:
        async with connected(PostgresSettings(other_database)) as pool:
            versions = [migration.version for migration in MIGRATIONS]
            for _ in range(2):
                with pytest.raises(SchemaMismatch, match="keyriver init"):
                    await check_schema(pool)
                done = await asyncio.gather(*(migrate(pool) for _ in range(3)))
                assert sorted(done) == [[], [], versions]
                await check_schema(pool)
                assert await applied(pool) == frozenset(versions)
                await pool.run(_undo)

    async def test_columns_are_the_fields_of_the_model(self, pool: Pool) -> None:
        sql = (
            "SELECT attname FROM pg_attribute WHERE attrelid = ('keyriver.' || $1)::regclass AND attnum > 0"
            " AND NOT attisdropped"
        )
        for kind in get_args(Row):
            table = kind.TABLE.value
            rows = await pool.run(lambda connection, table=table: connection.fetch(sql, table))  # type: ignore[misc]
            names = [one.name for one in fields(kind)]
            assert sorted(row["attname"] for row in rows) == sorted([*names, "mac_version", "mac"])

    async def test_the_fleet_is_founded_once(self, pool: Pool) -> None:
        fleet = Fleet("dev-one", b"\x04" * 65, "0001", 5)
        assert await read_fleet(pool) is None
        assert await found_fleet(pool, fleet)
        assert not await found_fleet(pool, replace(fleet, id="dev-two"))
        await record_backup(pool, 9)
        assert await read_fleet(pool) == replace(fleet, backup_recorded_ms=9)

    async def test_the_server_is_described(self, pool: Pool) -> None:
        facts = await chores.inspect(pool)
        assert facts.is_primary
        assert facts.schema == MIGRATIONS[-1].version
        assert facts.synchronous_commit == "on"


async def _undo(connection: Connection) -> None:
    for migration in reversed(MIGRATIONS):
        await connection.execute(migration.down)
    left = await connection.fetch("SELECT relname FROM pg_class WHERE relnamespace = 'keyriver'::regnamespace")
    assert {row["relname"] for row in left} == {"schema_migrations", "schema_migrations_pkey"}
    await connection.execute("DELETE FROM keyriver.schema_migrations")


class TestChores:
    async def test_old_ledger_entries_go_and_young_ones_stay(
        self, pool: Pool, store: PostgresStore, acme: Chain
    ) -> None:
        old, young = [wrap(acme) for _ in range(7)], [wrap(acme) for _ in range(3)]
        await store.settle([*old, *young])
        names = [entry_of(one).key.id for one in old]
        sql = "UPDATE keyriver.ledger SET at = now() - interval '15 days' WHERE id = ANY ($1)"
        await pool.run(lambda connection: connection.execute(sql, names))
        assert await chores.prune(pool, timedelta(days=14), chunk=3) == 7
        answer = await store.know(Question(ledger=frozenset(entry_of(one).key for one in (*old, *young))))
        assert set(answer.ledger) == {entry_of(one).key for one in young}

    async def test_acknowledged_events_go(self, pool: Pool, store: PostgresStore, acme: Chain) -> None:
        outbox = PostgresOutbox(pool)
        events = [Announce(fresh_id(), "keyriver.x.v1", acme.tenant.id, b"") for _ in range(2)]
        await store.settle([Settlement(None, None, (), (), tuple(events))])
        await outbox.acknowledge([events[0].id])
        assert await chores.prune(pool, timedelta(0)) >= 1
        sql = "SELECT count(*) FROM keyriver.outbox WHERE id = ANY ($1::uuid[])"
        assert await value(pool, sql, [event.id for event in events]) == 1
        assert events[1] in await outbox.waiting(1000)

    async def test_folding_the_census_changes_no_total(self, pool: Pool, store: PostgresStore, acme: Chain) -> None:
        for _ in range(5):
            await store.settle([wrap(acme, items=2)])
        await store.settle([Settlement(None, None, (), (), (Count(acme.kek.id, 2, issued_outside=1),))])
        look = PostgresLook(pool)
        await asyncio.gather(*(chores.fold(pool) for _ in range(4)), store.settle([wrap(acme)]))
        await chores.fold(pool)
        assert await look.stored(acme.kek.id, 1) == (11, 0)
        assert await look.stored(acme.kek.id, 2) == (0, 1)
        assert await value(pool, "SELECT count(*) FROM keyriver.census WHERE key = $1", acme.kek.id) == 2


class TestErrors:
    @pytest.mark.usefixtures("no_blocking")
    async def test_nothing_blocks_the_loop(self, pool: Pool, store: PostgresStore) -> None:
        acme = chain()
        await check_schema(pool)
        assert await store.settle([command(*acme.rows)]) == [Settled()]
        assert await store.settle([wrap(acme)]) == [Settled()]
        assert (await store.know(Question(keys=frozenset({acme.kek.id})))).rows

    async def test_an_unreachable_server_or_a_wrong_password_is_an_outage(self, database: str) -> None:
        scheme, _, rest = database.partition("://")
        _, _, where = rest.partition("@")
        for dsn in (f"{scheme}://keyriver:hunter2@{where}", f"{scheme}://keyriver:hunter2@127.0.0.1:1/none"):
            settings = PostgresSettings(dsn)
            assert "hunter2" not in repr(settings)
            with pytest.raises(StoreUnavailable) as caught:
                async with connected(settings):
                    pass
            assert "hunter2" not in str(caught.value)

    async def test_bytes_that_postgres_refuses_are_a_defect_not_an_outage(
        self, store: PostgresStore, acme: Chain
    ) -> None:
        for name in ("a\0b", "\ud800"):
            with pytest.raises(StoreRefused):
                await store.settle([wrap(acme, name)])
        assert await store.settle([wrap(acme)]) == [Settled()]

    async def test_a_row_with_a_word_that_nobody_wrote_is_absent(self, pool: Pool, store: PostgresStore) -> None:
        good, bad = chain(), chain()
        await store.settle([command(*good.rows, *bad.rows)])
        sql = "UPDATE keyriver.versions SET state = 'very active' WHERE key = $1"
        await pool.run(lambda connection: connection.execute(sql, bad.kek.id))
        answer = await store.know(Question(keys=frozenset({good.kek.id, bad.kek.id})))
        told = {stored.row.ref for stored in answer.rows}
        assert bad.versions[2].ref not in told
        assert {bad.kek.ref, *(row.ref for row in (*good.keys, *good.versions))} <= told

    async def test_a_server_that_only_reads_is_an_outage(self, database: str, acme: Chain) -> None:
        """A fail-over made it a replica: the other one is the primary now."""
        async with connected(PostgresSettings(database, pool_size=1)) as pool:
            read_only = "SET default_transaction_read_only = on"
            await pool.run(lambda connection: connection.execute(read_only))
            with pytest.raises(StoreUnavailable):
                await PostgresStore(pool).settle([wrap(acme)])

    async def test_a_cancelled_settle_is_given_up_by_the_server_too(
        self, database: str, acme: Chain, raw: "asyncpg.Connection[asyncpg.Record]"
    ) -> None:
        async with connected(PostgresSettings(database, pool_size=1, statement_s=60, lock_s=60)) as pool:
            store = PostgresStore(pool)
            await store.know(Question())
            async with raw.transaction():
                await raw.execute("SELECT 1 FROM keyriver.keys WHERE id = $1 FOR UPDATE", acme.kek.id)
                task = asyncio.create_task(store.settle([wrap(acme)]))
                await until_waiting(raw, 1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await until_waiting(raw, 0)
                assert (await store.know(Question(keys=frozenset({acme.kek.id})))).rows
