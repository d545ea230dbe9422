"""Rules, grants and quotas in the store, asked of the fake and of Postgres alike; how quotas refill."""

import asyncio
import json
import time
from dataclasses import replace
from uuid import UUID

import pytest

from tests.contract.test_store_postgres import telling
from tests.unit.store import fixtures
from tests.unit.store.builders import Chain, command, fresh_id, fresh_name
from tests.unit.store.rooms import Room
from worker.edges.store.fake import FakeStore
from worker.edges.store.pool import Pool
from worker.edges.store.quotas import PostgresQuotaLeases
from worker.edges.store.store import PostgresStore
from worker.flow.quotas import QuotaLeases
from worker.model.effects import Moved, Seen, Settled, Settlement
from worker.model.facts import Question, RowPage
from worker.model.quotas import Lease, Quota, Want
from worker.model.rows import Grant, Row, Rule, Suite, Table

fake = fixtures.fake
founded = fixtures.founded
pool = fixtures.pool
real = fixtures.real
acme = fixtures.acme
room = fixtures.room
FAR_MS = 2_000_000_000_000


def rule(client: str, tenant: str = "acme") -> Rule:
    may, keys, suite = ("unwrap", "wrap"), ("x,{}\"'",), Suite.MLKEM768_X25519
    return Rule(fresh_id(), tenant, client, may, "a/*", "eu", FAR_MS, keys, suite, "why", "a+b", 1, False, 1)


def grant(client: str, tenant: str = "acme") -> Grant:
    return Grant(fresh_id(), tenant, client, UUID(int=5), 2, ("unwrap",), "why", "a+b", 1, FAR_MS, False, 1)


def quota(per_second: int, burst: int, name: str | None = None) -> Quota:
    return Quota(name or fresh_name("tenant"), "acme", "", per_second, burst, "", "ann", 1)


async def put(room: Room, *rows: Row) -> None:
    assert await room.store.settle([command(*rows)]) == [Settled()]


async def test_a_clients_licences_in_force_come_with_it_and_nobody_elses(room: Room) -> None:
    mine, other = fresh_name("client"), fresh_name("client")
    in_force: list[Row] = [rule(mine), replace(rule(mine), minimum_suite=None, context_keys=()), grant(mine)]
    over: list[Row] = [replace(rule(mine), revoked=True), replace(rule(mine), not_after_ms=1_700_000_000_000)]
    over_grants: list[Row] = [replace(grant(mine), revoked=True), replace(grant(mine), not_after_ms=1_700_000_000_000)]
    theirs: list[Row] = [rule(other), grant(other)]
    await put(room, *in_force, *over, *over_grants, *theirs)
    answer = await room.store.know(Question(licences=frozenset({mine, "nobody"})))
    assert {stored.row for stored in answer.rows} == set(in_force)
    both = await room.store.know(Question(licences=frozenset({mine, other})))
    assert {stored.row for stored in both.rows} == {*in_force, *theirs}
    assert not (await room.store.know(Question(clients=frozenset({mine})))).rows


async def test_quotas_come_by_their_ids(room: Room) -> None:
    tenants, clients = quota(10, 20), replace(quota(1, 1, fresh_name("tenant") + "/billing"), client="billing")
    await put(room, tenants, clients)
    answer = await room.store.know(Question(quotas=frozenset({tenants.id, clients.id, "nobody"})))
    assert {stored.row for stored in answer.rows} == {tenants, clients}


async def test_a_tenants_licences_are_paged(room: Room, founded: Chain) -> None:
    tenant = founded.tenant.id
    rules = sorted((rule("c", tenant) for _ in range(3)), key=lambda row: row.id)
    await put(room, *rules, rule("c", "another"))
    page = RowPage(Table.RULES, tenant, "", 2)
    answer = await room.store.know(Question(pages=frozenset({page})))
    assert answer.pages[page] == (rules[0].ref, rules[1].ref)
    rest = RowPage(Table.RULES, tenant, str(rules[1].id), 2)
    assert (await room.store.know(Question(pages=frozenset({rest})))).pages[rest] == (rules[2].ref,)


@pytest.mark.parametrize("row", [rule("c"), grant("c"), quota(1, 1)], ids=["rule", "grant", "quota"])
async def test_what_rests_on_a_licence_is_not_settled_once_it_is_taken_back(room: Room, row: Row) -> None:
    await put(room, row)
    resting = Settlement(None, None, (Seen(row.ref, 1),), (), ())
    assert await room.store.settle([resting]) == [Settled()]
    changed = replace(row, revision=2)
    assert await room.store.settle([command(changed, seen=(Seen(row.ref, 1),), changes=(row.ref,))]) == [Settled()]
    assert await room.store.settle([resting]) == [Moved()]


async def test_the_licences_are_read_by_index(database: str, pool: Pool, acme: Chain) -> None:
    store = PostgresStore(pool)
    for _ in range(20):
        await store.settle([command(*[rule(fresh_name("c")) for _ in range(50)], *[grant(fresh_name("c"))] * 1)])
    await store.settle([command(*[quota(1, 1) for _ in range(500)])])
    await pool.run(lambda connection: connection.execute("ANALYZE"))
    question = Question(licences=frozenset({acme.client.id}), quotas=frozenset({acme.tenant.id}))
    async with telling(database) as (told_pool, plans):
        await PostgresStore(told_pool).know(question)
    told = {scan.get("Relation Name", ""): scan for scan in plans.scans()}
    for table in ("rules", "grants", "quotas"):
        assert told[table]["Node Type"] in ("Index Scan", "Index Only Scan", "Bitmap Heap Scan"), json.dumps(
            told[table]
        )


# Leases of quotas.


@pytest.fixture(params=["fake", "real"])
def leases(request: pytest.FixtureRequest) -> QuotaLeases:
    if request.param == "fake":
        return FakeStore()
    return PostgresQuotaLeases(request.getfixturevalue("pool"))


async def lease(leases: QuotaLeases, one: Quota, need: int, want: int | None = None) -> Lease:
    (got,) = await leases.lease_quotas([Want(one, need, need if want is None else want)])
    return got


async def test_a_rested_quota_gives_its_burst_and_then_says_when(leases: QuotaLeases) -> None:
    one = quota(1, 10)
    begun = time.monotonic()
    assert await lease(leases, one, 1, 4) == Lease(4, 0)
    rest = await lease(leases, one, 1, 100)
    nothing = await lease(leases, one, 1)
    refilled = time.monotonic() - begun + 1
    assert 6 <= rest.granted <= 6 + refilled
    assert nothing.granted <= refilled
    assert nothing.wait_ms == 0 or 0 < nothing.wait_ms <= 1000


async def test_no_request_is_too_large_but_it_is_paid_for(leases: QuotaLeases) -> None:
    one = quota(10, 10)
    got = await lease(leases, one, 1000)
    assert got.granted == 1000
    assert 95_000 < got.wait_ms <= 99_100
    after = await lease(leases, one, 1)
    assert after.granted == 0
    assert 0 < after.wait_ms <= got.wait_ms


async def test_it_refills_with_time_and_not_beyond_its_burst(leases: QuotaLeases) -> None:
    one = quota(1000, 50)
    assert (await lease(leases, one, 1, 50)).granted == 50
    got = 0
    while got < 100:
        await asyncio.sleep(0.01)
        now = (await lease(leases, one, 1, 1000)).granted
        assert now <= 50
        got += now


async def test_workers_share_one_quota(leases: QuotaLeases) -> None:
    one = quota(1, 20)
    begun = time.monotonic()
    got = await asyncio.gather(*(lease(leases, one, 1, 5) for _ in range(16)))
    passed = time.monotonic() - begun
    assert 20 <= sum(each.granted for each in got) <= 21 + passed


async def test_several_quotas_in_one_question_and_in_its_order(leases: QuotaLeases) -> None:
    full, empty = quota(1, 7, fresh_name("b")), quota(1, 7, fresh_name("a"))
    await lease(leases, empty, 100)
    first, second = await leases.lease_quotas([Want(full, 1, 7), Want(empty, 1, 7)])
    assert (first.granted, second.granted) == (7, 0)
    assert second.wait_ms > 0


async def test_a_quota_that_grows_is_not_in_debt_for_what_it_was(leases: QuotaLeases) -> None:
    """The debt is time: at a hundred times the rate it is paid in the same seconds, and no sooner refused."""
    small = quota(1, 5)
    await lease(leases, small, 5)
    grown = replace(small, per_second=1000, burst=1000, revision=2)
    granted = 0
    async with asyncio.timeout(60):
        while granted == 0:
            granted = (await lease(leases, grown, 1, 10)).granted
