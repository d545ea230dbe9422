"""What the model check of campaigns stands on: a store with a gate, processes that stand still, and the invariants."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from itertools import count
from typing import TypeVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from tests.unit.flow_river.parts import Sent
from tests.unit.flow_river.rig import FLEET, PAYMENTS, Rig
from worker.chain import blob
from worker.chain.campaigns import Turn
from worker.chain.lifecycle import Use, Who
from worker.chain.resolve import Chains, Usable
from worker.client.answers import Refusal, Wrap
from worker.edges.store.fake import FakeStore
from worker.flow.campaign_verify import Verifying
from worker.flow.campaigns import Campaigning
from worker.flow.failpoints import NONE
from worker.flow.standing import Standings
from worker.flow.trust import Trust
from worker.flow.uses import Uses
from worker.model.bodies import WrapBody, WrapItem
from worker.model.campaign_bodies import (
    CampaignCancelBody,
    CampaignPauseBody,
    CampaignReplayBody,
    CampaignResumeBody,
    CampaignStartBody,
    CampaignThrottleBody,
)
from worker.model.campaign_replies import CampaignResult
from worker.model.campaigns import Campaign, CampaignState, Leased
from worker.model.effects import FinishSlice, MoveDeks, PutRow, Settled, Settlement, Settling
from worker.model.facts import Answer, Question
from worker.model.hsm import UnwrapDek, UnwrappedDek
from worker.model.operations import Operation
from worker.model.rows import Alias, Dek, Key, RowRef, Table, Version
from worker.watch import Metrics

T = TypeVar("T")
Task = asyncio.Future[object]
SIZES = (3, 2)
TURNS = {
    Operation.CAMPAIGN_PAUSE: CampaignPauseBody,
    Operation.CAMPAIGN_RESUME: CampaignResumeBody,
    Operation.CAMPAIGN_CANCEL: CampaignCancelBody,
    Operation.CAMPAIGN_REPLAY: CampaignReplayBody,
    Operation.CAMPAIGN_THROTTLE: CampaignThrottleBody,
}


class Gate:
    """A store before which some tasks stand still, and which counts what moves."""

    def __init__(self, store: FakeStore) -> None:
        self._store = store
        self.closed: set[Task] = set()
        self.waiting: dict[Task, asyncio.Event] = {}
        self.moves: Counter[tuple[UUID, UUID]] = Counter()
        self.replaced: list[Dek] = []

    async def know(self, question: Question) -> Answer:
        return await self._store.know(question)

    async def settle(self, settlements: Sequence[Settlement]) -> list[Settling]:
        task = asyncio.current_task()
        if task is not None and task in self.closed:
            self.closed.discard(task)
            opened = self.waiting[task] = asyncio.Event()
            try:
                await opened.wait()
            finally:
                del self.waiting[task]
        at_work = {id_ for _, id_ in await self._store.slices.at_work()}
        before = dict(self._store.deks)
        results = await self._store.settle(settlements)
        for settlement, result in zip(settlements, results, strict=True):
            if isinstance(result, Settled):
                self._count(settlement, at_work)
        self.replaced += [dek for id_, dek in before.items() if self._store.deks[id_] != dek]
        return results

    def _count(self, settlement: Settlement, at_work: set[UUID]) -> None:
        done = [effect.slice.campaign for effect in settlement.effects if isinstance(effect, FinishSlice)]
        assert set(done) <= at_work, "a slice of a campaign that was stopped left something"
        for effect in settlement.effects:
            if isinstance(effect, MoveDeks):
                self.moves.update((campaign, id_) for campaign in done for id_ in effect.ids)
            elif isinstance(effect, PutRow) and isinstance(effect.row, Campaign):
                self._check_done(effect.row)

    def _check_done(self, row: Campaign) -> None:
        place = (row.key, row.from_version)
        if row.state is CampaignState.DONE:
            assert not [dek for dek in self._store.deks.values() if (dek.key, dek.version) == place]


class CampaignModel(RuleBasedStateMachine):
    """Any number of processes on one service key: what rules do, and what must hold whatever they did."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.rig = self.run(Rig.made())
        self.gate = Gate(self.rig.memory)
        self.rig.store.behind = self.gate
        self.deks: dict[UUID, bytes] = {}
        self.numbers = count()
        self.whole: dict[UUID, Dek] = {}
        """Damaged rows as they were."""
        self.tasks: list[tuple[Task, Sent | None]] = []
        (alias,) = [stored.row for ref, stored in self.rig.memory.rows.items() if ref.key == PAYMENTS]
        assert isinstance(alias, Alias)
        self.key = alias.key

    def run(self, work: Coroutine[None, None, T]) -> T:
        return self.loop.run_until_complete(work)

    def process(self) -> Campaigning:
        """Another process of the bulk lane."""
        rig, token = self.rig, self.rig.token
        standings = Standings(rig.store, Trust(token.fleet_keys), token.fleet_keys)
        verifying = Verifying(FLEET, "p", rig.memory.slices, standings, token.fleet_keys, rig.memory)
        uses = Uses(rig.memory)
        return Campaigning("p", rig.memory.slices, standings, token.hsm, uses, verifying, NONE, Metrics(), sizes=SIZES)

    def campaigns(self) -> list[Campaign]:
        rows = [stored.row for stored in self.rig.memory.rows.values()]
        return sorted(
            (row for row in rows if isinstance(row, Campaign)), key=lambda row: (row.from_version, row.to_version)
        )

    def one(self, data: st.DataObject) -> Campaign:
        found = self.campaigns()
        return found[data.draw(st.integers(0, len(found) - 1))]

    async def stepped(self, task: Task) -> None:
        """Let it run until it stands before its settle, or is over."""
        while not task.done() and task not in self.gate.waiting:
            await asyncio.sleep(0)

    async def begun(self, work: Coroutine[None, None, object], sent: Sent | None = None) -> None:
        task = asyncio.ensure_future(work)
        self.gate.closed.add(task)
        await self.stepped(task)
        self.gate.closed.discard(task)
        if task.done():
            self.over(task, sent)
        else:
            self.tasks.append((task, sent))

    def over(self, task: Task, sent: Sent | None) -> None:
        task.result()
        if sent is not None:
            self.remember(sent)

    def remember(self, sent: Sent) -> None:
        told = self.rig.told(sent)[-1]
        for one, dek in zip(told.results, told.deks, strict=False):
            if isinstance(one, Wrap) and one.id is not None:
                self.deks[one.id] = dek

    def wrapping(self, number: int) -> Sent:
        body = WrapBody(key=PAYMENTS, items=[WrapItem() for _ in range(number)], return_dek=True)
        self.rig.clock.ms += 1
        return self.rig.draft(Operation.WRAP, body, id_=f"w{next(self.numbers)}")

    def started(self, version: int, items_s: int = 0) -> None:
        body = CampaignStartBody(tenant="acme", key=PAYMENTS, from_version=version, items_s=items_s)
        (done,) = self.run(self.rig.ask(Operation.CAMPAIGN_START, body, self.rig.ann)).results
        assert not isinstance(done, Refusal)

    def active(self) -> int:
        row = self.rig.memory.rows[RowRef(Table.KEYS, str(self.key))].row
        assert isinstance(row, Key)
        return row.active_version

    async def leased(self, campaign: Campaign) -> bool:
        if campaign.state is CampaignState.VERIFYING:
            await self.begun(self.process().verifying.turn(campaign.id))
            return True
        if campaign.state is not CampaignState.RUNNING:
            return False
        got = await self.rig.memory.slices.lease(campaign, of_deks=True, holder="p", seconds=5.0, size=SIZES[0])
        if got.slice is not None:
            await self.begun(self.process()._slice(got.slice))
        elif got.leased is Leased.OVER:
            await self.begun(self.process()._turn(campaign.id, Turn.VERIFY))
        return got.leased is not Leased.WAIT

    def repaired(self, id_: UUID) -> None:
        self.rig.memory.deks[id_] = self.whole.pop(id_)

    def restored(self, old: Dek) -> None:
        now, census = self.rig.memory.deks[old.id], self.rig.memory.census
        for place, by in (((old.key, old.version), 1), ((now.key, now.version), -1)):
            stored, outside = census.get(place, (0, 0))
            census[place] = (stored + by, outside)
        self.rig.memory.deks[old.id] = old
        for row in self.campaigns():
            del self.gate.moves[row.id, old.id]

    async def worked_off(self, id_: UUID) -> None:
        """Every slice of the campaign is done."""
        for _ in range(100):
            row = self.campaign(id_)
            if row.state is not CampaignState.RUNNING:
                return
            self.rig.clock.ms += 6000
            await self.leased(row)
            await self.let_go()

    def campaign(self, id_: UUID) -> Campaign:
        (row,) = [row for row in self.campaigns() if row.id == id_]
        return row

    def restorable(self) -> list[Dek]:
        rows = [stored.row for stored in self.rig.memory.rows.values()]
        kept = {(row.key, row.number) for row in rows if isinstance(row, Version) and not row.retired_ms}
        now = self.rig.memory.deks
        found = [
            dek for dek in self.gate.replaced if (dek.key, dek.version) in kept and now[dek.id].version > dek.version
        ]
        return sorted((dek for dek in found if dek.id not in self.whole), key=lambda dek: (dek.id, dek.version))

    @invariant()
    def the_census_says_what_the_rows_are(self) -> None:
        assert self.rig.census() == self.rig.rows()

    @invariant()
    def nothing_is_lost_and_nothing_moves_twice(self) -> None:
        assert set(self.deks) <= set(self.rig.memory.deks)
        assert not [move for move, times in self.gate.moves.items() if times > 1]

    @invariant()
    def what_is_retired_is_empty(self) -> None:
        rows = [stored.row for stored in self.rig.memory.rows.values()]
        empty = {(row.key, row.number) for row in rows if isinstance(row, Version) and row.retired_ms}
        assert not [dek for dek in self.rig.memory.deks.values() if (dek.key, dek.version) in empty]

    def teardown(self) -> None:
        """Everybody goes on: every old version is emptied; what is damaged is listed, and after a repair it moves."""
        try:
            self.finish()
        finally:
            for task, _ in self.tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()

    def finish(self) -> None:
        while self.tasks:
            task, sent = self.tasks.pop()
            self.gate.waiting[task].set()
            self.run(asyncio.wait_for(asyncio.shield(task), 60))
            self.over(task, sent)
        self.run(self.emptied())
        self.the_census_says_what_the_rows_are()
        old = {dek.id for dek in self.rig.memory.deks.values() if dek.version < self.active()}
        assert old <= set(self.whole)
        damaged = {str(id_) for id_, dek in self.whole.items() if dek.version < self.active()}
        listed = self.rig.memory.slices.failures
        mine = [row for row in self.campaigns() if row.to_version == self.active()]
        assert {item for row in mine for item in listed.get(row.id, {})} == damaged
        for id_ in list(self.whole):
            self.repaired(id_)
        self.run(self.emptied())
        self.the_census_says_what_the_rows_are()
        self.nothing_is_lost_and_nothing_moves_twice()
        self.what_is_retired_is_empty()
        assert all(dek.version == self.active() for dek in self.rig.memory.deks.values())
        assert self.run(self.opened()) == {id_: self.deks.get(id_) for id_ in self.rig.memory.deks if id_ in self.deks}

    async def emptied(self) -> None:
        """A campaign for every old version runs to its end."""
        for version in range(1, self.active()):
            body = CampaignStartBody(tenant="acme", key=PAYMENTS, from_version=version)
            (told,) = (await self.rig.ask(Operation.CAMPAIGN_START, body, self.rig.ann)).results
            assert isinstance(told, CampaignResult)
            for what, kind in TURNS.items():
                if what in (Operation.CAMPAIGN_RESUME, Operation.CAMPAIGN_REPLAY, Operation.CAMPAIGN_THROTTLE):
                    await self.rig.ask(what, kind(tenant="acme", campaign=told.campaign.id), self.rig.ann)
            for _ in range(200):
                row = self.campaign(told.campaign.id)
                if row.state not in (CampaignState.RUNNING, CampaignState.VERIFYING):
                    break
                self.rig.clock.ms += 6000
                await self.leased(row)
                await self.let_go()
            assert row.state in (CampaignState.DONE, CampaignState.FAILED)
            assert (row.state is CampaignState.FAILED) == bool(self.rig.memory.slices.failures.get(row.id))

    async def let_go(self) -> None:
        """Everybody settles."""
        for task, sent in self.tasks:
            self.gate.waiting[task].set()
            await task
            self.over(task, sent)
        self.tasks.clear()

    async def opened(self) -> dict[UUID, bytes]:
        """What every stored DEK is."""
        store, trust = self.rig.memory, Trust(self.rig.token.fleet_keys)
        question = Question(tenants=frozenset({"acme"}), trees=frozenset({self.key}))
        facts = await trust.verified(await store.know(question))
        chains, found = Chains(facts), {}
        for id_, dek in store.deks.items():
            usable = chains.usable(facts.keys[self.key], dek.version, Use.UNWRAP, Who.CAMPAIGN)
            assert isinstance(usable, Usable)
            parsed = blob.parse(dek.blob)
            op = UnwrapDek(usable.kek, blob.aad(parsed.header, "acme"), parsed.nonce, parsed.ciphertext)
            (result,) = await self.rig.token.hsm.run([op], 1.0)
            assert isinstance(result, UnwrappedDek)
            if id_ in self.deks:
                found[id_] = result.dek
        return found
