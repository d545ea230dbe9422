"""What a process knows of slow answers, and what its bulk work does then."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast
from uuid import uuid4

import pytest
from pydantic import ValidationError

from tests.unit.campaigns.office import Office
from worker.chain.fair import Pace
from worker.cli.campaign_show import draw
from worker.flow import fairness
from worker.flow.fairness import AT_ONCE_ON_TOKEN, BACKED_OFF_S, LATELY_S, BulkHsm, Latencies, Manners, Throttle, Timed
from worker.model.campaigns import CampaignState
from worker.model.fairness import Neighbours
from worker.model.hsm import Condemned, Fault, HsmFault, HsmOp, HsmResult
from worker.model.ids import NO_ID
from worker.model.records import Partition, Record, Verdict
from worker.settings import Settings
from worker.watch import Metrics

OP = cast(HsmOp, None)
"""The token here looks at none."""


@dataclass
class Clock:
    s: float = 100.0

    def __call__(self) -> float:
        return self.s


def record(appended_ms: int) -> Record:
    return Record(Partition("t", 0), 0, None, b"", (), appended_ms, 1)


class Answering:
    async def run(self, records: Sequence[Record]) -> list[Verdict]:
        return [Verdict.DONE for _ in records]

    async def bury(self, record: Record) -> Verdict:  # noqa: ARG002
        return Verdict.DEAD

    async def set_aside(self, record: Record) -> Verdict:  # noqa: ARG002
        return Verdict.UNAUTHENTIC


@dataclass
class Token:
    sizes: list[int] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)

    async def run(self, ops: Sequence[HsmOp], timeout_s: float) -> list[HsmResult]:
        self.sizes.append(len(ops))
        self.timeouts.append(timeout_s)
        await asyncio.sleep(0)
        return [HsmFault(Fault.UNAVAILABLE, "")] * len(ops)

    def drop(self, keys: object) -> None:  # noqa: ARG002
        self.sizes.append(-1)

    def condemn(self, versions: object) -> frozenset[Condemned]:  # noqa: ARG002
        return frozenset({Condemned(NO_ID, 1, 1)})


@dataclass
class Rows:
    seen: Neighbours
    told: list[tuple[int | None, float | None]] = field(default_factory=list)

    async def tell(self, run: object, p99_ms: int | None, pace: float | None) -> None:  # noqa: ARG002
        self.told.append((p99_ms, pace))

    async def neighbours(self) -> Neighbours:
        return self.seen


def test_the_slowest_hundredth_of_the_last_seconds() -> None:
    clock = Clock()
    latencies = Latencies(clock)
    assert latencies.p99_ms() == 0
    latencies.note([-5, *range(1, 100)])
    assert latencies.p99_ms() == 98  # one of a hundred was slower
    latencies.note([500, 600])
    assert latencies.p99_ms() == 500
    clock.s += LATELY_S + 0.1
    assert latencies.p99_ms() == 0


async def test_a_river_is_timed_from_the_broker_on_and_says_what_it_said() -> None:
    latencies = Latencies(Clock())
    timed = Timed(Answering(), latencies)
    assert await timed.run([record(1), record(0)]) == [Verdict.DONE] * 2
    assert latencies.p99_ms() > 10**9  # since 1970; the other one has no time
    assert (await timed.bury(record(1)), await timed.set_aside(record(1))) == (Verdict.DEAD, Verdict.UNAUTHENTIC)


async def test_bulk_work_is_on_the_token_for_short_runs() -> None:
    token = Token()
    hsm = BulkHsm(token, Throttle())
    ops: list[HsmOp] = [OP] * 1000
    assert len(await hsm.run(ops, 3.0)) == 1000
    assert token.sizes == [AT_ONCE_ON_TOKEN] * 3 + [1000 - 3 * AT_ONCE_ON_TOKEN]
    assert sorted(token.timeouts, reverse=True) == token.timeouts
    assert await hsm.run([], 3.0) == []
    hsm.drop(None)
    assert (token.sizes[-1], len(hsm.condemn([]))) == (-1, 1)


async def test_it_rests_until_it_has_kept_to_its_share() -> None:
    clock, slept = Clock(), list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.s += seconds

    throttle = Throttle(share=50, clock=clock, sleep=sleep)
    await throttle.rest("campaigns", clock.s - 1.0, 1.0, 100, 1)
    assert sum(slept) == pytest.approx(1.0)
    slept.clear()
    throttle.looked(Neighbours(0, 2))  # another process came
    await throttle.rest("campaigns", clock.s - 1.0, 1.0, 100, 1)
    assert sum(slept) == pytest.approx(3.0)
    slept.clear()


async def test_two_kinds_of_bulk_work_divide_the_share() -> None:
    clock, slept = Clock(), list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.s += seconds

    throttle = Throttle(share=50, clock=clock, sleep=sleep)
    await throttle.rest("campaigns", clock.s - 0.1, 0.1, 100, 1)
    assert sum(slept) == pytest.approx(0.1)
    slept.clear()
    await throttle.rest("requests", clock.s - 0.1, 0.1, 100, 1)
    assert sum(slept) == pytest.approx(0.3)
    slept.clear()
    clock.s += LATELY_S
    await throttle.rest("requests", clock.s - 0.1, 0.1, 100, 1)  # the campaign is over
    assert sum(slept) == pytest.approx(0.1)


async def test_a_rest_ends_when_the_pace_is_full_again() -> None:
    naps: list[float] = []

    async def sleep(seconds: float) -> None:
        naps.append(seconds)
        throttle.pace = Pace()

    throttle = Throttle(limit_ms=10, pace=Pace(0.5), sleep=sleep)
    await throttle.rest("campaigns", throttle.clock(), 1000.0, 100, 3)
    assert len(naps) == 1


async def test_backing_off_alone_never_takes_long_but_a_share_is_kept_to() -> None:
    clock, slept = Clock(), list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.s += seconds

    throttle = Throttle(pace=Pace(0.125), clock=clock, sleep=sleep)
    await throttle.rest("campaigns", clock.s - 9.0, 9.0, 100, 3)
    assert sum(slept) == pytest.approx(BACKED_OFF_S)
    slept.clear()
    await throttle.rest("campaigns", clock.s - 9.0, 9.0, 50, 3)
    assert sum(slept) == pytest.approx(9.0 * 3 / 0.0625 - 9.0)


def test_slices_are_smaller_while_answers_are_slow() -> None:
    throttle = Throttle()
    assert [throttle.size(whole) for whole in (1000, 20)] == [1000, 20]
    throttle.pace = Pace(0.25)
    assert [throttle.size(whole) for whole in (1000, 200, 20)] == [250, 100, 20]


async def test_a_batch_of_requests_rests_not_longer_than_a_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "LONGEST_REST_S", 0.01)
    hsm = BulkHsm(Token(), Throttle(pace=Pace(1e-9)), 2)
    assert len(await hsm.run([OP], 3.0)) == 1


async def test_processes_tell_and_look_as_their_lanes_need() -> None:
    rows, metrics = Rows(Neighbours(p99_ms=200, bulk=3)), Metrics()
    latencies, throttle = Latencies(Clock()), Throttle(limit_ms=100)
    latencies.note([7])
    await Manners(uuid4(), rows, metrics, latencies, None).turn()
    await Manners(uuid4(), rows, metrics, None, throttle).turn()
    assert rows.told == [(7, None), (None, 0.5)]
    assert (throttle.processes, throttle.part()) == (3, 0.5)
    assert throttle.part(30) == pytest.approx(0.05)
    rows.seen = Neighbours(p99_ms=100, bulk=0)
    await Manners(uuid4(), rows, metrics, latencies, throttle).turn()
    assert rows.told[-1] == (7, 0.5625)
    assert throttle.processes == 1


async def test_one_batch_is_on_the_token_at_a_time_and_who_waits_too_long_goes_undone() -> None:
    class Held(Token):
        def __init__(self) -> None:
            super().__init__()
            self.free, self.inside, self.most = asyncio.Event(), 0, 0

        async def run(self, ops: Sequence[HsmOp], timeout_s: float) -> list[HsmResult]:
            if timeout_s == 0.0:
                return [HsmFault(Fault.UNAVAILABLE)] * len(ops)
            self.inside += 1
            self.most = max(self.most, self.inside)
            await self.free.wait()
            self.inside -= 1
            return await super().run(ops, timeout_s)

    token = Held()
    hsm = BulkHsm(token, Throttle())
    first, second = asyncio.create_task(hsm.run([OP] * 500, 60.0)), asyncio.create_task(hsm.run([OP] * 300, 60.0))
    await asyncio.sleep(0)
    assert await hsm.run([OP, OP], 0.01) == [HsmFault(Fault.UNAVAILABLE)] * 2
    token.free.set()
    assert (len(await first), len(await second)) == (500, 300)
    assert (token.most, token.sizes) == (
        1,
        [AT_ONCE_ON_TOKEN, 500 - AT_ONCE_ON_TOKEN, AT_ONCE_ON_TOKEN, 300 - AT_ONCE_ON_TOKEN],
    )


async def test_what_is_over_is_measured_no_more_and_every_tenant_is_served() -> None:
    office = await Office.opened()
    await office.wrapped(8)
    await office.rotated()
    view = await office.started()
    process = office.process()
    assert isinstance(process.watch, Metrics)
    await process.turn()
    assert (await office.shown(view.id)).state is CampaignState.DONE
    assert str(view.id) not in process.watch.render().decode()


async def test_whoever_watches_is_told_that_it_backs_off(capsys: pytest.CaptureFixture[str]) -> None:
    office = await Office.opened()
    await office.rotated()
    view = await office.started()
    draw(None, view)
    assert "backing off" not in capsys.readouterr().err
    draw(None, view.model_copy(update={"pace": 0.25}))
    assert "backing off" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["bulk_hsm_share", "interactive_p99_ms", "bulk_niceness", "campaign_slices_days"])
def test_a_bad_bound_is_refused_by_the_name_of_its_setting(name: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({name: -1})
    assert name in {error["loc"][0] for error in refused.value.errors()}
