"""What the store promises of workers' presence (S15), asked of the fake and of Postgres alike."""

import asyncio
from dataclasses import replace

from tests.unit.store import fixtures
from tests.unit.store.builders import Chain, command, fresh_id, fresh_name
from tests.unit.store.rooms import Room, value
from worker.edges.store.campaigns import PostgresSlices
from worker.edges.store.fake import FakeStore
from worker.edges.store.pool import Pool
from worker.edges.store.presence import PostgresPresence
from worker.flow.attendance import Presence
from worker.model.effects import Settled
from worker.model.fairness import Neighbours
from worker.model.hsm import Condemned
from worker.model.rows import State

fake = fixtures.fake
founded = fixtures.founded
pool = fixtures.pool
real = fixtures.real
room = fixtures.room

LONG, OVER = 3600.0, -1.0


def presence_of(room: Room, pool: Pool) -> Presence:
    return room.store if isinstance(room.store, FakeStore) else PostgresPresence(pool)


def condemned(revision: int = 2) -> Condemned:
    return Condemned(fresh_id(), 1, revision)


async def test_a_session_is_alive_until_it_expires(room: Room, pool: Pool) -> None:
    presence, run = presence_of(room, pool), fresh_id()
    assert not await presence.beat(run, "one", LONG), "seen for the first time"
    assert await presence.beat(run, "one", OVER)
    assert not await presence.beat(run, "one", OVER), "it had expired"


async def test_who_lives_and_has_not_confirmed_is_waited_for(room: Room, pool: Pool) -> None:
    presence = presence_of(room, pool)
    one, two, over = fresh_name("one"), fresh_name("two"), fresh_name("over")
    runs = {name: fresh_id() for name in (one, two, over)}
    for name, run in runs.items():
        await presence.beat(run, name, OVER if name == over else LONG)
    first, second = condemned(), condemned()

    async def waited_for(asked: Condemned) -> set[str]:
        return set((await presence.awaited([second, asked])).get(asked, ())) & set(runs)

    assert await waited_for(first) == {one, two}
    await presence.confirm(runs[one], [first])
    await presence.confirm(runs[one], [first, replace(first, revision=1)])  # said again, and more
    assert await waited_for(first) == {two}
    assert await waited_for(replace(first, revision=3)) == {one, two}, "of a later revision nothing was said"
    assert await waited_for(replace(first, version=2)) == {one, two}
    await presence.confirm(runs[two], [first])
    assert await waited_for(first) == set()
    for run in runs.values():
        await presence.beat(run, "over", OVER)
    assert await presence.awaited([]) == {}


async def test_what_is_due_for_destruction_is_condemned(room: Room, pool: Pool, founded: Chain) -> None:
    presence, (root, upper, kek) = presence_of(room, pool), founded.versions
    going = replace(kek, state=State.DESTROY_SCHEDULED, due_ms=1, revision=2)
    later = replace(upper, state=State.DESTROY_SCHEDULED, due_ms=2**45, revision=2)
    waking = replace(root, state=State.PRE_ACTIVE, due_ms=1, revision=2)
    assert await room.store.settle([command(going, later, waking)]) == [Settled()]
    found = set(await presence.condemned(1000))
    assert (going.key, 1) in found
    assert not found & {(later.key, 1), (waking.key, 1)}
    assert len(await presence.condemned(1)) == 1
    # Imported material that must go, from the moment when its row says that it works no more (S12)
    over = replace(waking, state=State.ACTIVE, due_ms=0, not_after_ms=1, revision=3)
    assert await room.store.settle([command(over)]) == [Settled()]
    assert (root.key, 1) not in await presence.condemned(1000)
    assert await room.store.settle([command(replace(over, absent=True, revision=4))]) == [Settled()]
    assert set(await presence.condemned(1000)) >= {(root.key, 1), (going.key, 1)}
    assert len(await presence.condemned(1)) == 1


async def test_who_is_over_since_a_day_is_forgotten_with_his_word(real: Room, pool: Pool) -> None:
    presence, (old, new) = PostgresPresence(pool), (fresh_id(), fresh_id())
    one = condemned()
    await presence.beat(old, "old", -100_000)
    await presence.beat(new, "new", OVER)
    await asyncio.gather(*(presence.confirm(run, [one]) for run in (old, new)))
    await presence.prune()
    seen = "SELECT (SELECT count(*) FROM keyriver.workers WHERE run = $1)"
    said = " + (SELECT count(*) FROM keyriver.confirmations WHERE run = $1)"
    assert await value(pool, seen + said, old) == 0
    assert await value(pool, seen + said, new) == 2


async def test_the_slowest_living_process_and_the_bulk_ones_are_known(pool: Pool) -> None:
    presence = PostgresPresence(pool)
    await pool.run(lambda connection: connection.execute("DELETE FROM keyriver.workers"))
    slow, bulk, dead = fresh_id(), fresh_id(), fresh_id()
    await presence.tell(slow, 10, None)  # not seen yet: nobody hears it
    assert await presence.neighbours() == Neighbours(0, 0)
    for run in (slow, bulk, dead):
        await presence.beat(run, "p", OVER if run == dead else LONG)
    await presence.tell(slow, 80, None)
    await presence.tell(bulk, 70, 0.25)
    await presence.tell(dead, 9000, 0.125)
    assert await presence.neighbours() == Neighbours(80, 1)
    assert (await PostgresSlices(pool).progress(fresh_id())).pace == 0.25
    sql = "UPDATE keyriver.workers SET seen = seen - interval '6 seconds' WHERE run = $1"
    await pool.run(lambda connection: connection.execute(sql, slow))
    assert await presence.neighbours() == Neighbours(70, 1), "who is frozen is not slow any more"
