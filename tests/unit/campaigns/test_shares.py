"""A campaign keeps to its share of the token by resting, and nobody else's work waits for that."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

import pytest

from tests.unit.campaigns.office import Office
from tests.unit.flow_river.rig import CARDS, PAYMENTS
from worker.flow.campaigns import HSM_S, Campaigning
from worker.flow.fairness import Throttle
from worker.model.campaign_bodies import CampaignThrottleBody
from worker.model.campaign_replies import CampaignView
from worker.model.campaigns import CampaignState
from worker.model.hsm import Condemned, HsmOp, HsmResult
from worker.model.operations import Operation
from worker.ports import Hsm


@dataclass
class Slow:
    """A token that takes its time, on a clock that nothing else moves."""

    hsm: Hsm
    takes_s: float = 0.1
    now_s: float = 100.0
    runs: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.now_s

    async def run(self, ops: Sequence[HsmOp], timeout_s: float) -> list[HsmResult]:
        self.now_s += self.takes_s
        self.runs.append(self.now_s)
        return await self.hsm.run(ops, timeout_s)

    def drop(self, keys: Iterable[UUID] | None) -> None:
        self.hsm.drop(keys)

    def condemn(self, versions: Iterable[Condemned]) -> frozenset[Condemned]:
        return self.hsm.condemn(versions)

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(f"the process rested for {seconds} s")


@dataclass
class Bench:
    """Thirty DEKs to move at a tenth of the token, in slices of three."""

    office: Office
    slow: Slow
    process: Campaigning
    view: CampaignView

    async def state(self) -> tuple[CampaignState, int]:
        shown = await self.office.shown(self.view.id)
        return shown.state, shown.moved


@pytest.fixture
async def bench() -> Bench:
    office = await Office.opened()
    await office.wrapped(30)
    await office.rotated()
    process = office.process()
    slow = Slow(process.hsm)
    throttle = Throttle(clock=slow.clock, sleep=slow.sleep)
    process = replace(process, hsm=slow, clock=slow.clock, throttle=throttle)
    return Bench(office, slow, process, await office.started(PAYMENTS, hsm_share=10))


async def test_others_go_on_while_it_rests(bench: Bench) -> None:
    # Given another campaign that may have the whole token
    await bench.office.wrapped(30, CARDS)
    await bench.office.rotated(CARDS)
    other = await bench.office.started(CARDS)
    # When the process works until there is nothing to do now, Then only the one that rests is not done
    await bench.process.turn()
    assert (await bench.office.shown(other.id)).state is CampaignState.DONE
    state, moved = await bench.state()
    assert (state, moved < 30) == (CampaignState.RUNNING, True)


async def test_it_has_its_tenth_and_not_more(bench: Bench) -> None:
    began = bench.slow.now_s
    while (await bench.state())[0] is not CampaignState.DONE:
        await bench.process.turn()
        bench.slow.now_s += 0.2
        on_token = bench.slow.takes_s * len(bench.slow.runs)
        # What is on the token at once is paid for afterwards: one slice of each lane.
        assert on_token <= (bench.slow.now_s - began) / 10 + 3 * bench.slow.takes_s
    assert bench.slow.now_s - began < 15


async def test_another_share_counts_at_once(bench: Bench) -> None:
    await bench.process.turn()
    assert (await bench.state())[0] is CampaignState.RUNNING
    body = CampaignThrottleBody(tenant="acme", campaign=bench.view.id)
    await bench.office.view(Operation.CAMPAIGN_THROTTLE, body)
    await bench.process.turn()
    assert await bench.state() == (CampaignState.DONE, 30)


async def test_who_stood_still_was_not_on_the_token(bench: Bench) -> None:
    bench.slow.takes_s = 3600.0
    await bench.process.turn()
    bench.slow.takes_s = 0.1
    bench.slow.now_s += 3 * HSM_S * 10
    await bench.process.turn()
    assert (await bench.state())[1] > 9
