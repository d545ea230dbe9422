"""The sequencer on real Postgres: nothing is lost or appended twice, whoever writes late, dies or loses the lease."""

import asyncio
import json
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.contract.test_store_postgres import telling
from tests.unit.audit.book import FLEET, MemoryKeys, Shelf
from tests.unit.store import fixtures
from tests.unit.store.builders import fresh_id, fresh_name
from tests.unit.store.rooms import value
from worker.chain import audit, tiles
from worker.chain.merkle import check_consistency, check_inclusion
from worker.edges.store.log import PostgresAuditLog, read_trail
from worker.edges.store.pool import Pool
from worker.edges.store.store import PostgresStore
from worker.flow.auditing import Hearing, prove, verify
from worker.flow.sequencer import LATE, LEASE_S, Sequencer
from worker.model.audit import Checkpoint, Span
from worker.model.effects import Leaf, Settlement
from worker.ports import BusUnavailable, TokenUnavailable
from worker.seal import checkpoints

pool = fixtures.pool
raw = fixtures.raw
store = fixtures.store
LEAF = "INSERT INTO keyriver.leaves (id, tenant, body) VALUES ($1, $2, '{}')"


@pytest.fixture
def log(pool: Pool) -> PostgresAuditLog:
    return PostgresAuditLog(pool)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def keys() -> MemoryKeys:
    return MemoryKeys()


@pytest.fixture
async def sequencer(log: PostgresAuditLog, keys: MemoryKeys, shelf: Shelf) -> AsyncIterator[Sequencer]:
    """One that has nothing to do yet and holds the lease."""
    made = another(log, keys, shelf)
    while await made.turn():
        pass
    shelf.records.clear()
    yield made
    await log.release(made.holder)


def another(log: PostgresAuditLog, keys: MemoryKeys, shelf: Shelf) -> Sequencer:
    return Sequencer(FLEET, "audit", fresh_id(), log, keys, shelf)


async def settle(store: PostgresStore, *tenants: str) -> None:
    written = tuple(Leaf(fresh_id(), tenant, b'{"a":1}') for tenant in tenants)
    await store.settle([Settlement(None, None, (), (), written)])


def said(shelf: Shelf, tenant: str) -> list[Checkpoint]:
    keys = MemoryKeys()
    return [
        checkpoints.parse(record.value or b"", FLEET, keys.signing_key)
        for record in shelf.records
        if record.key == tenant.encode()
    ]


async def size(pool: Pool, tenant: str) -> int:
    return await value(pool, "SELECT count(*) FROM keyriver.log_entries WHERE tenant = $1", tenant)


async def test_leaves_become_entries_and_a_signed_checkpoint_that_continues_the_last(
    pool: Pool, store: PostgresStore, log: PostgresAuditLog, sequencer: Sequencer, shelf: Shelf
) -> None:
    acme, bank = fresh_name("acme"), fresh_name("bank")
    await settle(store, acme, bank, acme)
    assert await log.behind_s() > 0
    assert await sequencer.turn() == 3
    await settle(store, *[acme] * 1000)
    assert await sequencer.turn() == 1000
    first, second = said(shelf, acme)
    assert (first.size, second.size, second.previous_size) == (2, 1002, 2)
    check_consistency(2, first.root, 1002, second.root, second.consistency)
    (only,) = said(shelf, bank)
    assert (only.size, only.previous_size, only.consistency) == (1, 0, ())
    assert await log.behind_s() == 0
    assert await sequencer.turn() == 0
    assert len(shelf.records) == 3
    nodes = await log.nodes([Span(acme, 8, 0, 4), Span(acme, 0, 1000, 5), Span(fresh_name("no"), 0, 0, 9)])
    assert sorted(nodes) == [(acme, 0, 1000), (acme, 0, 1001), (acme, 8, 0), (acme, 8, 1), (acme, 8, 2)]
    report = await read_trail(pool, lambda trail: verify(trail, Hearing(FLEET, MemoryKeys().signing_key)))
    assert report.is_whole
    assert {one.tenant: one.accepted and one.accepted.size for one in report.verdicts}.items() >= {acme: 1002}.items()


async def test_a_leaf_that_commits_late_is_not_passed_over(
    pool: Pool, store: PostgresStore, sequencer: Sequencer, raw: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Its number is lower than those that were appended before it was visible."""
    acme = fresh_name("acme")
    async with raw.transaction():
        await raw.execute(LEAF, fresh_id(), acme)
        await settle(store, acme, acme)
        assert await sequencer.turn() == 2
    assert await sequencer.turn() == 1
    numbers = await pool.run(
        lambda connection: connection.fetch(
            "SELECT number FROM keyriver.log_entries WHERE tenant = $1 ORDER BY index", acme
        )
    )
    assert [row["number"] for row in numbers] != sorted(row["number"] for row in numbers)


async def test_even_one_that_is_late_by_a_long_queue_comes_in_time(
    pool: Pool, store: PostgresStore, sequencer: Sequencer, raw: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    acme = fresh_name("acme")
    async with raw.transaction():
        await raw.execute(LEAF, fresh_id(), acme)
        name = "keyriver.leaves_number_seq"
        await raw.execute("SELECT setval($1::text::regclass, nextval($1::text::regclass) + $2)", name, LATE)
        await settle(store, acme)
        assert await sequencer.turn() == 1
    found = 0
    for _ in range(25):
        found += await sequencer.turn()
    assert found == 1
    assert await size(pool, acme) == 2


async def test_what_is_rolled_back_leaves_no_hole(
    store: PostgresStore, sequencer: Sequencer, shelf: Shelf, raw: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    acme = fresh_name("acme")
    transaction = raw.transaction()
    await transaction.start()
    await raw.execute(LEAF, fresh_id(), acme)
    await transaction.rollback()
    await settle(store, acme)
    assert await sequencer.turn() == 1
    assert [one.size for one in said(shelf, acme)] == [1]


async def test_many_take_turns_and_each_leaf_is_appended_once(
    pool: Pool, store: PostgresStore, log: PostgresAuditLog, keys: MemoryKeys, sequencer: Sequencer
) -> None:
    """The lease goes from hand to hand in the middle of the work: it is given away all the time."""
    acme, shelf = fresh_name("acme"), Shelf()
    crowd = [sequencer, *(another(log, keys, shelf) for _ in range(4))]

    async def work(one: Sequencer) -> int:
        done = 0
        while await size(pool, acme) < 2000:
            done += await one.turn()
            await log.release(one.holder)
            await asyncio.sleep(0)
        return done

    writing = [settle(store, *[acme] * 100) for _ in range(20)]
    counts, _ = await asyncio.gather(asyncio.gather(*(work(one) for one in crowd)), asyncio.gather(*writing))
    assert sum(counts) == 2000
    assert await value(pool, "SELECT count(DISTINCT number) FROM keyriver.log_entries WHERE tenant = $1", acme) == 2000
    hearing = Hearing(FLEET, keys.signing_key)
    report = await read_trail(pool, lambda trail: verify(trail, hearing, acme))
    assert report.is_whole


async def test_who_lost_the_lease_writes_nothing(
    pool: Pool, store: PostgresStore, log: PostgresAuditLog, sequencer: Sequencer, keys: MemoryKeys, shelf: Shelf
) -> None:
    """It was frozen between reading and writing, and another took over."""
    acme = fresh_name("acme")
    epoch = await log.hold(sequencer.holder, LEASE_S)
    assert epoch is not None
    await settle(store, acme)
    (leaf,) = await log.waiting(0, 10)
    growth = audit.grow((await log.heads([acme]))[acme], [leaf])
    other = another(log, keys, shelf)
    assert await log.hold(other.holder, LEASE_S) is None
    await pool.run(lambda connection: connection.execute("UPDATE keyriver.sequencer SET until = now()"))
    assert await log.hold(other.holder, LEASE_S) == epoch + 1
    assert await log.hold(sequencer.holder, LEASE_S) is None
    assert not await log.append(epoch, [growth])
    assert await size(pool, acme) == 0
    assert await log.append(epoch + 1, [growth])
    (due,) = await log.due(10)
    made = audit.next_checkpoint(FLEET, due, ())
    assert not await log.checkpoint(epoch, [made])
    await log.release(other.holder)


async def test_without_the_token_or_the_topic_another_takes_over(
    store: PostgresStore, log: PostgresAuditLog, sequencer: Sequencer, keys: MemoryKeys, shelf: Shelf
) -> None:
    acme = fresh_name("acme")
    healthy = another(log, MemoryKeys(), Shelf())
    await settle(store, acme)
    keys.away = TokenUnavailable("away")
    with pytest.raises(TokenUnavailable):
        await sequencer.turn()
    assert await log.behind_s() > 0
    await healthy.turn()
    assert await log.behind_s() == 0
    await log.release(healthy.holder)
    keys.away, shelf.refuses = None, True
    await settle(store, acme)
    with pytest.raises(BusUnavailable, match="audit does not take checkpoints: no-topic"):
        await sequencer.turn()
    assert await log.behind_s() > 0
    await healthy.turn()
    assert await log.behind_s() == 0
    await log.release(healthy.holder)


async def test_the_fleet_never_signs_what_does_not_continue_what_it_signed(
    pool: Pool, store: PostgresStore, log: PostgresAuditLog, sequencer: Sequencer, shelf: Shelf
) -> None:
    """Somebody rewrote the head, a hash below it, or the last checkpoint; other tenants go on."""
    spoilt = [
        "UPDATE keyriver.logs SET frontier = overlay(frontier placing '\\x00' from 1) WHERE tenant = $1",
        "UPDATE keyriver.log_entries SET hash = sha256(hash) WHERE tenant = $1 AND index = 0",
        "UPDATE keyriver.checkpoints SET root = sha256(root) WHERE tenant = $1",
        "DELETE FROM keyriver.log_entries WHERE tenant = $1",
        "UPDATE keyriver.checkpoints SET size = 7 WHERE tenant = $1",
    ]
    victims = [fresh_name("v") for _ in spoilt]
    honest = fresh_name("acme")
    await settle(store, *victims, *victims, *victims, honest)
    assert await sequencer.turn() == 3 * len(spoilt) + 1
    for sql, victim in zip(spoilt, victims, strict=True):
        await pool.run(lambda connection, sql=sql, victim=victim: connection.execute(sql, victim))  # type: ignore[misc]
    await settle(store, *victims, honest)
    await sequencer.turn()
    assert [one.size for one in said(shelf, honest)] == [1, 2]
    for victim in victims:
        assert [one.size for one in said(shelf, victim)] == [3], victim
    assert await log.behind_s() > 0
    everything = "DELETE FROM keyriver.logs; DELETE FROM keyriver.checkpoints; DELETE FROM keyriver.log_entries"
    await pool.run(lambda connection: connection.execute(everything))


async def test_a_log_that_refuses_its_leaves_holds_no_other_back(
    pool: Pool, store: PostgresStore, sequencer: Sequencer, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody queued a leaf that was appended long ago; its tenant's log stands still until that is mended."""
    bad, honest = fresh_name("bad"), fresh_name("honest")
    await settle(store, bad)
    await sequencer.turn()
    again = "INSERT INTO keyriver.unsequenced SELECT number FROM keyriver.log_entries WHERE tenant = $1"
    await pool.run(lambda connection: connection.execute(again, bad))
    await settle(store, honest, bad)
    for count in (1, 0, 0):
        assert await sequencer.turn() == count
    assert (await size(pool, bad), await size(pool, honest)) == (1, 1)
    assert [record.levelname for record in caplog.records if bad in record.message] == ["CRITICAL"]
    mended = "DELETE FROM keyriver.unsequenced WHERE number IN (SELECT number FROM keyriver.log_entries)"
    await pool.run(lambda connection: connection.execute(mended))
    await sequencer.turn()
    assert await size(pool, bad) == 2


async def test_every_turn_reads_by_index(database: str, pool: Pool, store: PostgresStore, keys: MemoryKeys) -> None:
    """Leaves are millions: nothing that is done twice a second may walk over them."""
    for _ in range(3):
        await settle(store, *[fresh_name("acme") for _ in range(300)])
        await pool.run(lambda connection: connection.execute("ANALYZE"))
    async with telling(database) as (told, plans):
        log = PostgresAuditLog(told)
        sequencer = another(log, keys, Shelf())
        await pool.run(lambda connection: connection.execute("UPDATE keyriver.sequencer SET until = now()"))
        assert await sequencer.turn() == 900
        await settle(store, *[fresh_name("acme") for _ in range(5)])
        assert await log.behind_s() > 0
        assert await sequencer.turn() == 5
        await log.release(sequencer.holder)
        assert await log.nodes([Span("nobody", 0, 0, 9), Span("nobody", 8, 0, 9)]) == {}
    seen = plans.scans()
    names = {scan.get("Relation Name", "") for scan in seen}
    assert names >= {"unsequenced", "leaves", "logs", "checkpoints", "log_entries", "log_nodes"}
    for scan in seen:
        name = scan.get("Relation Name", "")
        assert scan["Node Type"] != "Seq Scan" or name == "sequencer", json.dumps(scan)
        if name in ("leaves", "log_entries", "log_nodes"):
            assert scan["Node Type"] == "ModifyTable" or "Index Cond" in scan, json.dumps(scan)


async def test_proofs_of_a_log_need_few_hashes(pool: Pool, store: PostgresStore, sequencer: Sequencer) -> None:
    acme = fresh_name("acme")
    for _ in range(5):
        await settle(store, *[acme] * 1000)
    while await sequencer.turn():
        pass
    spans = [Span(acme, *place) for place in tiles.needed(tiles.inclusion_path(2345, 5000))]
    assert sum(span.count for span in spans) < 600
    hearing = Hearing(FLEET, MemoryKeys().signing_key)
    proof = await read_trail(pool, lambda trail: prove(trail, hearing, acme, 2345))
    assert (proof.index, proof.checkpoint.size, len(proof.path)) == (2345, 5000, 13)
    check_inclusion(audit.hash_of(proof.leaf, 2345), 2345, 5000, proof.path, proof.checkpoint.root)
