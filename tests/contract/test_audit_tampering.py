"""Everything that somebody who owns the database can do to an audit log: it is found, and named by its place.

The cases, and what is found of each, stand in `audit_tampering.sql`.
"""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import pytest

from tests.unit.audit.book import FLEET, MemoryKeys, Shelf, signer
from tests.unit.store import fixtures
from tests.unit.store.builders import fresh_id, fresh_name
from worker.chain import audit, tiles
from worker.edges.store.log import PostgresAuditLog, PostgresTrail, read_trail
from worker.edges.store.pool import Connection, Pool
from worker.edges.store.store import PostgresStore
from worker.flow.auditing import Hearing, NoProof, Report, prove, verify
from worker.flow.sequencer import Sequencer
from worker.model.audit import AuditLeaf, Checkpoint, Fault, Head
from worker.model.effects import Leaf, Settlement
from worker.seal import checkpoints

pool = fixtures.pool
store = fixtures.store
COUNT, STEP = 900, 300
KEY = MemoryKeys().signing_key
SQL = Path(__file__).with_name("audit_tampering.sql").read_text()
Found = tuple[str, int, int]


def scenes() -> tuple[dict[str, tuple[str, list[Found]]], dict[str, str]]:
    """The cases with what is found of each, and the states, by name."""
    cases: dict[str, tuple[str, list[Found]]] = {}
    for name, told, sql in re.findall(r"^-- case: (.*)\n-- found: (.*)\n((?:(?!-- ).*\n)+)", SQL, re.MULTILINE):
        flaws = [flaw.split() for flaw in told.split(", ")]
        cases[name] = sql, [(fault, int(first), int(last)) for fault, first, last in flaws]
    return cases, dict(re.findall(r"^-- state: (.*)\n((?:(?!-- ).*\n)+)", SQL, re.MULTILINE))


@dataclass(frozen=True)
class Log:
    """One tenant's log, and what the fleet published of it."""

    tenant: str
    leaves: list[UUID]
    published: list[Checkpoint]


@pytest.fixture
async def book(pool: Pool, store: PostgresStore) -> Log:
    tenant, shelf = fresh_name("acme"), Shelf()
    log = PostgresAuditLog(pool)
    sequencer = Sequencer(FLEET, "audit", fresh_id(), log, MemoryKeys(), shelf)
    ids = [fresh_id() for _ in range(COUNT)]
    for start in range(0, COUNT, STEP):
        written = [Leaf(one, tenant, b'{"request":"%d"}' % n) for n, one in enumerate(ids[start : start + STEP], start)]
        await store.settle([Settlement(None, None, (), (), tuple(written))])
        await sequencer.turn()
    await log.release(sequencer.holder)
    mine = [record for record in shelf.records if record.key == tenant.encode()]
    published = [checkpoints.parse(record.value or b"", FLEET, KEY) for record in mine]
    assert [said.size for said in published] == [300, 600, 900]
    return Log(tenant, ids, published)


async def examined(pool: Pool, book: Log, told: Sequence[Checkpoint] = ()) -> Report:
    hearing = Hearing(FLEET, KEY)
    for said in told:
        hearing.hear(said)
    return await read_trail(pool, lambda trail: verify(trail, hearing, book.tenant))


def found(report: Report) -> list[Found]:
    (verdict,) = report.verdicts
    return [(flaw.fault.value, flaw.first, flaw.last) for flaw in verdict.flaws]


async def test_an_honest_log_is_whole(pool: Pool, book: Log) -> None:
    report = await examined(pool, book, book.published)
    assert report.is_whole
    assert report.verdicts[0].accepted == book.published[-1]


CASES, STATES = scenes()


@pytest.mark.parametrize("case", CASES)
async def test_tampering_is_found_and_named(pool: Pool, book: Log, case: str) -> None:
    sql, expected = CASES[case]
    await done(pool, sql, book.tenant)
    report = await examined(pool, book)
    assert found(report) == expected
    assert not report.is_whole
    assert report.verdicts[0].accepted is None


@pytest.mark.parametrize("case", ["the body of a record", "the id of a record", "a record whose place is left"])
async def test_the_record_is_named_by_the_id_under_which_it_was_appended(pool: Pool, book: Log, case: str) -> None:
    await done(pool, CASES[case][0], book.tenant)
    (flaw,) = (await examined(pool, book)).verdicts[0].flaws
    assert flaw.leaf == book.leaves[450]


async def done(pool: Pool, sql: str, tenant: str) -> None:
    """The statements, on this tenant's log."""
    await pool.run(lambda connection: connection.execute(sql.replace(":log", f"'{tenant}'")))


@pytest.fixture(autouse=True)
async def constraints(pool: Pool) -> AsyncIterator[None]:
    """One case drops a constraint, and no case leaves its log to the next."""
    yield

    async def work(connection: Connection) -> None:
        await connection.execute("DELETE FROM keyriver.log_entries; DELETE FROM keyriver.leaves")
        for name, key in (
            ("log_entries_number_key", "UNIQUE (number)"),
            ("log_entries_pkey", "PRIMARY KEY (tenant, index)"),
        ):
            if await connection.fetchval("SELECT 1 FROM pg_constraint WHERE conname = $1", name) is None:
                await connection.execute(f"ALTER TABLE keyriver.log_entries ADD CONSTRAINT {name} {key}")

    await pool.run(work)


async def test_a_stray_is_named(pool: Pool, book: Log) -> None:
    """Written by nobody's settle; or taken out of the queue before its turn."""
    await done(pool, STATES["a record that went through no log"], book.tenant)
    (stray,) = (await examined(pool, book)).strays
    assert (stray.fault, stray.tenant) == (Fault.INSERTED, book.tenant)
    await done(pool, STATES["a record that vanished before its turn"], book.tenant)
    report = await read_trail(pool, lambda trail: verify(trail, Hearing(FLEET, KEY)))
    assert [one.fault for one in report.strays] == [Fault.INSERTED, Fault.REMOVED]
    await done(pool, STATES["no leaf"], book.tenant)


async def test_a_rollback_of_everything_to_an_older_state_is_refused(pool: Pool, book: Log) -> None:
    """Nothing in the database says that there was more: only who kept a checkpoint knows."""
    await done(pool, STATES["rolled back to 600"], book.tenant)
    await restored_head(pool, book, 600)
    assert (await examined(pool, book)).is_whole, "by itself it can't be seen"
    assert found(await examined(pool, book, book.published)) == [("shrunk", 600, 899)]
    assert found(await examined(pool, book, book.published[-1:])) == [("shrunk", 600, 899)]


async def test_a_log_that_vanished_is_refused(pool: Pool, book: Log) -> None:
    await done(pool, STATES["as if nothing had been appended yet"], book.tenant)
    await done(pool, STATES["no leaf"], book.tenant)
    assert found(await examined(pool, book, book.published[-1:])) == [("shrunk", 0, 899), ("index", 0, 0)]


@pytest.mark.parametrize("as_published", [True, False], ids=["a checkpoint of every size", "other sizes"])
async def test_a_fork_is_refused(pool: Pool, book: Log, *, as_published: bool) -> None:
    """Somebody with the PIN rewrote the log from record 450 on, and had all checkpoints signed again."""
    await forked(pool, book, (300, 600, 900) if as_published else (300, 500, 890, 900))
    assert (await examined(pool, book)).is_whole, "by itself it can't be seen"
    (flaw, *_) = found(await examined(pool, book, book.published))
    assert flaw == ("forked", 300, 599)
    (flaw, *_) = found(await examined(pool, book, book.published[-1:]))
    assert flaw == ("forked", 0, 899)


async def test_published_checkpoints_that_contradict_each_other_are_a_fork(pool: Pool, book: Log) -> None:
    """The store may be honest: that the fleet's key signed two logs is bad enough."""
    other = replace(book.published[1], root=b"\1" * 32)
    other = checkpoints.signed(other, signer().sign(checkpoints.payload(other)))
    report = await examined(pool, book, [*book.published[:2], other, book.published[2]])
    assert ("forked", 599, 599) in found(report)
    assert report.verdicts[0].accepted is None


async def test_nothing_is_proved_of_a_spoilt_log(pool: Pool, book: Log) -> None:
    hearing = Hearing(FLEET, KEY)

    async def proved(index: int) -> str:
        try:
            await read_trail(pool, lambda trail: prove(trail, hearing, book.tenant, index))
        except NoProof as error:
            return str(error)
        return "proved"

    assert await proved(450) == "proved"
    assert "no checkpoint" in await proved(900)
    await done(pool, CASES["the body of a record"][0], book.tenant)
    assert "not what was signed" in await proved(450)
    await done(pool, CASES["a record whose place is left"][0], book.tenant)
    assert "gone" in await proved(450)
    assert await proved(451) == "proved"
    await done(pool, STATES["the place is gone too"], book.tenant)
    assert "not what was signed" in await proved(451)


async def restored_head(pool: Pool, book: Log, size: int) -> None:
    async def rows(trail: PostgresTrail) -> list[bytes]:
        return [row.entry.hash async for row in trail.rows(book.tenant)]

    hashes = (await read_trail(pool, rows))[:size]
    frontier, _ = tiles.append(0, (), hashes)
    sql = "UPDATE keyriver.logs SET size = $2, signed = $2, frontier = $3 WHERE tenant = $1"
    await pool.run(lambda connection: connection.execute(sql, book.tenant, size, b"".join(frontier)))


async def forked(pool: Pool, book: Log, sizes: Sequence[int]) -> None:
    """What the sequencer would have written if record 450 had been another one."""

    async def original(trail: PostgresTrail) -> list[AuditLeaf]:
        return [row.leaf async for row in trail.rows(book.tenant) if row.leaf is not None]

    leaves = await read_trail(pool, original)
    leaves[450] = replace(leaves[450], body=b"{}")
    await done(pool, CASES["the body of a record"][0], book.tenant)
    await done(pool, STATES["as if nothing had been appended yet"], book.tenant)
    log = PostgresAuditLog(pool)
    sequencer = Sequencer(FLEET, "audit", fresh_id(), log, MemoryKeys(), Shelf())
    epoch = await log.hold(sequencer.holder, 60)
    assert epoch is not None
    head, start = Head(book.tenant), 0
    for size in sizes:
        growth = audit.grow(head, leaves[start:size])
        assert await log.append(epoch, [growth])
        await sequencer._sign_all(epoch)
        head, start = growth.head, size
    await log.release(sequencer.holder)
