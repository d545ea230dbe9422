"""Rows by the version of their MAC on real Postgres: walked in pieces, renewed one by one, and told only then (S7)."""

import asyncio
from dataclasses import replace

import asyncpg
import pytest

from tests.unit.store import fixtures
from tests.unit.store.builders import Chain, bumped, chain, client_row, command, fresh_id
from worker.edges.store.macs import PostgresMacRows
from worker.edges.store.outbox import PostgresOutbox
from worker.edges.store.pool import Pool, StoreRefused
from worker.edges.store.store import PostgresStore
from worker.model.effects import Announce, PutRow, Settled, Settlement
from worker.model.facts import Question, StoredRow
from worker.model.fleet import FleetKey, FleetKeyState, FleetKind
from worker.model.sequences import SEQUENCE
from worker.model.words import Table

acme = fixtures.acme
pool = fixtures.pool
raw = fixtures.raw
real = fixtures.real
store = fixtures.store


@pytest.fixture
async def alone(raw: "asyncpg.Connection[asyncpg.Record]") -> None:
    """No other rows in the way."""
    for table in Table:
        await raw.execute(f"DELETE FROM keyriver.{table}")  # noqa: S608
    await raw.execute("DELETE FROM keyriver.outbox")


def renewed(stored: StoredRow) -> tuple[PutRow, Announce]:
    return PutRow(stored.row, 2, b"new"), Announce(fresh_id(), SEQUENCE, "fleet", b"{}")


async def put(store: PostgresStore, *rows: PutRow) -> None:
    assert await store.settle([Settlement(None, None, (), (), rows)]) == [Settled()]


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("size", [1, 2, 100])
async def test_a_walk_meets_every_older_row_of_every_table_once(store: PostgresStore, pool: Pool, size: int) -> None:
    made = chain().rows
    old = [PutRow(row, 1, b"old") for row in (*made, *(client_row("acme") for _ in range(5)))]
    await put(store, *old, PutRow(client_row("acme"), 2, b"new"))
    rows = PostgresMacRows(pool)
    met: list[StoredRow] = []
    for table in Table:
        after: StoredRow | None = None
        while piece := await rows.older(table, after, 2, size):
            assert len(piece) <= size
            met += piece
            after = piece[-1]
    assert sorted(one.row.ref for one in met) == sorted(one.row.ref for one in old)
    assert {(one.mac_version, one.mac) for one in met} == {(1, b"old")}


@pytest.mark.usefixtures("alone")
async def test_a_row_is_renewed_if_it_still_is_the_one_that_was_read(store: PostgresStore, pool: Pool) -> None:
    row = client_row("acme")
    await put(store, PutRow(row, 1, b"old"))
    rows, told = PostgresMacRows(pool), PostgresOutbox(pool, sequences=True)
    (was,) = await rows.older(Table.CLIENTS, None, 2, 9)
    for stale in (replace(was, mac=b"x"), replace(was, mac_version=3), replace(was, row=replace(row, revision=9))):
        assert not await rows.renew(stale, renewed(stale))
    assert await told.waiting(9) == []
    now = renewed(was)
    assert await rows.renew(was, now)
    assert not await rows.renew(was, renewed(was)), "it is another one by now"
    assert [event.id for event in await told.waiting(9)] == [now[1].id]
    (stored,) = (await store.know(Question(clients=frozenset({row.id})))).rows
    assert (stored.row, stored.mac_version, stored.mac) == (row, 2, b"new")
    assert (await store.know(Question(rests=frozenset(FleetKind)))).rests == {(FleetKind.ROW_MAC, 2): 1}


@pytest.mark.usefixtures("alone")
async def test_what_settles_at_the_same_time_is_neither_held_up_nor_undone(
    store: PostgresStore, pool: Pool, acme: Chain
) -> None:
    """A renewal changes no revision: a command that read the row before it still settles, and its MAC stays."""
    key = acme.kek
    rows = PostgresMacRows(pool)
    (was,) = [one for one in await rows.older(Table.KEYS, None, 99, 100) if one.row == key]
    changed = bumped(key)
    done, settled = await asyncio.gather(rows.renew(was, renewed(was)), store.settle([command(changed)]))
    assert settled == [Settled()]
    (stored,) = [one for one in (await store.know(Question(keys=frozenset({key.id})))).rows if one.row.ref == key.ref]
    assert stored.row == changed, done
    assert stored.mac != b"new"


async def test_the_sequences_of_rows_wait_in_an_outbox_of_their_own(store: PostgresStore, pool: Pool) -> None:
    events = [Announce(fresh_id(), type_, "fleet", b"{}") for type_ in (SEQUENCE, "keyriver.hint.v1", SEQUENCE)]
    await store.settle([Settlement(None, None, (), (), tuple(events))])
    mine = {event.id for event in events}
    for sequences, wanted in ((True, {SEQUENCE}), (False, {"keyriver.hint.v1"})):
        waiting = [one for one in await PostgresOutbox(pool, sequences=sequences).waiting(10_000) if one.id in mine]
        assert {one.type for one in waiting} == wanted


async def test_a_fleet_keys_row_comes_back_whole(store: PostgresStore) -> None:
    signed = (b"\x04new", b"\x04old", b"r1s1", b"r2s2")
    number = fresh_id().int % 10**9
    row = FleetKey(f"signing/{number}", FleetKind.SIGNING, number, FleetKeyState.ACTIVE, 5, 1, "fleet", *signed)
    bare = FleetKey(f"row-mac/{number}", FleetKind.ROW_MAC, number, FleetKeyState.VERIFY_ONLY, 0, 1, "fleet")
    refs = {row.ref, bare.ref}
    await put(store, PutRow(row, 1, b"m"), PutRow(bare, 1, b"m"))
    found = (await store.know(Question(refs=frozenset(refs)))).rows
    assert {one.row for one in found} == {row, bare}


@pytest.mark.usefixtures("alone")
async def test_no_row_is_written_under_a_retired_version(store: PostgresStore) -> None:
    old = FleetKey("row-mac/1", FleetKind.ROW_MAC, 1, FleetKeyState.VERIFY_ONLY, 0, 1, "fleet")
    await put(store, PutRow(old, 2, b"new"), PutRow(client_row("acme"), 1, b"old"))
    await put(store, PutRow(replace(old, state=FleetKeyState.RETIRED, revision=2), 2, b"new"))
    late = PutRow(client_row("acme"), 1, b"old")
    with pytest.raises(StoreRefused, match="retired version"):
        await store.settle([Settlement(None, None, (), (), (late,))])
    await put(store, PutRow(client_row("acme"), 2, b"new"))
