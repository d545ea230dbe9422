"""What the port Store promises, asked of the fake and of Postgres alike."""

import asyncio
from dataclasses import replace
from uuid import UUID

import pytest

from tests.unit.store import fixtures
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
from tests.unit.store.rooms import Room
from worker.model.effects import Count, LedgerEntry, Lost, Moved, MoveDek, Seen, Settled, Settlement
from worker.model.facts import Paging, Question, StoredRow
from worker.model.rows import Key, Row, RowRef, Suite, Version

fake = fixtures.fake
founded = fixtures.founded
pool = fixtures.pool
real = fixtures.real
room = fixtures.room


def refs(rows: tuple[StoredRow, ...]) -> set[RowRef]:
    assert len({stored.row.ref for stored in rows}) == len(rows), "a row is told once"
    return {stored.row.ref for stored in rows}


def with_open(entry: LedgerEntry, *outcomes: bytes | None) -> LedgerEntry:
    return replace(entry, outcomes=outcomes)


class TestKnow:
    async def test_an_alias_leads_to_the_whole_chain(self, room: Room, founded: Chain) -> None:
        answer = await room.store.know(Question(aliases=frozenset({founded.alias.name})))
        assert refs(answer.rows) == {row.ref for row in (*founded.keys, *founded.versions, founded.alias)}

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

    async def test_only_private_halves_that_are_stored_below_a_sequence_are_told(self, room: Room) -> None:
        kept = [(-30, b"w"), (-20, b""), (-10, b"w")]
        rows = [replace(intake_row(), sequence=number, wrapped_private=half) for number, half in kept]
        assert await room.store.settle([command(*rows)]) == [Settled()]
        assert [await room.look.private_halves(below) for below in (-10, -9)] == [[-30], [-30, -10]]

    async def test_a_version_leads_to_what_wrapped_it_and_to_the_active_ones(self, room: Room, founded: Chain) -> None:
        parent = bumped(founded.keys[1])
        kek = bumped(founded.kek)
        newer = version_row(parent, 2)
        newest = version_row(kek, 2, parent_version=2)
        assert await room.store.settle([command(parent, newer, kek, newest)]) == [Settled()]
        active = version_row(bumped(parent), 3)
        assert await room.store.settle([command(bumped(parent), active)]) == [Settled()]
        old = await room.store.know(Question(versions=frozenset({(kek.id, 1)})))
        both = {row.ref for row in (*founded.versions, newer, newest, active)}
        assert {ref for ref in refs(old.rows) if ref.table == "versions"} == both
        new = await room.store.know(Question(keys=frozenset({kek.id})))
        assert founded.versions[2].ref not in refs(new.rows)
        tree = await room.store.know(Question(trees=frozenset({kek.id})))
        assert {ref for ref in refs(tree.rows) if ref.table == "versions"} == both

    async def test_a_dek_leads_to_its_key_and_version(self, room: Room, founded: Chain) -> None:
        first = wrap(founded, items=2)
        kek = bumped(founded.kek)
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
    async def test_text_that_no_store_holds_harms_no_neighbour(self, room: Room, founded: Chain, hostile: str) -> None:
        question = Question(
            ledger=frozenset({founded.request(hostile)}),
            clients=frozenset({hostile, founded.client.id}),
            tenants=frozenset({hostile}),
            aliases=frozenset({hostile}),
            key_pages=frozenset({Paging(hostile, "", 1)}),
            client_pages=frozenset({Paging(founded.tenant.id, hostile, 1)}),
        )
        answer = await room.store.know(question)
        assert refs(answer.rows) >= {founded.client.ref}

    async def test_pages_go_on_where_the_last_one_ended(self, room: Room, founded: Chain) -> None:
        ids = sorted(key.id for key in founded.keys)
        first = Paging(founded.tenant.id, "", 2)
        second = Paging(founded.tenant.id, str(ids[1]), 2)
        bad = Paging(founded.tenant.id, "not an id", 2)
        people = Paging(founded.tenant.id, "", 5)
        answer = await room.store.know(
            Question(key_pages=frozenset({first, second, bad}), client_pages=frozenset({people}))
        )
        assert answer.key_pages == {first: tuple(ids[:2]), second: tuple(ids[2:]), bad: ()}
        assert answer.client_pages == {people: (founded.client.id,)}
        assert {row.ref for row in (*founded.keys, founded.client)} <= refs(answer.rows)

    async def test_a_tampered_row_is_told_as_it_stands(self, room: Room, founded: Chain) -> None:
        await room.look.tamper(founded.tenant.id)
        answer = await room.store.know(Question(tenants=frozenset({founded.tenant.id})))
        assert answer.rows == (StoredRow(replace(founded.tenant, layers=9), 1, MAC),)


class TestLedger:
    async def test_a_request_takes_effect_once(self, room: Room, founded: Chain) -> None:
        first, again = wrap(founded, "once", 2), wrap(founded, "once", 2)
        assert await room.store.settle([first]) == [Settled()]
        assert await room.store.settle([wrap(founded), again]) == [Settled(), Lost(entry_of(first))]
        answer = await room.store.know(Question(ledger=frozenset({entry_of(first).key})))
        assert answer.ledger == {entry_of(first).key: entry_of(first)}
        assert await room.deks(*(one.id for one in deks_of(again))) == {}
        assert await room.look.stored(founded.kek.id, 1) == (3, 0)
        assert await room.look.leaves(founded.tenant.id) == 2

    async def test_twice_in_one_batch_is_once(self, room: Room, founded: Chain) -> None:
        first, again = wrap(founded, "twin"), wrap(founded, "twin")
        assert await room.store.settle([first, again]) == [Settled(), Lost(entry_of(first))]
        assert await room.store.settle([again, again]) == [Lost(entry_of(first))] * 2
        assert await room.look.stored(founded.kek.id, 1) == (1, 0)

    async def test_a_twin_of_a_moved_request_is_moved(self, room: Room, founded: Chain) -> None:
        stale = replace(wrap(founded, "stale"), seen=(Seen(founded.kek.ref, 7),))
        assert await room.store.settle([stale, wrap(founded, "stale")]) == [Moved(), Moved()]
        assert (await room.store.know(Question(ledger=frozenset({founded.request("stale")})))).ledger == {}

    async def test_a_late_twin_that_is_also_stale_leaves_the_first_ones_entry(self, room: Room, founded: Chain) -> None:
        first = wrap(founded, "late")
        late = replace(wrap(founded, "late"), seen=(Seen(founded.kek.ref, 7),))
        assert await room.store.settle([first]) == [Settled()]
        assert await room.store.settle([late]) == [Lost(entry_of(first))]
        assert await room.store.settle([late]) == [Lost(entry_of(first))]

    async def test_what_is_not_ledgered_is_written_each_time(self, room: Room, founded: Chain) -> None:
        unwrap = replace(wrap(founded), ledger=None, effects=(wrap(founded).effects[2],))
        assert await room.store.settle([unwrap, unwrap]) == [Settled(), Settled()]
        assert await room.look.leaves(founded.tenant.id) == 2

    async def test_open_items_are_filled_later(self, room: Room, founded: Chain) -> None:
        whole = wrap(founded, "later", 2)
        half = with_open(entry_of(whole), b"one", None)
        assert await room.store.settle([Settlement(half, None, founded.seen, (), ())]) == [Settled()]
        assert await room.store.settle([whole]) == [Lost(half)]
        fill = replace(whole, opened=half)
        assert await room.store.settle([fill, wrap(founded)]) == [Settled(), Settled()]
        stored = (await room.store.know(Question(ledger=frozenset({half.key})))).ledger[half.key]
        assert stored.outcomes == entry_of(whole).outcomes
        assert await room.store.settle([fill]) == [Lost(stored)]
        assert await room.look.stored(founded.kek.id, 1) == (3, 0)

    async def test_filling_an_entry_that_is_gone_goes_back_to_know(self, room: Room, founded: Chain) -> None:
        never = wrap(founded)
        assert await room.store.settle([replace(never, opened=entry_of(never))]) == [Moved()]
        assert await room.deks(deks_of(never)[0].id) == {}

    async def test_a_fill_that_moved_leaves_the_entry_open(self, room: Room, founded: Chain) -> None:
        whole = wrap(founded, "halfway")
        half = with_open(entry_of(whole), None)
        assert await room.store.settle([Settlement(half, None, (), (), ())]) == [Settled()]
        stale = replace(whole, opened=half, seen=(Seen(founded.kek.ref, 7),))
        assert await room.store.settle([stale]) == [Moved()]
        assert (await room.store.know(Question(ledger=frozenset({half.key})))).ledger == {half.key: half}

    async def test_many_deliveries_at_once_take_effect_once(self, room: Room, founded: Chain) -> None:
        names = [fresh_name("storm") for _ in range(6)]
        batches = [[wrap(founded, name) for name in (names if turn % 2 else names[::-1])] for turn in range(8)]
        answers = await asyncio.gather(*(room.store.settle(batch) for batch in batches))
        winners: dict[str, list[UUID]] = {name: [] for name in names}
        for batch, fates in zip(batches, answers, strict=True):
            for settlement, fate in zip(batch, fates, strict=True):
                if fate == Settled():
                    winners[entry_of(settlement).key.id].append(deks_of(settlement)[0].id)
        assert [len(won) for won in winners.values()] == [1] * 6
        assert await room.look.stored(founded.kek.id, 1) == (6, 0)
        every = [one.id for batch in batches for settlement in batch for one in deks_of(settlement)]
        assert set(await room.deks(*every)) == {won[0] for won in winners.values()}


class TestRows:
    async def test_a_revision_that_moved_spoils_its_request_alone(self, room: Room, founded: Chain) -> None:
        stale, good = wrap(founded), wrap(founded)
        stale = replace(stale, seen=(*stale.seen, Seen(founded.kek.ref, 2)))
        assert await room.store.settle([stale, good]) == [Moved(), Settled()]
        assert await room.deks(*(one.id for one in (*deks_of(stale), *deks_of(good)))) == {
            one.id: one for one in deks_of(good)
        }
        assert await room.look.stored(founded.kek.id, 1) == (1, 0)
        assert await room.look.leaves(founded.tenant.id) == 1
        assert await room.store.settle([replace(stale, seen=founded.seen)]) == [Settled()], "its ledger row was removed"

    @pytest.mark.parametrize("index", range(8))
    async def test_each_kind_of_row_is_compared(self, room: Room, index: int) -> None:
        made = chain()
        assert await room.store.settle([command(*made.rows)]) == [Settled()]
        ref = made.rows[index].ref
        assert await room.store.settle([Settlement(None, None, (Seen(ref, 2),), (), ())]) == [Moved()]
        assert await room.store.settle([Settlement(None, None, (Seen(ref, 1),), (), ())]) == [Settled()]
        assert await room.store.settle([Settlement(None, None, (Seen(ref, 1),), (ref,), ())]) == [Settled()]

    async def test_a_row_is_inserted_once_and_nothing_with_a_second_one(self, room: Room, founded: Chain) -> None:
        other = client_row(founded.tenant.id)
        again = replace(founded.alias, key=founded.keys[1].id)
        assert await room.store.settle([command(other, again)]) == [Moved()]
        answer = await room.store.know(Question(clients=frozenset({other.id}), aliases=frozenset({again.name})))
        assert other.ref not in refs(answer.rows)
        assert founded.alias in {stored.row for stored in answer.rows}

    async def test_a_row_replaces_only_its_predecessor(self, room: Room, founded: Chain) -> None:
        second, third = bumped(founded.kek), bumped(bumped(founded.kek))
        assert await room.store.settle([command(third)]) == [Moved()]
        assert await room.store.settle([command(second)]) == [Settled()]
        assert await room.store.settle([command(second)]) == [Moved()]
        assert await room.store.settle([command(third)]) == [Settled()]
        assert await room.store.settle([wrap(founded)]) == [Moved()]

    async def test_of_two_changes_in_one_batch_the_later_is_moved(self, room: Room, founded: Chain) -> None:
        assert await room.store.settle([command(bumped(founded.kek)), command(bumped(founded.kek))]) == [
            Settled(),
            Moved(),
        ]

    async def test_a_batch_is_as_if_done_in_its_order(self, room: Room, founded: Chain) -> None:
        rotate = command(bumped(founded.kek))
        assert await room.store.settle([wrap(founded), rotate, wrap(founded)]) == [Settled(), Settled(), Moved()]

    async def test_two_new_rows_of_one_name_at_once(self, room: Room, founded: Chain) -> None:
        twin = client_row(founded.tenant.id)
        others = [client_row(founded.tenant.id) for _ in range(6)]
        fates = await asyncio.gather(*(room.store.settle([command(twin, other)]) for other in others))
        assert sorted(fates, key=repr) == [[Moved()]] * 5 + [[Settled()]]
        answer = await room.store.know(Question(clients=frozenset(other.id for other in others)))
        assert len(answer.rows) == 1

    async def test_rotations_at_once_never_overtake_each_other(self, room: Room, founded: Chain) -> None:
        async def rotate() -> int:
            for turn in range(100):
                rows = (await room.store.know(Question(keys=frozenset({founded.kek.id})))).rows
                key = next(s.row for s in rows if isinstance(s.row, Key) and s.row.id == founded.kek.id)
                newer = bumped(key)
                fate = await room.store.settle([command(newer, version_row(newer, newer.active_version))])
                if fate == [Settled()]:
                    return turn
            raise AssertionError("a rotation starved")

        await asyncio.gather(*(rotate() for _ in range(6)))
        answer = await room.store.know(Question(trees=frozenset({founded.kek.id})))
        numbers = [s.row.number for s in answer.rows if isinstance(s.row, Version) and s.row.key == founded.kek.id]
        assert sorted(numbers) == [1, 2, 3, 4, 5, 6, 7]


class TestDeks:
    async def test_a_dek_is_moved_if_it_is_still_what_was_read(self, room: Room, founded: Chain) -> None:
        made = wrap(founded, items=2)
        assert await room.store.settle([made]) == [Settled()]
        one, other = deks_of(made)
        after = replace(one, version=2, blob=b"new")
        move = MoveDek(after, one.blob)
        counts = (Count(founded.kek.id, 1, stored=-1), Count(founded.kek.id, 2, stored=1))
        late = replace(
            wrap(founded), effects=(MoveDek(replace(other, blob=b"late"), other.blob), MoveDek(one, b"else"))
        )
        early = Settlement(None, None, (), (), (move, *counts))
        assert await room.store.settle([late]) == [Moved()]
        assert await room.store.settle([early]) == [Settled()]
        assert await room.store.settle([early]) == [Moved()]
        assert await room.deks(one.id, other.id) == {one.id: after, other.id: other}
        assert await room.look.stored(founded.kek.id, 1) == (1, 0)
        assert await room.look.stored(founded.kek.id, 2) == (1, 0)

    async def test_a_dek_may_go_to_another_key(self, room: Room, founded: Chain) -> None:
        made = wrap(founded)
        assert await room.store.settle([made]) == [Settled()]
        (one,) = deks_of(made)
        after = replace(one, key=founded.keys[1].id, version=1, blob=b"there")
        assert await room.store.settle([Settlement(None, None, (), (), (MoveDek(after, one.blob),))]) == [Settled()]
        assert await room.deks(one.id) == {one.id: after}

    async def test_moving_what_is_not_there(self, room: Room, founded: Chain) -> None:
        assert await room.store.settle([Settlement(None, None, (), (), (MoveDek(dek(founded.kek), b""),))]) == [Moved()]

    async def test_of_two_moves_in_one_batch_the_later_goes_back(self, room: Room, founded: Chain) -> None:
        made = wrap(founded)
        (one,) = deks_of(made)
        assert await room.store.settle([made]) == [Settled()]
        moves = [Settlement(None, None, (), (), (MoveDek(replace(one, blob=blob), one.blob),)) for blob in (b"1", b"2")]
        assert await room.store.settle(moves) == [Settled(), Moved()]
        assert (await room.deks(one.id))[one.id].blob == b"1"

    async def test_one_request_may_name_a_dek_twice(self, room: Room, founded: Chain) -> None:
        made = wrap(founded)
        (one,) = deks_of(made)
        assert await room.store.settle([made]) == [Settled()]
        twice = tuple(MoveDek(replace(one, blob=blob), one.blob) for blob in (b"1", b"2"))
        assert await room.store.settle([Settlement(None, None, (), (), twice)]) == [Settled()]
        assert (await room.deks(one.id))[one.id].blob == b"2"
        half_right = (MoveDek(replace(one, blob=b"3"), one.blob), MoveDek(replace(one, blob=b"4"), b"2"))
        assert await room.store.settle([Settlement(None, None, (), (), half_right)]) == [Moved()]

    async def test_what_left_the_database_is_counted(self, room: Room, founded: Chain) -> None:
        issued = Settlement(None, None, founded.seen, (), (Count(founded.kek.id, 1, issued_outside=3),))
        assert await room.store.settle([issued, issued]) == [Settled(), Settled()]
        assert await room.look.stored(founded.kek.id, 1) == (0, 6)

    async def test_an_empty_batch(self, room: Room) -> None:
        assert await room.store.settle([]) == []
