"""What is told of rows is believed when the row MAC key vouches for it, and rows older than that are left out (S7)."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

import pytest

from tests.unit.flow_events.letters import identity, row
from worker.chain.sequences import Mark, Sequences
from worker.edges.hsm.fake import FakeToken
from worker.edges.store.fake import FakeStore
from worker.flow.alarms import SetBackAlarm
from worker.flow.authentic import authentic_rows
from worker.flow.retelling import Retelling, naming
from worker.flow.sequences import SequencedStore, SequenceFeed
from worker.flow.trust import Trust
from worker.model.effects import Announce, PutRow, Settled, Settlement
from worker.model.facts import Answer, Question, StoredRow
from worker.model.records import Entry, Partition
from worker.model.rows import Client
from worker.model.words import RowRef, Table
from worker.ports import TokenUnavailable
from worker.seal.sequences import Sequence as SaidOfARow
from worker.seal.sequences import record_key, record_key_of

CLIENT = replace(row(identity()), revision=1)
ASKED = Question(clients=frozenset({CLIENT.id}))


@dataclass
class Topic:
    """Holds what it was given."""

    entries: list[Entry] = field(default_factory=list)

    def add(self, key: bytes | None, value: bytes | None) -> None:
        self.entries.append(Entry(Partition("sequences", 0), len(self.entries), key, value, (), 0))

    def tell(self, announced: Announce) -> None:
        self.add(record_key_of(announced.body), announced.body)

    async def wait(self, seconds: float) -> list[Entry]:
        del seconds
        found, self.entries = self.entries, []
        return found

    async def to_end(self) -> AsyncIterator[list[Entry]]:
        yield await self.wait(0)


@dataclass
class Scene:
    token: FakeToken = field(default_factory=FakeToken)
    topic: Topic = field(default_factory=Topic)
    memory: FakeStore = field(default_factory=FakeStore)
    sequences: Sequences = field(default_factory=Sequences)

    def __post_init__(self) -> None:
        self.feed = SequenceFeed(self.topic, self.token.fleet_keys, self.sequences)
        self.store = SequencedStore(self.memory, self.sequences)

    async def put(self, client: Client, *, tell: bool = True) -> Announce:
        ((put, told),) = await authentic_rows(self.token.fleet_keys, [client])
        settled = await self.store.settle([Settlement(None, None, (), (), (put, told))])
        assert settled == [Settled()]
        if tell:
            self.topic.tell(told)
        return told

    async def client(self) -> Client | None:
        """As the river sees it."""
        facts = await Trust(self.token.fleet_keys).verified(await self.store.know(ASKED))
        assert (CLIENT.ref in facts.tampered) is (CLIENT.id not in facts.clients)
        return facts.clients.get(CLIENT.id)

    def stored(self) -> StoredRow:
        return self.memory.rows[CLIENT.ref]


REVOKED = replace(CLIENT, revoked=True, revision=2)


async def test_a_row_from_before_a_change_is_refused_and_the_newest_is_not() -> None:
    where = Scene()
    await where.put(CLIENT)
    before = where.stored()
    await where.put(REVOKED)
    assert await where.feed.catch_up() == 1
    assert await where.client() == REVOKED
    where.memory.rows[CLIENT.ref] = before
    assert await where.client() is None
    del where.memory.rows[CLIENT.ref]
    assert await where.client() is None


async def test_a_row_that_is_set_back_is_written_down_once_for_each_revision() -> None:
    where = Scene()
    await where.put(CLIENT)
    before = where.stored()
    await where.put(REVOKED)
    await where.feed.turn()
    alarm = SetBackAlarm("host/7", where.store)
    assert await alarm.turn() == 0
    where.memory.rows[CLIENT.ref] = before
    for _ in range(3):
        assert await where.client() is None
    assert [await alarm.turn() for _ in range(2)] == [1, 0]
    assert await where.client() is None
    assert await alarm.turn() == 0
    (leaf,) = [json.loads(leaf.body) for leaf in where.memory.leaves]
    assert (leaf["type"], leaf["tenant"], leaf["counts"]) == ("keyriver.row.reverted.v1", "fleet", {"INTEGRITY": 1})
    assert leaf["told"] == {"table": "clients", "key": CLIENT.id, "revision": 2, "worker": "host/7"}
    (event,) = [event for event in where.memory.outbox.values() if event.type == "keyriver.row.reverted.v1"]
    assert json.loads(event.body) == leaf["told"]
    where.store.written(CLIENT.ref, Mark(9, 1, b"another"))


async def test_who_lags_behind_refuses_nothing_that_is_newer() -> None:
    where = Scene()
    await where.put(CLIENT)
    await where.feed.catch_up()
    await where.put(REVOKED, tell=False)
    assert await where.client() == REVOKED


async def test_a_row_that_changed_while_its_answer_was_on_the_way_is_read_again() -> None:
    where = Scene()
    await where.put(CLIENT)

    @dataclass
    class Slow:
        first: bool = True

        async def know(self, question: Question) -> Answer:
            answer = await where.memory.know(question)
            if self.first:  # the answer is as of now; before it arrives the row changes and that is told
                self.first = False
                await where.put(REVOKED)
                await where.feed.turn()
            return answer

        async def settle(self, settlements: Sequence[Settlement]) -> list[object]:
            raise NotImplementedError

    slow = SequencedStore(Slow(), where.sequences)  # type: ignore[arg-type]
    answer = await slow.know(ASKED)
    assert answer.older == frozenset()
    assert [stored.row for stored in answer.rows] == [REVOKED]


async def test_what_the_row_mac_key_did_not_vouch_for_counts_for_nothing() -> None:
    where = Scene()
    told = await where.put(CLIENT)
    ((_, other),) = await authentic_rows(FakeToken().fleet_keys, [replace(CLIENT, revision=9)])
    where.topic.tell(other)
    body = told.body.decode()
    where.topic.add(record_key(CLIENT.ref), body.replace('"revision":1', '"revision":9').encode())
    where.topic.add(record_key(CLIENT.ref), b"{}")
    where.topic.add(record_key(CLIENT.ref), None)
    where.topic.add(b"clients/another", told.body)
    where.topic.add(None, told.body)
    await where.feed.turn()
    assert where.feed.refused == {"forged": 2, "unreadable": 1, "tombstone": 1, "misplaced": 2}
    assert await where.client() == CLIENT


async def test_of_one_number_the_first_that_was_told_stands() -> None:
    where = Scene()
    await where.put(CLIENT)
    ((put, other),) = await authentic_rows(where.token.fleet_keys, [replace(CLIENT, pattern="x")])
    where.topic.tell(other)
    await where.put(REVOKED)
    where.topic.tell(other)  # older by now, and no contradiction
    await where.feed.turn()
    assert where.feed.refused == {"contradicting": 1}
    where.memory.rows[CLIENT.ref] = StoredRow(put.row, put.mac_version, put.mac)
    assert await where.client() is None


async def test_what_can_not_be_verified_now_waits() -> None:
    where = Scene()
    told = await where.put(CLIENT)
    await where.put(REVOKED)
    where.token.away = True
    for _ in range(2):
        with pytest.raises(TokenUnavailable):
            await where.feed.turn()
    where.token.away = False
    await where.feed.turn()
    assert len(where.sequences) == 1
    assert isinstance(PutRow(CLIENT), PutRow)
    ((put, _),) = await authentic_rows(where.token.fleet_keys, [CLIENT])
    where.memory.rows[CLIENT.ref] = StoredRow(CLIENT, put.mac_version, put.mac)
    assert await where.client() is None, told


async def test_a_sequence_that_came_after_a_newer_one_is_told_again_as_the_row_stands() -> None:
    """Compaction keeps the last record of a row: an older one must not stay the last."""
    where = Scene()
    old = await where.put(CLIENT)
    await where.put(REVOKED)
    await where.feed.turn()
    keys, trust = where.token.fleet_keys, Trust(where.token.fleet_keys)
    duties = [Retelling(name, where.memory, where.feed, where.store, trust, keys) for name in "ab"]
    before = set(where.memory.outbox)
    assert await duties[0].turn() == 0, "nothing was overtaken"
    where.topic.tell(old)
    await where.feed.turn()
    assert where.feed.overtaken == {CLIENT.ref}
    assert await duties[0].turn() == 1
    assert where.feed.overtaken == set()
    (again,) = [event for id_, event in where.memory.outbox.items() if id_ not in before]
    said, _, _ = SaidOfARow.parse(again.body)
    assert (said.ref, said.revision, said.mac) == (CLIENT.ref, 2, where.stored().mac)
    where.topic.tell(again)
    await where.feed.turn()
    assert where.feed.refused == {}
    where.topic.tell(old)
    await where.feed.turn()
    assert await duties[1].turn() == 0, "another one leads, and has read the same"
    assert where.feed.overtaken == set()


async def test_of_a_row_that_is_set_back_nothing_is_told_again() -> None:
    where = Scene()
    old = await where.put(CLIENT)
    before = where.stored()
    await where.put(REVOKED)
    where.topic.tell(old)
    await where.feed.turn()
    where.memory.rows[CLIENT.ref] = before
    told = len(where.memory.outbox)
    keys, trust = where.token.fleet_keys, Trust(where.token.fleet_keys)
    assert await Retelling("a", where.memory, where.feed, where.store, trust, keys).turn() == 0
    assert len(where.memory.outbox) == told


def test_rows_of_every_table_can_be_named() -> None:
    key = UUID(int=7)
    names = {Table.KEYS: str(key), Table.VERSIONS: f"{key}/3", Table.INTAKE_KEYS: "8"}
    refs = frozenset(RowRef(table, names.get(table, "x")) for table in Table)
    question = naming(refs)
    assert (*question.keys, *question.versions, *question.intake_keys) == (key, (key, 3), 8)
    assert (*question.clients, *question.tenants, *question.aliases) == ("x", "x", "x")
    assert len(question.refs) == len(Table) - 6


async def test_nothing_is_made_for_no_rows() -> None:
    token = FakeToken()
    token.away = True
    assert await authentic_rows(token.fleet_keys, []) == []
