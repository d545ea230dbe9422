"""What must hold of the river whatever goes through it: a rig, what was sent and told, and the invariants.

No request takes effect twice, none is lost, every accepted request is answered, no two successes for one request
differ, every stored DEK opens to what its owner was told, the census says what the rows are, and nothing moves or
opens under a key that is off.
"""

import asyncio
import math
from collections import Counter, defaultdict
from collections.abc import Coroutine, Iterator, Sequence
from typing import TypeVar
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant

from tests.unit.flow_river.parts import Sent, Told
from tests.unit.flow_river.rig import CARDS, PAYMENTS, TOPICS, Rig
from worker.chain.outcomes import decode
from worker.client.answers import Refusal, Wrap
from worker.client.wire import header
from worker.edges.store.fake import FakeStore
from worker.flow import pacing, river
from worker.flow.failpoints import FailpointError
from worker.model.bodies import (
    BODIES,
    AnyBody,
    DekItem,
    UnwrapBody,
)
from worker.model.control import KeyEnableBody
from worker.model.effects import MoveDek, Settled, Settlement, Settling, StoreDeks
from worker.model.facts import Answer as Known
from worker.model.facts import Question
from worker.model.ids import NO_ID
from worker.model.operations import Operation
from worker.model.outcomes import Commanded, Rewrapped, Wrapped
from worker.model.records import Verdict
from worker.model.rows import Dek, Key, Version
from worker.ports import BusUnavailable, StoreUnavailable, TokenUnavailable

T = TypeVar("T")
KEYS = st.sampled_from((PAYMENTS, CARDS))
FEW = st.integers(1, 3)
RETRYABLE = {"DEFERRED"}
PASSING = (FailpointError, BusUnavailable, StoreUnavailable, TokenUnavailable)


def items_of(body: AnyBody) -> Sequence[object]:
    """A request's items; a command is one."""
    items: Sequence[object] = getattr(body, "items", (body,))
    return items


class Onlooker:
    """A store that looks on: what is stored or moved stands under a key that is on, and its active version."""

    def __init__(self, store: FakeStore, model: "RiverModel") -> None:
        self._store, self._model = store, model
        self.late: list[int] = []

    async def know(self, question: Question) -> Known:
        return await self._store.know(question)

    async def settle(self, settlements: Sequence[Settlement]) -> list[Settling]:
        for _ in range(self.late.pop(0) if self.late else 0):
            await asyncio.sleep(0)
        off = self._model.disabled()
        active = {(key.id, key.active_version) for key in self._model.key_rows()}
        results = await self._store.settle(settlements)
        for settlement, result in zip(settlements, results, strict=True):
            for dek in written(settlement) if isinstance(result, Settled) else ():
                assert dek.key not in off
                assert (dek.key, dek.version) in active
        return results


def written(settlement: Settlement) -> Iterator[Dek]:
    """The DEK rows of a settlement."""
    for effect in settlement.effects:
        if isinstance(effect, StoreDeks):
            yield from effect.deks
        elif isinstance(effect, MoveDek):
            yield effect.dek


class RiverModel(RuleBasedStateMachine):
    """Requests wait in a topic until a rule delivers them."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(pacing, "TURN_S", math.inf)  # no real clock decides what happens, so a run can be repeated
        self.patch.setattr(river, "boottime", lambda: 0.0)
        self.loop = asyncio.new_event_loop()
        self.rig = self.run(Rig.made())
        self.onlooker = self.rig.store.behind = Onlooker(self.rig.memory, self)
        self.sent: list[Sent] = []
        self.bodies: dict[str, list[AnyBody]] = defaultdict(list)
        self.waiting: list[Sent] = []
        self.read = len(self.rig.bus.entries(TOPICS.replies))
        self.told: defaultdict[tuple[str, bytes], list[Told]] = defaultdict(list)
        self.deks: dict[UUID, bytes] = {}
        self.own: dict[tuple[str, bytes], list[bytes]] = {}
        self.revoked: set[str] = set()

    def one(self, data: st.DataObject) -> Sent:
        """A request that was sent. Drawn by its number: hypothesis prints what it draws, and this holds keys."""
        return self.sent[data.draw(st.integers(0, len(self.sent) - 1))]

    def run(self, work: Coroutine[None, None, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def someone_who_may_be_revoked(self) -> None:
        self.temporary = self.run(self.rig.add("temporary"))
        self.read = len(self.rig.bus.entries(TOPICS.replies))

    def send(self, operation: Operation, body: AnyBody, who: str = "billing", id_: str = "") -> Sent:
        identity = {"billing": self.rig.billing, "temporary": self.temporary, "ann": self.rig.ann}[who]
        sent = self.rig.draft(operation, body, identity, id_)
        self.enqueue(sent)
        self.bodies[sent.request.id].append(body)
        return sent

    def enqueue(self, sent: Sent) -> None:
        self.sent.append(sent)
        self.waiting.append(sent)

    def key_rows(self) -> list[Key]:
        return [stored.row for stored in self.rig.memory.rows.values() if isinstance(stored.row, Key)]

    def lift(self) -> None:
        """Two officers lift all disables, at once."""
        for key in [row for row in self.key_rows() if not row.enabled]:
            body = KeyEnableBody(tenant="acme", key=str(key.id), revision=key.disabled_revision)
            self.run(self.rig.command(Operation.KEY_ENABLE, body))

    def disabled(self) -> set[UUID]:
        """Keys under which nothing may work: those that are off, and all below them."""
        rows = sorted(self.key_rows(), key=lambda row: row.layer)
        off: set[UUID] = set()
        for row in rows:
            if not row.enabled or row.parent in off:
                off.add(row.id)
        return off

    def contest(self, shares: Sequence[Sequence[Sent]], late: list[int]) -> None:
        """Two workers at once, neither of which knows of the other. What fails comes again."""
        rivers = [self.rig.river, self.rig.worker()]
        self.onlooker.late = late

        async def both() -> list[list[Verdict] | BaseException]:
            work = [each.run([sent.record for sent in share]) for each, share in zip(rivers, shares, strict=True)]
            return await asyncio.gather(*work, return_exceptions=True)

        before = self.stock()
        results = self.run(both())
        self.onlooker.late = []
        for share, result in zip(shares, results, strict=True):
            assert isinstance(result, (list, *PASSING)), result
            if not isinstance(result, list):
                self.waiting = [self.rig.redelivered(sent) for sent in share] + self.waiting
        self.listen(before)

    def batch(self, batch: Sequence[Sent]) -> None:
        """One batch; when it fails it comes again, as the bus would have it."""
        before = self.stock()
        records = {sent.record.at: sent for sent in batch}
        try:
            verdicts = self.run(self.rig.river.run([sent.record for sent in records.values()]))
        except PASSING:
            self.waiting = [self.rig.redelivered(sent) for sent in batch] + self.waiting
        else:
            for sent, verdict in zip(records.values(), verdicts, strict=True):
                assert verdict is Verdict.DONE or sent.identity.client in self.revoked, sent.request.operation
        self.listen(before)

    def stock(self) -> dict[UUID, int]:
        """What is off now, and what is stored under it."""
        rows = self.rig.rows()
        return {key: sum(count for (owner, _), count in rows.items() if owner == key) for key in self.disabled()}

    def listen(self, before: dict[UUID, int]) -> None:
        """Each new answer must be an attempt's, and agree with all that was said before.

        Under what was off all the time nothing was opened and nothing moved.
        """
        after = self.stock()
        off = before.keys() & after.keys()
        assert {key: before[key] for key in off} == {key: after[key] for key in off}
        entries = self.rig.bus.entries(TOPICS.replies)
        fresh, self.read = entries[self.read :], len(entries)
        attempts: defaultdict[str, list[Sent]] = defaultdict(list)
        for sent in self.sent:
            attempts[sent.request.id].append(sent)
        for entry in fresh:
            id_ = header(entry.headers, "ce_id") or ""
            if id_ not in attempts:
                continue
            found = [(sent, told) for sent in attempts[id_] if (told := self.rig.verified(sent, entry)) is not None]
            assert found, "an answer that is signed for no attempt"
            self.hear(*found[0])
            deks = zip(found[0][1].results, found[0][1].deks, strict=False)
            assert not [dek for result, dek in deks if dek and getattr(result, "key", None) in off]

    def hear(self, sent: Sent, told: Told) -> None:
        place = (sent.request.id, sent.request.body)
        for before in self.told[place]:
            for index, (one, other) in enumerate(zip(before.results, told.results, strict=False)):
                if isinstance(one, Refusal) or isinstance(other, Refusal):
                    continue
                # An unwrap is not ledgered: after a rewrap the same DEK stands under another version.
                assert one == other or sent.request.operation is Operation.UNWRAP, "two successes differ"
                assert (before.deks and before.deks[index]) == (told.deks and told.deks[index])
        self.told[place].append(told)
        body = self.bodies[sent.request.id]
        for index, result in enumerate(told.results):
            if isinstance(result, Wrap) and result.id is not None:
                known = self.own.get(place) or told.deks
                if known:
                    assert self.deks.setdefault(result.id, known[index]) == known[index]
        if sent.request.operation is Operation.UNWRAP and not told.error:
            (asked,) = [each for each in body if isinstance(each, UnwrapBody)]
            for item, result, dek in zip(asked.items, told.results, told.deks, strict=True):
                assert isinstance(result, Refusal) or (item.id is not None and self.deks[item.id] == dek)

    @invariant()
    def the_census_is_the_rows(self) -> None:
        assert self.rig.census() == self.rig.rows()

    @invariant()
    def every_effect_is_one_requests(self) -> None:
        """Rows are exactly what the ledger's outcomes say, and what left is counted."""
        made: list[UUID] = []
        outside: Counter[tuple[UUID, int]] = Counter()
        commands = 0
        for key, entry in self.rig.memory.ledger.items():
            assert entry.operation is not None
            size, kind = len(entry.outcomes), BODIES[entry.operation]
            bodies = [body for body in self.bodies[key.id] if type(body) is kind and len(items_of(body)) == size]
            shows = any(getattr(body, "return_blob", False) for body in bodies)
            for raw in entry.outcomes:
                outcome = None if raw is None else decode(raw)
                if isinstance(outcome, Wrapped) and outcome.id != NO_ID:
                    made.append(outcome.id)
                if isinstance(outcome, Wrapped | Rewrapped) and (shows or outcome.id == NO_ID):
                    outside[outcome.key, outcome.version] += 1
                commands += isinstance(outcome, Commanded) and entry.operation is Operation.KEY_ROTATE
        assert len(made) == len(set(made))
        assert set(made) == set(self.rig.memory.deks)
        assert outside == {place: left for place, (_, left) in self.rig.memory.census.items() if left}
        rows = [stored.row for stored in self.rig.memory.rows.values()]
        versions = [row for row in rows if isinstance(row, Version)]
        assert len(versions) == commands + sum(isinstance(row, Key) for row in rows)
        assert {row.material for row in versions} - {None} == self.rig.token.masters.keys() - self.unused()

    def unused(self) -> set[UUID]:
        """An L1 that was made and whose settle did not come: the next rotation takes it."""
        keys = [stored.row for stored in self.rig.memory.rows.values() if isinstance(stored.row, Key)]
        latest = {key.id: key.latest_version for key in keys}
        found = {label for label, (_, key, number) in self.rig.token.masters.items() if number > latest[key]}
        assert len(found) <= 1
        return found

    def teardown(self) -> None:
        """When all is well again, everything that waits is answered, finally, and opens to what it was."""
        try:
            self.finish()
        finally:
            self.loop.close()
            self.patch.undo()

    def finish(self) -> None:
        for _ in range(3):
            self.lift()
            while self.waiting:
                self.deliver_all()
            self.rig.clock.ms += 1
            latest = {(sent.request.id, sent.request.body): sent for sent in self.sent}
            self.waiting = [self.rig.again(sent) for place, sent in latest.items() if not self.is_final(place, sent)]
            self.sent += self.waiting
        assert not [sent for sent in self.waiting if sent.identity.client not in self.revoked]
        self.waiting = []
        self.the_census_is_the_rows()
        self.every_effect_is_one_requests()
        leaves = b"".join(leaf.body for leaf in self.rig.memory.leaves)
        assert all(id_.encode() in leaves for (id_, _), told in self.told.items() if told)
        self.lift()
        if self.deks:
            ids = sorted(self.deks)
            told = self.run(self.rig.ask(Operation.UNWRAP, UnwrapBody(items=[DekItem(id=one) for one in ids])))
            assert told.deks == [self.deks[one] for one in ids]

    def deliver_all(self) -> None:
        batch, self.waiting = self.waiting, []
        self.batch(batch)

    def is_final(self, place: tuple[str, bytes], sent: Sent) -> bool:
        told = self.told[place]
        if not told:
            return False
        done = [index for one in told for index, code in enumerate(one.codes) if code not in RETRYABLE]
        return set(done) == set(range(sent.request.items)) or any(one.code not in {"", *RETRYABLE} for one in told)
