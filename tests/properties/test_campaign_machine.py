"""Slices, leases, crashes, pauses, rotations and callers' writes in any order: nothing is lost, nothing moves twice.

The flow is the real one; store and token are in memory. A slice or a wrap stands still right before its settle until a
rule lets it go on, or ends its process. In the end every campaign is done, with nothing left, or lists what is damaged.
"""

import asyncio
from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from tests.properties.campaign_model import TURNS, CampaignModel
from tests.unit.flow_river.rig import PAYMENTS
from worker.model.bodies import KeyRotateBody, RewrapBody, RewrapItem
from worker.model.campaigns import CampaignState
from worker.model.fields import Reason
from worker.model.operations import Operation
from worker.model.records import Verdict


class CampaignMachine(CampaignModel):
    """Rules send, deliver, kill, damage and repair."""

    @initialize(number=st.integers(1, 8))
    def some(self, number: int) -> None:
        self.wrap(number)

    @rule(number=st.integers(1, 5))
    def wrap(self, number: int) -> None:
        sent = self.wrapping(number)
        assert self.run(self.rig.run(sent)) == [Verdict.DONE]
        self.remember(sent)

    @rule(number=st.integers(1, 3))
    def wrap_and_settle_late(self, number: int) -> None:
        """What was decided under a version that is old by then is decided anew (D2 b)."""
        sent = self.wrapping(number)
        self.run(self.begun(self.rig.worker().run([sent.record]), sent))

    @rule(reason=st.sampled_from((Reason.OPERATOR, Reason.COMPROMISE)))
    def rotate(self, reason: Reason) -> None:
        body = KeyRotateBody(tenant="acme", key=PAYMENTS, reason=reason)
        self.run(self.rig.command(Operation.KEY_ROTATE, body))

    @precondition(lambda self: self.active() > 1)
    @rule(data=st.data(), items_s=st.sampled_from((0, 10)))
    def start(self, data: st.DataObject, items_s: int) -> None:
        version = data.draw(st.integers(1, self.active() - 1))
        self.started(version, items_s)

    @precondition(lambda self: self.campaigns())
    @rule(data=st.data(), what=st.sampled_from(sorted(TURNS)))
    def command(self, data: st.DataObject, what: Operation) -> None:
        body = TURNS[what](tenant="acme", campaign=self.one(data).id)
        self.run(self.rig.ask(what, body, self.rig.ann))

    @precondition(lambda self: self.campaigns())
    @rule(data=st.data())
    def lease(self, data: st.DataObject) -> None:
        """A process takes a slice and stands before its settle; or all are done, and the campaign goes on."""
        self.run(self.leased(self.one(data)))

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        task, sent = self.tasks.pop(data.draw(st.integers(0, len(self.tasks) - 1)))
        self.gate.waiting[task].set()
        self.run(asyncio.wait_for(asyncio.shield(task), 60))
        self.over(task, sent)

    @precondition(lambda self: any(sent is None for _, sent in self.tasks))
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        mine = [place for place, (_, sent) in enumerate(self.tasks) if sent is None]
        task, _ = self.tasks.pop(mine[data.draw(st.integers(0, len(mine) - 1))])
        task.cancel()
        self.run(asyncio.wait({task}))

    @rule(seconds=st.integers(1, 7))
    def time_passes(self, seconds: int) -> None:
        self.rig.clock.ms += 1000 * seconds

    @precondition(lambda self: self.deks)
    @rule(data=st.data())
    def rewrap(self, data: st.DataObject) -> None:
        """A caller moves some himself."""
        ids = data.draw(st.lists(st.sampled_from(sorted(self.deks)), min_size=1, max_size=3))
        body = RewrapBody(items=[RewrapItem(id=one) for one in ids])
        self.run(self.rig.ask(Operation.REWRAP, body))

    @precondition(lambda self: len(self.deks) > len(self.whole))
    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        id_ = data.draw(st.sampled_from(sorted(set(self.deks) - set(self.whole))))
        held = self.rig.memory.deks[id_]
        self.whole[id_] = held
        spot = data.draw(st.sampled_from((-1, 30, 60)))
        bad = bytearray(held.blob)
        bad[spot] ^= 1
        self.rig.memory.deks[id_] = replace(held, blob=bytes(bad))

    @precondition(lambda self: self.whole)
    @rule(data=st.data())
    def repair(self, data: st.DataObject) -> None:
        self.repaired(data.draw(st.sampled_from(sorted(self.whole))))

    @precondition(lambda self: self.restorable())
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        """An operator brings a row back from a backup, counters included, that had been moved away from a version."""
        old = data.draw(st.sampled_from(self.restorable()))
        self.restored(old)

    @precondition(lambda self: any(row.state is CampaignState.RUNNING for row in self.campaigns()))
    @rule(data=st.data(), when=st.sampled_from(("before the look", "after it")))
    def restore_at_the_end(self, data: st.DataObject, when: str) -> None:
        """The same, while a campaign looks whether all is done."""
        running = [row.id for row in self.campaigns() if row.state is CampaignState.RUNNING]
        id_ = data.draw(st.sampled_from(running))
        self.run(self.worked_off(id_))
        if self.campaign(id_).state is not CampaignState.VERIFYING:
            return
        mine = [dek for dek in self.restorable() if dek.version == self.campaign(id_).from_version]
        if when == "before the look" and mine:
            self.restored(mine[0])
        self.run(self.leased(self.campaign(id_)))
        if when == "after it" and mine:
            self.restored(mine[0])
        self.run(self.let_go())
        if mine:
            assert self.campaign(id_).state is not CampaignState.DONE
            assert self.campaign(id_).state is not CampaignState.FAILED or self.rig.memory.slices.failures.get(id_)


CampaignMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestCampaigns = CampaignMachine.TestCase
