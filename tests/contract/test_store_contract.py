"""What the ports Store, Leases, Outbox and Attempts promise, asked of the fake and of Postgres alike."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import pytest

from tests.unit.store.builders import (
    MAC,
    Chain,
    bumped,
    chain,
    client_row,
    command,
    dek,
    deks_of,
    entry_of,
    fresh_id,
    fresh_name,
    intake_row,
    version_row,
    wrap,
)
from tests.unit.store.rooms import Room, fake_room, migrated, postgres_room
from worker.model.effects import Announce, Count, LedgerEntry, Lost, Moved, MoveDek, Seen, Settled, Settlement
from worker.model.facts import Paging, Question, StoredRow
from worker.model.records import Partition
from worker.model.rows import Key, Row, RowRef, Suite, Version


@pytest.fixture(scope="module")
def fake() -> Room:
    return fake_room()


@pytest.fixture(scope="module")
async def postgres(database: str) -> AsyncIterator[Room]:
    async with migrated(database) as pool:
        yield postgres_room(pool)


@pytest.fixture(scope="module", params=["fake", "postgres"])
def room(request: pytest.FixtureRequest) -> Room:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Room)
    return found


@pytest.fixture
async def acme(room: Room) -> Chain:
    made = chain()
    assert await room.store.settle([command(*made.rows)]) == [Settled()]
    return made


def refs(rows: tuple[StoredRow, ...]) -> set[RowRef]:
    assert len({stored.row.ref for stored in rows}) == len(rows), "a row is told once"
    return {stored.row.ref for stored in rows}


def with_open(entry: LedgerEntry, *outcomes: bytes | None) -> LedgerEntry:
    return replace(entry, outcomes=outcomes)


class TestKnow:
    async def test_an_alias_leads_to_the_whole_chain(self, room: Room, acme: Chain) -> None:
        answer = await room.store.know(Question(aliases=frozenset({acme.alias.name})))
        assert refs(answer.rows) == {row.ref for row in (*acme.keys, *acme.versions, acme.alias)}

    async def test_rows_come_back_as_they_were_put(self, room: Room) -> None:
        made = chain()
        full = replace(client_row(made.tenant.id), recipient_suite=Suite.P256, reply_topics=("a", "b,{}\"'\\"))
        intake = intake_row()
        rows: set[Row] = {*made.rows, full, intake}
        assert await room.store.settle([command(*rows)]) == [Settled()]
        answer = await room.store.know(
            Question(
                tenants=frozenset({made.tenant.id}),
                clients=frozenset({full.id, made.client.id}),
                keys=frozenset({made.kek.id}),
                intake_keys=frozenset({intake.sequence}),
            )
        )
        assert {stored.row for stored in answer.rows} == rows
        assert {(stored.mac_version, stored.mac) for stored in answer.rows} == {(1, MAC)}

    async def test_a_version_leads_to_what_wrapped_it_and_to_the_active_ones(self, room: Room, acme: Chain) -> None:
        parent = bumped(acme.keys[1])
        kek = bumped(acme.kek)
        newer = version_row(parent, 2)
        newest = version_row(kek, 2, parent_version=2)
        assert await room.store.settle([command(parent, newer, kek, newest)]) == [Settled()]
        old = await room.store.know(Question(versions=frozenset({(kek.id, 1)})))
        both = {row.ref for row in (*acme.versions, newer, newest)}
        assert {ref for ref in refs(old.rows) if ref.table == "versions"} == both
        new = await room.store.know(Question(keys=frozenset({kek.id})))
        assert acme.versions[2].ref not in refs(new.rows)
        tree = await room.store.know(Question(trees=frozenset({kek.id})))
        assert {ref for ref in refs(tree.rows) if ref.table == "versions"} == both

    async def test_a_dek_leads_to_its_key_and_version(self, room: Room, acme: Chain) -> None:
        first = wrap(acme, items=2)
        kek = bumped(acme.kek)
        assert await room.store.settle([first, command(kek, version_row(kek, 2))]) == [Settled(), Settled()]
        (one, other) = deks_of(first)
        answer = await room.store.know(Question(deks=frozenset({one.id, fresh_id()})))
        assert answer.deks == {one.id: one}
        assert {f"{kek.id}/1", f"{kek.id}/2"} <= {ref.key for ref in refs(answer.rows)}
        assert await room.deks(one.id, other.id) == {one.id: one, other.id: other}

    async def test_what_is_not_there_is_not_told(self, room: Room) -> None:
        answer = await room.store.know(
            Question(
                ledger=frozenset({chain().request()}),
                clients=frozenset({"nobody"}),
                tenants=frozenset({"nowhere"}),
                aliases=frozenset({"no/name"}),
                keys=frozenset({fresh_id()}),
                versions=frozenset({(fresh_id(), 3)}),
                deks=frozenset({fresh_id()}),
                trees=frozenset({fresh_id()}),
                intake_keys=frozenset({-1}),
            )
        )
        assert (answer.ledger, answer.rows, answer.deks) == ({}, (), {})
        assert answer.now_ms > 1_700_000_000_000

    @pytest.mark.parametrize("hostile", ["a\0b", "\ud800", "\0"])
    async def test_text_that_no_store_holds_harms_no_neighbour(self, room: Room, acme: Chain, hostile: str) -> None:
        question = Question(
            ledger=frozenset({acme.request(hostile)}),
            clients=frozenset({hostile, acme.client.id}),
            tenants=frozenset({hostile}),
            aliases=frozenset({hostile}),
            key_pages=frozenset({Paging(hostile, "", 1)}),
            client_pages=frozenset({Paging(acme.tenant.id, hostile, 1)}),
        )
        answer = await room.store.know(question)
        assert refs(answer.rows) >= {acme.client.ref}

    async def test_pages_go_on_where_the_last_one_ended(self, room: Room, acme: Chain) -> None:
        ids = sorted(key.id for key in acme.keys)
        first = Paging(acme.tenant.id, "", 2)
        second = Paging(acme.tenant.id, str(ids[1]), 2)
        bad = Paging(acme.tenant.id, "not an id", 2)
        people = Paging(acme.tenant.id, "", 5)
        answer = await room.store.know(
            Question(key_pages=frozenset({first, second, bad}), client_pages=frozenset({people}))
        )
        assert answer.key_pages == {first: tuple(ids[:2]), second: tuple(ids[2:]), bad: ()}
        assert answer.client_pages == {people: (acme.client.id,)}
        assert {row.ref for row in (*acme.keys, acme.client)} <= refs(answer.rows)

    async def test_a_tampered_row_is_told_as_it_stands(self, room: Room, acme: Chain) -> None:
        await room.look.tamper(acme.tenant.id)
        answer = await room.store.know(Question(tenants=frozenset({acme.tenant.id})))
        assert answer.rows == (StoredRow(replace(acme.tenant, layers=9), 1, MAC),)


class TestLedger:
    async def test_a_request_takes_effect_once(self, room: Room, acme: Chain) -> None:
        first, again = wrap(acme, "once", 2), wrap(acme, "once", 2)
        assert await room.store.settle([first]) == [Settled()]
        assert await room.store.settle([wrap(acme), again]) == [Settled(), Lost(entry_of(first))]
        answer = await room.store.know(Question(ledger=frozenset({entry_of(first).key})))
        assert answer.ledger == {entry_of(first).key: entry_of(first)}
        assert await room.deks(*(one.id for one in deks_of(again))) == {}
        assert await room.look.stored(acme.kek.id, 1) == (3, 0)
        assert await room.look.leaves(acme.tenant.id) == 2

    async def test_twice_in_one_batch_is_once(self, room: Room, acme: Chain) -> None:
        first, again = wrap(acme, "twin"), wrap(acme, "twin")
        assert await room.store.settle([first, again]) == [Settled(), Lost(entry_of(first))]
        assert await room.store.settle([again, again]) == [Lost(entry_of(first))] * 2
        assert await room.look.stored(acme.kek.id, 1) == (1, 0)

    async def test_a_twin_of_a_moved_request_is_moved(self, room: Room, acme: Chain) -> None:
        stale = replace(wrap(acme, "stale"), seen=(Seen(acme.kek.ref, 7),))
        assert await room.store.settle([stale, wrap(acme, "stale")]) == [Moved(), Moved()]
        assert (await room.store.know(Question(ledger=frozenset({acme.request("stale")})))).ledger == {}

    async def test_what_is_not_ledgered_is_written_each_time(self, room: Room, acme: Chain) -> None:
        unwrap = replace(wrap(acme), ledger=None, effects=(wrap(acme).effects[2],))
        assert await room.store.settle([unwrap, unwrap]) == [Settled(), Settled()]
        assert await room.look.leaves(acme.tenant.id) == 2

    async def test_open_items_are_filled_later(self, room: Room, acme: Chain) -> None:
        whole = wrap(acme, "later", 2)
        half = with_open(entry_of(whole), b"one", None)
        assert await room.store.settle([Settlement(half, None, acme.seen, (), ())]) == [Settled()]
        assert await room.store.settle([whole]) == [Lost(half)]
        fill = replace(whole, opened=half)
        assert await room.store.settle([fill, wrap(acme)]) == [Settled(), Settled()]
        stored = (await room.store.know(Question(ledger=frozenset({half.key})))).ledger[half.key]
        assert stored.outcomes == entry_of(whole).outcomes
        assert await room.store.settle([fill]) == [Lost(stored)]
        assert await room.look.stored(acme.kek.id, 1) == (3, 0)

    async def test_filling_an_entry_that_is_gone_goes_back_to_know(self, room: Room, acme: Chain) -> None:
        never = wrap(acme)
        assert await room.store.settle([replace(never, opened=entry_of(never))]) == [Moved()]
        assert await room.deks(deks_of(never)[0].id) == {}

    async def test_a_fill_that_moved_leaves_the_entry_open(self, room: Room, acme: Chain) -> None:
        whole = wrap(acme, "halfway")
        half = with_open(entry_of(whole), None)
        assert await room.store.settle([Settlement(half, None, (), (), ())]) == [Settled()]
        stale = replace(whole, opened=half, seen=(Seen(acme.kek.ref, 7),))
        assert await room.store.settle([stale]) == [Moved()]
        assert (await room.store.know(Question(ledger=frozenset({half.key})))).ledger == {half.key: half}

    async def test_many_deliveries_at_once_take_effect_once(self, room: Room, acme: Chain) -> None:
        names = [fresh_name("storm") for _ in range(6)]
        batches = [[wrap(acme, name) for name in (names if turn % 2 else names[::-1])] for turn in range(8)]
        answers = await asyncio.gather(*(room.store.settle(batch) for batch in batches))
        winners: dict[str, list[UUID]] = {name: [] for name in names}
        for batch, fates in zip(batches, answers, strict=True):
            for settlement, fate in zip(batch, fates, strict=True):
                if fate == Settled():
                    winners[entry_of(settlement).key.id].append(deks_of(settlement)[0].id)
        assert [len(won) for won in winners.values()] == [1] * 6
        assert await room.look.stored(acme.kek.id, 1) == (6, 0)
        every = [one.id for batch in batches for settlement in batch for one in deks_of(settlement)]
        assert set(await room.deks(*every)) == {won[0] for won in winners.values()}


class TestRows:
    async def test_a_revision_that_moved_spoils_its_request_alone(self, room: Room, acme: Chain) -> None:
        stale, good = wrap(acme), wrap(acme)
        stale = replace(stale, seen=(*stale.seen, Seen(acme.kek.ref, 2)))
        assert await room.store.settle([stale, good]) == [Moved(), Settled()]
        assert await room.deks(*(one.id for one in (*deks_of(stale), *deks_of(good)))) == {
            one.id: one for one in deks_of(good)
        }
        assert await room.look.stored(acme.kek.id, 1) == (1, 0)
        assert await room.look.leaves(acme.tenant.id) == 1
        assert await room.store.settle([replace(stale, seen=acme.seen)]) == [Settled()], "its ledger row was removed"

    @pytest.mark.parametrize("index", range(8))
    async def test_each_kind_of_row_is_compared(self, room: Room, index: int) -> None:
        made = chain()
        assert await room.store.settle([command(*made.rows)]) == [Settled()]
        ref = made.rows[index].ref
        assert await room.store.settle([Settlement(None, None, (Seen(ref, 2),), (), ())]) == [Moved()]
        assert await room.store.settle([Settlement(None, None, (Seen(ref, 1),), (), ())]) == [Settled()]
        assert await room.store.settle([Settlement(None, None, (Seen(ref, 1),), (ref,), ())]) == [Settled()]

    async def test_a_row_is_inserted_once_and_nothing_with_a_second_one(self, room: Room, acme: Chain) -> None:
        other = client_row(acme.tenant.id)
        again = replace(acme.alias, key=acme.keys[1].id)
        assert await room.store.settle([command(other, again)]) == [Moved()]
        answer = await room.store.know(Question(clients=frozenset({other.id}), aliases=frozenset({again.name})))
        assert other.ref not in refs(answer.rows)
        assert acme.alias in {stored.row for stored in answer.rows}

    async def test_a_row_replaces_only_its_predecessor(self, room: Room, acme: Chain) -> None:
        second, third = bumped(acme.kek), bumped(bumped(acme.kek))
        assert await room.store.settle([command(third)]) == [Moved()]
        assert await room.store.settle([command(second)]) == [Settled()]
        assert await room.store.settle([command(second)]) == [Moved()]
        assert await room.store.settle([command(third)]) == [Settled()]
        assert await room.store.settle([wrap(acme)]) == [Moved()]

    async def test_of_two_changes_in_one_batch_the_later_is_moved(self, room: Room, acme: Chain) -> None:
        assert await room.store.settle([command(bumped(acme.kek)), command(bumped(acme.kek))]) == [Settled(), Moved()]

    async def test_a_batch_is_as_if_done_in_its_order(self, room: Room, acme: Chain) -> None:
        rotate = command(bumped(acme.kek))
        assert await room.store.settle([wrap(acme), rotate, wrap(acme)]) == [Settled(), Settled(), Moved()]

    async def test_two_new_rows_of_one_name_at_once(self, room: Room, acme: Chain) -> None:
        twin = client_row(acme.tenant.id)
        others = [client_row(acme.tenant.id) for _ in range(6)]
        fates = await asyncio.gather(*(room.store.settle([command(twin, other)]) for other in others))
        assert sorted(fates, key=repr) == [[Moved()]] * 5 + [[Settled()]]
        answer = await room.store.know(Question(clients=frozenset(other.id for other in others)))
        assert len(answer.rows) == 1

    async def test_rotations_at_once_never_overtake_each_other(self, room: Room, acme: Chain) -> None:
        async def rotate() -> int:
            for turn in range(100):
                rows = (await room.store.know(Question(keys=frozenset({acme.kek.id})))).rows
                key = next(s.row for s in rows if isinstance(s.row, Key) and s.row.id == acme.kek.id)
                newer = bumped(key)
                fate = await room.store.settle([command(newer, version_row(newer, newer.active_version))])
                if fate == [Settled()]:
                    return turn
            raise AssertionError("a rotation starved")

        await asyncio.gather(*(rotate() for _ in range(6)))
        answer = await room.store.know(Question(trees=frozenset({acme.kek.id})))
        numbers = [s.row.number for s in answer.rows if isinstance(s.row, Version) and s.row.key == acme.kek.id]
        assert sorted(numbers) == [1, 2, 3, 4, 5, 6, 7]


class TestDeks:
    async def test_a_dek_is_moved_if_it_is_still_what_was_read(self, room: Room, acme: Chain) -> None:
        made = wrap(acme, items=2)
        assert await room.store.settle([made]) == [Settled()]
        one, other = deks_of(made)
        after = replace(one, version=2, blob=b"new")
        move = MoveDek(after, one.blob)
        counts = (Count(acme.kek.id, 1, stored=-1), Count(acme.kek.id, 2, stored=1))
        late = replace(wrap(acme), effects=(MoveDek(replace(other, blob=b"late"), other.blob), MoveDek(one, b"else")))
        early = Settlement(None, None, (), (), (move, *counts))
        assert await room.store.settle([late]) == [Moved()]
        assert await room.store.settle([early]) == [Settled()]
        assert await room.store.settle([early]) == [Moved()]
        assert await room.deks(one.id, other.id) == {one.id: after, other.id: other}
        assert await room.look.stored(acme.kek.id, 1) == (1, 0)
        assert await room.look.stored(acme.kek.id, 2) == (1, 0)

    async def test_a_dek_may_go_to_another_key(self, room: Room, acme: Chain) -> None:
        made = wrap(acme)
        assert await room.store.settle([made]) == [Settled()]
        (one,) = deks_of(made)
        after = replace(one, key=acme.keys[1].id, version=1, blob=b"there")
        assert await room.store.settle([Settlement(None, None, (), (), (MoveDek(after, one.blob),))]) == [Settled()]
        assert await room.deks(one.id) == {one.id: after}

    async def test_moving_what_is_not_there(self, room: Room, acme: Chain) -> None:
        assert await room.store.settle([Settlement(None, None, (), (), (MoveDek(dek(acme.kek), b""),))]) == [Moved()]

    async def test_of_two_moves_in_one_batch_the_later_goes_back(self, room: Room, acme: Chain) -> None:
        made = wrap(acme)
        (one,) = deks_of(made)
        assert await room.store.settle([made]) == [Settled()]
        moves = [Settlement(None, None, (), (), (MoveDek(replace(one, blob=blob), one.blob),)) for blob in (b"1", b"2")]
        assert await room.store.settle(moves) == [Settled(), Moved()]
        assert (await room.deks(one.id))[one.id].blob == b"1"

    async def test_one_request_may_name_a_dek_twice(self, room: Room, acme: Chain) -> None:
        made = wrap(acme)
        (one,) = deks_of(made)
        assert await room.store.settle([made]) == [Settled()]
        twice = tuple(MoveDek(replace(one, blob=blob), one.blob) for blob in (b"1", b"2"))
        assert await room.store.settle([Settlement(None, None, (), (), twice)]) == [Settled()]
        assert (await room.deks(one.id))[one.id].blob == b"2"

    async def test_what_left_the_database_is_counted(self, room: Room, acme: Chain) -> None:
        issued = Settlement(None, None, acme.seen, (), (Count(acme.kek.id, 1, issued_outside=3),))
        assert await room.store.settle([issued, issued]) == [Settled(), Settled()]
        assert await room.look.stored(acme.kek.id, 1) == (0, 6)

    async def test_an_empty_batch(self, room: Room) -> None:
        assert await room.store.settle([]) == []


class TestLeases:
    async def test_leases_add_up(self, room: Room, acme: Chain) -> None:
        sums = await asyncio.gather(*(room.leases.lease(acme.kek.id, 1, 10) for _ in range(8)))
        assert sorted(sums) == list(range(10, 90, 10))
        assert await room.leases.lease(acme.kek.id, 2, 65_536) == 65_536

    async def test_the_lease_that_crosses_announces_it_once(self, room: Room, acme: Chain) -> None:
        await room.leases.lease(acme.kek.id, 1, 2**31 - 20)
        await asyncio.gather(*(room.leases.lease(acme.kek.id, 1, 10) for _ in range(5)))
        mine = [event for event in await room.outbox.waiting(1000) if event.tenant == acme.tenant.id]
        assert [event.type for event in mine] == ["keyriver.key.rotation-due.v1"]
        assert str(acme.kek.id).encode() in mine[0].body


class TestOutbox:
    async def test_events_wait_in_their_order_until_acknowledged(self, room: Room, acme: Chain) -> None:
        await room.outbox.acknowledge([event.id for event in await room.outbox.waiting(1000)])
        events = [Announce(fresh_id(), "keyriver.x.v1", acme.tenant.id, b"%d" % n) for n in range(3)]
        for event in events[::-1]:
            assert await room.store.settle([Settlement(None, None, (), (), (event,))]) == [Settled()]
        again = replace(events[0], body=b"other")
        assert await room.store.settle([Settlement(None, None, (), (), (again,))]) == [Settled()]
        assert await room.outbox.waiting(1000) == events[::-1]
        assert await room.outbox.waiting(1) == events[2:]
        await room.outbox.acknowledge([events[2].id, fresh_id()])
        await room.outbox.acknowledge([events[2].id])
        assert await room.outbox.waiting(2) == [events[1], events[0]]

    async def test_an_event_of_a_moved_request_is_not_told(self, room: Room, acme: Chain) -> None:
        event = Announce(fresh_id(), "keyriver.x.v1", acme.tenant.id, b"")
        moved = Settlement(None, None, (Seen(acme.kek.ref, 9),), (), (event,))
        assert await room.store.settle([moved]) == [Moved()]
        assert event not in await room.outbox.waiting(1000)


class TestAttempts:
    async def test_assignments_at_one_offset_are_counted(self, room: Room) -> None:
        here, there = Partition(fresh_name("topic"), 0), Partition(fresh_name("topic"), 1)
        assert [await room.attempts.assigned("g", here, 5) for _ in range(3)] == [1, 2, 3]
        assert await room.attempts.assigned("other", here, 5) == 1
        assert await room.attempts.assigned("g", there, 5) == 1
        assert await room.attempts.assigned("g", here, 6) == 1
        assert await room.attempts.assigned("g", here, 6) == 2
        await room.attempts.released("g", here)
        await room.attempts.released("g", here)
        assert await room.attempts.assigned("g", here, 6) == 1

    async def test_markers_of_records_alone(self, room: Room) -> None:
        here = Partition(fresh_name("topic"), 0)
        assert [await room.attempts.begin_alone("g", here, 5) for _ in range(2)] == [1, 2]
        assert await room.attempts.begin_alone("g", here, 6) == 1
        await room.attempts.end_alone("g", here, 5)
        await room.attempts.end_alone("g", here, 5)
        assert await room.attempts.begin_alone("g", here, 5) == 1
        assert await room.attempts.begin_alone("g", here, 6) == 2
