"""The fake and Postgres are given the same random settlements: same fates, and the same stands there afterwards."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.unit.store.builders import chain, command, dek, fresh_id, version_row
from tests.unit.store.rooms import Room, fake_room, migrated, postgres_room
from worker.edges.store.fake import FakeStore
from worker.model.effects import (
    Announce,
    Count,
    Effect,
    Leaf,
    LedgerEntry,
    MoveDek,
    PutRow,
    Seen,
    Settled,
    Settlement,
    StoreDeks,
)
from worker.model.facts import Question
from worker.model.operations import Operation
from worker.model.rows import Alias, Dek, Key, Row

T = TypeVar("T")
NAMES = ("a", "b", "c")
OUTCOMES = st.lists(st.sampled_from([None, b"", b"x", b"y"]), min_size=1, max_size=3).map(tuple)


def by_id(event: Announce) -> UUID:
    """Events of one batch have no order among themselves."""
    return event.id


class Both(RuleBasedStateMachine):
    """One chain of keys in both stores, and requests on it."""

    loop: asyncio.AbstractEventLoop
    real: Room

    def __init__(self) -> None:
        super().__init__()
        self.fake_room = fake_room()
        assert isinstance(self.fake_room.store, FakeStore)
        self.fake: FakeStore = self.fake_room.store
        self.chain = chain()
        self.deks: list[Dek] = []
        self.events = [fresh_id() for _ in range(2)]

    @initialize()
    def found(self) -> None:
        founding = [command(*self.chain.rows)]
        assert self.wait(self.real.store.settle(founding)) == [Settled()]
        assert self.wait(self.fake.settle(founding)) == [Settled()]

    @rule(data=st.data(), size=st.integers(1, 4))
    def settle(self, data: st.DataObject, size: int) -> None:
        batch = [self.settlement(data) for _ in range(size)]
        assert self.wait(self.real.store.settle(batch)) == self.wait(self.fake.settle(batch))

    @rule(version=st.integers(1, 2), count=st.sampled_from([1, 2**30, 2**31]))
    def lease(self, version: int, count: int) -> None:
        kek = self.chain.kek.id
        real = self.wait(self.real.leases.lease(kek, version, count))
        assert real == self.wait(self.fake.lease(kek, version, count))

    @invariant()
    def the_same_stands_there(self) -> None:
        question = Question(
            ledger=frozenset(self.chain.request(name) for name in NAMES),
            clients=frozenset({self.chain.client.id}),
            tenants=frozenset({self.chain.tenant.id}),
            aliases=frozenset({self.chain.alias.name}),
            trees=frozenset(key.id for key in self.chain.keys),
            deks=frozenset(one.id for one in self.deks),
        )
        real, fake = self.wait(self.real.store.know(question)), self.wait(self.fake.know(question))
        assert (real.ledger, real.deks) == (fake.ledger, fake.deks)
        assert set(real.rows) == set(fake.rows)
        for version in (1, 2):
            looks = [room.look.stored(self.chain.kek.id, version) for room in (self.real, self.fake_room)]
            assert self.wait(looks[0]) == self.wait(looks[1])
        assert self.wait(self.real.look.leaves(self.chain.tenant.id)) == len(self.fake.leaves)
        mine = [e for e in self.wait(self.real.outbox.waiting(100_000)) if e.tenant == self.chain.tenant.id]
        assert sorted(mine, key=by_id) == sorted(self.wait(self.fake.waiting(1000)), key=by_id)

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    def settlement(self, data: st.DataObject) -> Settlement:
        entry, opened = self.entry(data)
        seen = data.draw(st.lists(st.sampled_from(self.current()), max_size=3), label="seen")
        off = data.draw(st.sampled_from([0, 0, 0, 0, 1]), label="off")
        effects = data.draw(st.lists(st.sampled_from(["deks", "move", "put", "count", "leaf", "event"]), max_size=4))
        made: list[Effect] = []
        for effect in effects:
            made += self.effect(data, effect)
        changes = tuple({effect.row.ref: None for effect in made if isinstance(effect, PutRow)})
        unique = {one.row.ref: one for one in made if isinstance(one, PutRow)}
        others = [one for one in made if not isinstance(one, PutRow)]
        marks = tuple(Seen(row.ref, row.revision + off) for row in seen)
        return Settlement(entry, opened, marks, changes, (*unique.values(), *others))

    def entry(self, data: st.DataObject) -> tuple[LedgerEntry | None, LedgerEntry | None]:
        name = data.draw(st.sampled_from([None, *NAMES]), label="request")
        if name is None:
            return None, None
        key = self.chain.request(name)
        entry = LedgerEntry(key, Operation.WRAP, b"d" * 32, data.draw(OUTCOMES, label="outcomes"))
        opened = data.draw(st.sampled_from([None, self.fake.ledger.get(key), replace(entry, outcomes=(b"z", None))]))
        return entry, opened

    def current(self) -> list[Row]:
        """The rows as they stand."""
        return [stored.row for stored in self.fake.rows.values() if not isinstance(stored.row, Alias)]

    def effect(self, data: st.DataObject, kind: str) -> list[Effect]:
        kek = self.chain.kek
        match kind:
            case "deks":
                made = tuple(dek(kek) for _ in range(data.draw(st.integers(0, 3))))
                self.deks += made
                return [StoreDeks(made)]
            case "move" if self.fake.deks:
                one = data.draw(st.sampled_from([one for one in self.deks if one.id in self.fake.deks]))
                held = self.fake.deks[one.id]
                old = data.draw(st.sampled_from([held.blob, held.blob, one.blob, b"never"]))
                blob = data.draw(st.binary(min_size=1, max_size=4))
                return [MoveDek(replace(held, version=2, blob=blob), old)]
            case "put":
                return [self.put(data)]
            case "count":
                return [Count(kek.id, data.draw(st.integers(1, 2)), data.draw(st.integers(-2, 2)), 1)]
            case "event":
                return [Announce(data.draw(st.sampled_from(self.events)), "t", self.chain.tenant.id, b"{}")]
            case _:
                return [Leaf(fresh_id(), self.chain.tenant.id, b"{}")]

    def put(self, data: st.DataObject) -> PutRow:
        key = data.draw(st.sampled_from([row for row in self.current() if isinstance(row, Key)]))
        step = data.draw(st.sampled_from([1, 1, 1, 2]))
        rotated = replace(key, revision=key.revision + step, latest_version=key.latest_version + 1)
        newer = version_row(key, data.draw(st.integers(1, 4)))
        rows: list[Row] = [rotated, newer, self.chain.alias]
        row = data.draw(st.sampled_from(rows))
        return PutRow(row, 1, data.draw(st.binary(max_size=3)))


@contextmanager
def room(database: str) -> Iterator[tuple[asyncio.AbstractEventLoop, Room]]:
    """Postgres on an event loop that the machine may run by hand."""
    loop = asyncio.new_event_loop()
    holding = migrated(database)
    try:
        yield loop, postgres_room(loop.run_until_complete(holding.__aenter__()))
    finally:
        loop.run_until_complete(holding.__aexit__(None, None, None))
        loop.close()


def test_the_fake_and_postgres_agree(database: str) -> None:
    with room(database) as (loop, real):

        class Here(Both):
            pass

        Here.loop, Here.real = loop, real
        run_state_machine_as_test(
            Here,
            settings=settings(
                max_examples=60,
                stateful_step_count=12,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


def test_ids_sort_alike_here_and_there() -> None:
    """Postgres compares ids as bytes, Python as integers."""
    ids = [UUID(int=n) for n in (0, 1, 2**64, 2**127, 2**128 - 1)]
    assert sorted(ids) == sorted(ids, key=lambda one: one.bytes)
