"""What the ports Leases, Outbox and Attempts promise, asked of the fake and of Postgres alike."""

import asyncio
from dataclasses import replace

from tests.unit.store import fixtures
from tests.unit.store.builders import (
    Chain,
    fresh_id,
    fresh_name,
)
from tests.unit.store.rooms import Room
from worker.model.effects import Announce, Moved, Seen, Settled, Settlement
from worker.model.records import Partition

fake = fixtures.fake
founded = fixtures.founded
pool = fixtures.pool
real = fixtures.real
room = fixtures.room


class TestLeases:
    async def test_leases_add_up(self, room: Room, founded: Chain) -> None:
        sums = await asyncio.gather(*(room.leases.lease(founded.kek.id, 1, 10) for _ in range(8)))
        assert sorted(sums) == list(range(10, 90, 10))
        assert await room.leases.lease(founded.kek.id, 2, 65_536) == 65_536

    async def test_the_lease_that_crosses_announces_it_once(self, room: Room, founded: Chain) -> None:
        await room.leases.lease(founded.kek.id, 1, 2**31 - 20)
        await asyncio.gather(*(room.leases.lease(founded.kek.id, 1, 10) for _ in range(5)))
        mine = [event for event in await room.outbox.waiting(1000) if event.tenant == founded.tenant.id]
        assert [event.type for event in mine] == ["keyriver.key.rotation-due.v1"]
        assert str(founded.kek.id).encode() in mine[0].body


class TestOutbox:
    async def test_events_wait_in_their_order_until_acknowledged(self, room: Room, founded: Chain) -> None:
        await room.outbox.acknowledge([event.id for event in await room.outbox.waiting(1000)])
        events = [Announce(fresh_id(), "keyriver.x.v1", founded.tenant.id, b"%d" % n) for n in range(3)]
        for event in events[::-1]:
            assert await room.store.settle([Settlement(None, None, (), (), (event,))]) == [Settled()]
        again = replace(events[0], body=b"other")
        assert await room.store.settle([Settlement(None, None, (), (), (again,))]) == [Settled()]
        assert await room.outbox.waiting(1000) == events[::-1]
        assert await room.outbox.waiting(1) == events[2:]
        await room.outbox.acknowledge([events[2].id, fresh_id()])
        await room.outbox.acknowledge([events[2].id])
        assert await room.outbox.waiting(2) == [events[1], events[0]]

    async def test_an_event_of_a_moved_request_is_not_told(self, room: Room, founded: Chain) -> None:
        event = Announce(fresh_id(), "keyriver.x.v1", founded.tenant.id, b"")
        moved = Settlement(None, None, (Seen(founded.kek.ref, 9),), (), (event,))
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
