"""Campaigns in the store, fake and real: leases, slices that settle alone, and what waits for whom under the lock."""

import asyncio
import json
import time
from dataclasses import dataclass, replace
from datetime import timedelta

import asyncpg
import pytest

from tests.contract.test_store_postgres import telling
from tests.unit.store import fixtures
from tests.unit.store.builders import MAC, Chain, command, deks_of, fresh_id, version_row, wrap
from tests.unit.store.rooms import Room, until_waiting, value
from worker.chain.campaigns import new_campaign
from worker.edges.store.campaigns import PostgresSlices
from worker.edges.store.chores import prune_slices
from worker.edges.store.fake import FakeStore
from worker.edges.store.pool import Pool
from worker.edges.store.store import PostgresStore
from worker.flow.slices import Slices
from worker.model.campaigns import Campaign, CampaignKind, CampaignState, Failure, Lease, Leased, Slice
from worker.model.effects import Count, Effect, FinishSlice, Moved, MoveDeks, PutRow, Seen, Settled, Settlement, Vacant
from worker.model.facts import Paging, Question
from worker.model.rows import Dek, State

fake = fixtures.fake
founded = fixtures.founded
acme = fixtures.acme
pool = fixtures.pool
raw = fixtures.raw
real = fixtures.real
room = fixtures.room
store = fixtures.store


@dataclass
class Ground:
    """A campaign from version 1 of a service key, and its DEKs in the order of their ids."""

    room: Room
    slices: Slices
    chain: Chain
    campaign: Campaign
    deks: list[Dek]

    async def lease(self, size: int = 4, seconds: float = 60.0) -> Lease:
        return await self.slices.lease(self.campaign, of_deks=True, holder="h", seconds=seconds, size=size)

    async def got(self, size: int = 4, seconds: float = 60.0) -> Slice:
        found = (await self.lease(size, seconds)).slice
        assert found is not None
        return found

    async def settle(self, *effects: Effect, seen: tuple[Seen, ...] = ()) -> bool:
        (done,) = await self.room.store.settle([Settlement(None, None, seen, (), effects)])
        assert done in (Settled(), Moved())
        return done == Settled()

    def moving(self, deks: list[Dek], held: Slice, *failures: Failure) -> tuple[Effect, ...]:
        ids = tuple(one.id for one in deks)
        move = MoveDeks(2, ids, tuple(one.blob for one in deks), tuple(b"2" + one.blob for one in deks))
        counts = [Count(self.chain.kek.id, 1, -len(deks)), Count(self.chain.kek.id, 2, len(deks))] if deks else []
        return (move, FinishSlice(held, len(deks), b"digest", failures, ids), *counts)


async def laid(room: Room, slices: Slices, chain: Chain, items: int = 10) -> Ground:
    made = wrap(chain, items=items)
    version = version_row(chain.kek, 2)
    campaign = replace(
        new_campaign(chain.kek, chain.versions[2], 2, CampaignKind.SHALLOW, "ann", 5),
        state=CampaignState.RUNNING,
        round=1,
    )
    assert await room.store.settle([made, command(version, campaign)]) == [Settled()] * 2
    return Ground(room, slices, chain, campaign, sorted(deks_of(made), key=lambda one: one.id))


@pytest.fixture
async def ground(room: Room, founded: Chain, request: pytest.FixtureRequest) -> Ground:
    if isinstance(room.store, FakeStore):
        return await laid(room, room.store.slices, founded)
    return await laid(room, PostgresSlices(request.getfixturevalue("pool")), founded)


class TestLeases:
    async def test_a_round_is_carved_leased_and_over(self, ground: Ground) -> None:
        held = [await ground.got() for _ in range(3)]
        assert [(one.number, one.epoch) for one in held] == [(0, 1), (1, 1), (2, 1)]
        rows = [await ground.slices.deks(one, ground.chain.kek.id, 1) for one in held]
        assert [dek for some in rows for dek in some] == ground.deks
        assert [len(some) for some in rows] == [4, 4, 2]
        assert (await ground.lease()).leased is Leased.WAIT  # others are at work
        for one, some in zip(held, rows, strict=True):
            assert await ground.settle(*ground.moving(some, one))
        assert (await ground.lease()).leased is Leased.OVER
        assert await ground.room.look.stored(ground.chain.kek.id, 1) == (0, 0)
        assert await ground.room.look.stored(ground.chain.kek.id, 2) == (10, 0)

    async def test_a_lease_that_ran_out_is_taken_over_and_the_late_one_leaves_nothing(self, ground: Ground) -> None:
        late = await ground.got(seconds=-1)
        again = await ground.got()
        assert (again.number, again.epoch, again.after, again.upto) == (0, 2, late.after, late.upto)
        rows = ground.deks[:4]
        assert not await ground.settle(*ground.moving(rows, late))
        assert await ground.settle(*ground.moving(rows, again))
        assert not await ground.settle(*ground.moving([], again))  # done once
        assert await ground.room.look.stored(ground.chain.kek.id, 2) == (4, 0)

    async def test_what_is_given_back_goes_to_the_next_but_not_another_ones(self, ground: Ground) -> None:
        first = await ground.got()
        await ground.slices.release(first)
        second = await ground.got()
        assert (second.number, second.epoch) == (0, 2)
        await ground.slices.release(first)  # it is not his any more
        assert (await ground.got()).number == 1

    async def test_a_throttle_lets_one_slice_go_at_a_time(self, ground: Ground) -> None:
        ground.campaign = replace(ground.campaign, items_s=1)  # a slice of four in four seconds
        assert (await ground.lease()).leased is Leased.SLICE
        assert (await ground.lease()).leased is Leased.WAIT

    async def test_who_is_at_work(self, ground: Ground) -> None:
        assert (ground.chain.tenant.id, ground.campaign.id) in await ground.slices.at_work()
        part = replace(ground.campaign, id=fresh_id(), parent=ground.campaign.id, state=CampaignState.PLANNED)
        assert await ground.settle(PutRow(part, 1, MAC))
        assert part.id not in {id_ for _, id_ in await ground.slices.at_work()}
        assert await ground.slices.below(ground.campaign.id) == [part.id]

    async def test_keys_are_carved_by_their_ids(self, ground: Ground) -> None:
        upper = replace(ground.campaign, id=fresh_id(), key=ground.chain.keys[1].id)
        lease = await ground.slices.lease(upper, of_deks=False, holder="h", seconds=60, size=5)
        assert lease.slice is not None
        assert await ground.slices.versions(lease.slice, upper.key, 1) == [
            (ground.chain.kek.id, 1),
            (ground.chain.kek.id, 2),
        ]
        left = await ground.slices.leftovers(upper, of_deks=False)
        assert (left.rows, left.failed, left.last) == (2, 0, ground.chain.kek.id)


class TestSlices:
    async def test_a_row_that_has_changed_undoes_the_whole_slice(self, ground: Ground) -> None:
        held = await ground.got()
        rows = [*ground.deks[:3], replace(ground.deks[3], blob=b"another")]
        assert not await ground.settle(*ground.moving(rows, held))
        assert {dek.version for dek in (await ground.room.deks(*(one.id for one in rows))).values()} == {1}
        assert await ground.room.look.stored(ground.chain.kek.id, 1) == (10, 0)
        assert await ground.settle(*ground.moving(ground.deks[:4], held))

    async def test_a_campaign_that_was_stopped_leaves_nothing(self, ground: Ground) -> None:
        held = await ground.got()
        stopped = replace(ground.campaign, state=CampaignState.PAUSED, revision=2)
        assert await ground.settle(PutRow(stopped, 1, MAC))
        rests = (Seen(ground.campaign.ref, 1),)
        assert not await ground.settle(*ground.moving(ground.deks[:4], held), seen=rests)

    async def test_failures_are_those_of_the_last_look(self, ground: Ground) -> None:
        bad = [Failure(str(one.id), "INTEGRITY") for one in ground.deks[:3]]
        held = await ground.got(size=5)
        assert await ground.settle(*ground.moving(ground.deks[3:5], held, *bad))
        left = await ground.slices.leftovers(ground.campaign, of_deks=True)
        assert (left.rows, left.failed, left.last) == (8, 3, ground.deks[-1].id)
        assert left.first < ground.deks[5].id
        ground.campaign = replace(ground.campaign, round=2)
        again = await ground.got(size=5)
        assert await ground.settle(*ground.moving(ground.deks[:2], again, bad[2]))
        page = Paging(str(ground.campaign.id), "", 5)
        answer = await ground.room.store.know(
            Question(failures=frozenset({page}), exposed=frozenset({page}), progress=frozenset({ground.campaign.id}))
        )
        assert [(one.item, one.code) for one in answer.failures[page]] == [(bad[2].item, "INTEGRITY")]
        assert [one.place for one in answer.exposed[page]] == ["1/0", "2/0"]
        assert {dek for one in answer.exposed[page] for dek in one.deks} == {
            one.id for one in ground.deks[:2] + ground.deks[3:5]
        }
        progress = answer.progress[ground.campaign.id]
        assert (progress.failed, progress.slices, progress.moved) == (1, 2, 4)
        assert (await ground.slices.progress(ground.campaign.id)).moved == 4
        assert await ground.slices.digests(ground.campaign.id) == [b"digest"] * 2
        later = replace(page, after="1/0")
        more = await ground.room.store.know(Question(exposed=frozenset({later})))
        assert [one.place for one in more.exposed[later]] == ["2/0"]

    async def test_a_row_that_is_relabelled_is_found_by_its_blob(self, ground: Ground) -> None:
        """Bytes 21 to 24 of a blob are its version's; whoever changes the column alone hides nothing."""
        marked = replace(ground.deks[0], blob=b"h" * 20 + (1).to_bytes(4, "big") + b"t" * 60)
        held = await ground.got(size=1)
        move = MoveDeks(2, (marked.id,), (ground.deks[0].blob,), (marked.blob,))
        assert await ground.settle(move, FinishSlice(held, 1, b""))
        assert (await ground.slices.leftovers(ground.campaign, of_deks=True)).rows == 10
        ground.campaign = replace(ground.campaign, round=2)
        found = await ground.slices.deks(await ground.got(size=1), ground.chain.kek.id, 1)
        assert [(one.id, one.version) for one in found] == [(marked.id, 2)]

    async def test_what_is_settled_alone_is_in_no_batch(self, ground: Ground) -> None:
        if isinstance(ground.room.store, PostgresStore):
            alone = Settlement(None, None, (), (), (Vacant(ground.chain.kek.id, 1),))
            with pytest.raises(ValueError, match="alone"):
                await ground.room.store.settle([alone, alone])

    async def test_a_version_is_vacant_when_nothing_is_left(self, ground: Ground) -> None:
        kek, upper = ground.chain.kek, ground.chain.keys[1]
        assert not await ground.settle(Vacant(kek.id, 1))
        assert await ground.settle(*ground.moving(ground.deks, await ground.got(size=20)))
        assert await ground.settle(Vacant(kek.id, 1))
        assert not await ground.settle(Vacant(upper.id, 1))
        assert not await ground.settle(Vacant(upper.id, 1, retired_only=True))
        for number in (1, 2):
            row = replace(version_row(kek, number), retired_ms=9, revision=2)
            assert await ground.settle(PutRow(row, 1, MAC))
        assert await ground.settle(Vacant(upper.id, 1, retired_only=True))
        assert not await ground.settle(Vacant(upper.id, 1))


class TestUnderTheLock:
    """D2: state changes lock before they count; what was decided before them is seen, or decided anew."""

    async def test_a_late_wrap_is_counted_or_done_again(
        self, real: Room, pool: Pool, acme: Chain, raw: "asyncpg.Connection[asyncpg.Record]"
    ) -> None:
        ground = await laid(real, PostgresSlices(pool), acme, items=1)
        assert await ground.settle(*ground.moving(ground.deks, await ground.got()))
        old = acme.versions[2]
        retired = replace(old, retired_ms=7, revision=2)
        retires = Settlement(
            None, None, (Seen(old.ref, 1),), (old.ref,), (PutRow(retired, 1, MAC), Vacant(acme.kek.id, 1))
        )
        # A wrap under the old version has its locks and is about to commit: the retirement waits, and then counts it
        async with raw.transaction():
            sql = "SELECT FROM keyriver.versions WHERE key = $1 AND number = 1 FOR SHARE"
            await raw.execute(sql, acme.kek.id)
            late = Dek(fresh_id(), acme.kek.id, 1, b"late")
            await raw.execute("INSERT INTO keyriver.deks VALUES ($1, $2, 1, $3)", late.id, late.key, late.blob)
            await raw.execute("INSERT INTO keyriver.census VALUES ($1, 1, 1, 0)", acme.kek.id)
            waiting = asyncio.create_task(real.store.settle([retires]))
            await until_waiting(raw, 1)
        assert await waiting == [Moved()]
        # It is moved; the retirement goes first this time, and a wrap that was decided before it is decided anew
        ground.campaign = replace(ground.campaign, round=2)
        assert await ground.settle(*ground.moving([late], await ground.got(size=9)))
        assert await real.store.settle([retires]) == [Settled()]
        assert await real.store.settle([wrap(acme)]) == [Moved()]

    async def test_an_empty_version_is_retired_before_a_wrap_that_waits(
        self, real: Room, pool: Pool, acme: Chain, raw: "asyncpg.Connection[asyncpg.Record]"
    ) -> None:
        """The other order: the wrap waits for the retirement's lock, and meets the row as it is then."""
        async with raw.transaction():
            name = "key = $1 AND number = 1"
            await raw.execute(f"SELECT FROM keyriver.versions WHERE {name} FOR UPDATE", acme.kek.id)
            waiting = asyncio.create_task(real.store.settle([wrap(acme)]))
            await until_waiting(raw, 1)
            await raw.execute(f"UPDATE keyriver.versions SET revision = 2 WHERE {name}", acme.kek.id)  # noqa: S608
        assert await waiting == [Moved()]
        assert await value(pool, "SELECT count(*) FROM keyriver.deks WHERE key = $1", acme.kek.id) == 0


class TestSpeed:
    @pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
    async def test_slices_are_read_and_moved_by_index(
        self, database: str, pool: Pool, real: Room, acme: Chain, filled: bool
    ) -> None:
        if filled:
            await real.store.settle([wrap(acme, items=40) for _ in range(100)])
            await pool.run(lambda connection: connection.execute("ANALYZE"))
        ground = await laid(real, PostgresSlices(pool), acme)
        async with telling(database) as (told_pool, plans):
            ground.slices = PostgresSlices(told_pool)
            held = await ground.got()
            rows = await ground.slices.deks(held, acme.kek.id, 1)
            told = PostgresStore(told_pool)
            effects = ground.moving(rows, held)
            assert await told.settle([Settlement(None, None, (), (), effects)]) == [Settled()]
            await ground.slices.leftovers(ground.campaign, of_deks=True)
        seen = [one for one in plans.scans() if one.get("Index Name", one.get("Relation Name", "")).startswith("deks")]
        seen = [scan for scan in seen if scan["Node Type"] not in ("ModifyTable", "Bitmap Heap Scan")]
        assert seen
        for scan in seen:
            assert scan["Node Type"] in ("Index Scan", "Index Only Scan", "Bitmap Index Scan"), json.dumps(scan)
            assert "Index Cond" in scan, json.dumps(scan)
        by_key = {scan["Index Name"] for scan in seen if "ROW(" in scan["Index Cond"]}
        assert len(by_key) == 16  # one index of each partition
        assert all("key_id" in name for name in by_key)

    async def test_moves_stay_hot(self, pool: Pool, real: Room, acme: Chain) -> None:
        before = await self._updates(pool, "n_tup_upd"), await self._updates(pool, "n_tup_hot_upd")
        ground = await laid(real, PostgresSlices(pool), acme, items=300)
        assert await ground.settle(*ground.moving(ground.deks, await ground.got(size=500)))
        async with asyncio.timeout(60):
            while await self._updates(pool, "n_tup_upd") - before[0] < 300:  # the server tells its statistics late
                await pool.run(lambda connection: connection.execute("SELECT pg_stat_force_next_flush()"))
        # Each page has room for all its rows again; those of other tests may have left less.
        assert await self._updates(pool, "n_tup_hot_upd") - before[1] > 280

    @staticmethod
    async def _updates(pool: Pool, what: str) -> int:
        sql = f"SELECT coalesce(sum({what}), 0)::int FROM pg_stat_all_tables WHERE relname LIKE 'deks\\___'"  # noqa: S608
        return await value(pool, sql)

    async def test_no_index_contains_the_version(self, pool: Pool) -> None:
        sql = (
            "SELECT count(*) FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid"
            " AND a.attnum = ANY (i.indkey) WHERE i.indrelid = 'keyriver.deks'::regclass AND a.attname = 'version'"
        )
        assert await value(pool, sql) == 0


class TestPruning:
    """The table is bounded, and nothing that somebody asks for is lost."""

    async def test_slices_of_a_done_campaign_go_and_their_sums_stay(self, pool: Pool, real: Room, acme: Chain) -> None:
        ground = await laid(real, PostgresSlices(pool), acme)
        for some in (ground.deks[:4], ground.deks[4:8], ground.deks[8:]):
            assert await ground.settle(*ground.moving(some, await ground.got()))
        before = await ground.slices.progress(ground.campaign.id)
        window = timedelta(days=1)
        stages = (
            (CampaignState.RUNNING, 0, False, 3),
            (CampaignState.FAILED, 1, False, 3),
            (CampaignState.CANCELLED, 1, False, 3),
            (CampaignState.DONE, time.time_ns() // 10**6, False, 3),  # not long ago
            (CampaignState.DONE, 1, True, 3),
            (CampaignState.DONE, 1, False, 0),
        )
        for revision, (state, ended_ms, compromised, left) in enumerate(stages, 2):
            row = replace(ground.campaign, state=state, ended_ms=ended_ms, compromised=compromised)
            changed = replace(row, revision=revision)
            assert await ground.settle(PutRow(changed, 1, MAC))
            await prune_slices(pool, window, chunk=2)
            sql = "SELECT count(*) FROM keyriver.campaign_slices WHERE campaign = $1"
            assert await value(pool, sql, ground.campaign.id) == left, (state, compromised)
        after = await ground.slices.progress(ground.campaign.id)
        assert (after.slices, after.moved, after.failed) == (before.slices, before.moved, 0) == (3, 10, 0)
        assert await prune_slices(pool, window) == 0

    async def test_what_was_exposed_stays_when_the_version_is_known_to_others_later(
        self, pool: Pool, real: Room, acme: Chain
    ) -> None:
        ground = await laid(real, PostgresSlices(pool), acme)
        assert await ground.settle(*ground.moving(ground.deks, await ground.got(size=20)))
        old = replace(acme.versions[2], state=State.COMPROMISED, revision=2)
        done = replace(ground.campaign, state=CampaignState.DONE, ended_ms=1, revision=2)
        assert await ground.settle(PutRow(old, 1, MAC), PutRow(done, 1, MAC))
        assert await prune_slices(pool, timedelta(days=1)) == 0
        page = Paging(str(done.id), "", 5)
        answer = await real.store.know(Question(exposed=frozenset({page})))
        assert len(answer.exposed[page][0].deks) == 10
