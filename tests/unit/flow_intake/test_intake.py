"""The loop of a lane on the fake bus: what is committed, what comes again, and how it ends."""

import asyncio
from collections.abc import Sequence

import pytest

from tests.unit.flow_intake.lane import BOUNDS, GROUP, TOPIC, Lane, committed, done, fill, until
from worker.flow.intake import Bounds, Intake
from worker.model.records import Closed, Record, Verdict
from worker.ports import StaleEpoch, StoreUnavailable


async def test_all_records_are_run_once_and_committed(lane: Lane) -> None:
    await fill(lane.bus, 10)
    await fill(lane.bus, 3, partition=1)
    async with lane.running():
        await until(lambda: committed(lane.bus) == 10 and committed(lane.bus, 1) == 3)
    assert sorted(lane.river.seen) == sorted([(0, n) for n in range(10)] + [(1, n) for n in range(3)])
    assert (4, Closed.RECORDS) in lane.witness.catches
    assert lane.witness.catches[-1][1] is Closed.EMPTY
    assert lane.witness.finishes == 13


async def test_batches_overlap_up_to_the_limit_and_finish_in_any_order_without_a_hole(lane: Lane) -> None:
    await fill(lane.bus, 20)
    gates = {first: asyncio.Event() for first in (0, 4, 8)}

    async def wait(records: Sequence[Record]) -> list[Verdict]:
        if records[0].offset in gates:
            await gates[records[0].offset].wait()
        return await done(records)

    lane.river.work = wait
    async with lane.running():
        await until(lambda: lane.river.running == 3)
        gates[8].set()
        gates[4].set()
        await until(lambda: (0, 19) in lane.river.seen)
        assert committed(lane.bus) is None, "the first batch is not finished"
        gates[0].set()
        await until(lambda: committed(lane.bus) == 20)
    assert lane.river.most == 3


async def test_a_failed_batch_and_all_later_ones_of_its_partition_come_again(lane: Lane) -> None:
    await fill(lane.bus, 12)
    failing = [True]
    late = asyncio.Event()

    async def work(records: Sequence[Record]) -> list[Verdict]:
        if records[0].offset == 4 and failing.pop():
            raise StoreUnavailable
        if records[0].offset == 8 and not late.is_set():
            await late.wait()
        return await done(records)

    lane.river.work = work
    async with lane.running():
        await until(lambda: bool(lane.witness.failures))
        failing.append(False)
        late.set()
        await until(lambda: committed(lane.bus) == 12)
    assert lane.river.batches.count([8, 9, 10, 11]) == 2, "the later batch was void, though it had finished"
    assert lane.river.batches.count([0, 1, 2, 3]) == 1 or committed(lane.bus) == 12


async def test_a_failure_of_one_partition_leaves_the_other_alone(lane: Lane) -> None:
    await fill(lane.bus, 4)
    failed = asyncio.Event()

    async def work(records: Sequence[Record]) -> list[Verdict]:
        if records[0].partition.number == 0 and not failed.is_set():
            failed.set()
            raise StaleEpoch
        return await done(records)

    lane.river.work = work
    async with lane.running():
        await until(lambda: committed(lane.bus) == 4)
        await fill(lane.bus, 2, partition=1)
        await until(lambda: committed(lane.bus, 1) == 2)
    assert [batch for batch in lane.river.batches if len(batch) == 2] == [[0, 1]]


async def test_an_outage_is_waited_out_with_growing_pauses(lane: Lane) -> None:
    await fill(lane.bus, 4)
    away = [True]

    async def work(records: Sequence[Record]) -> list[Verdict]:
        if away[0]:
            raise StoreUnavailable
        return await done(records)

    lane.river.work = work
    slow = Bounds(max_records=4, first_pause_s=0.02, longest_pause_s=0.1)
    async with lane.running(slow):
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await until(lambda: len(lane.witness.failures) == 4)
        assert loop.time() - begun >= 0.5 * (0.02 + 0.04 + 0.08), "three pauses, each at least half its length"
        away[0] = False
        await until(lambda: committed(lane.bus) == 4)
    assert lane.witness.suspicions == [], "an outage is no record's fault"


async def test_without_bus_or_store_nothing_is_lost_and_the_loop_turns_on(lane: Lane) -> None:
    lane.attempts.is_away = True
    await fill(lane.bus, 4)
    async with lane.running() as (intake, _):
        await until(lambda: len(lane.witness.failures) >= 2)
        lane.attempts.is_away = False
        await until(lambda: committed(lane.bus) == 4)
        lane.bus.is_away = True
        seen = len(lane.witness.failures)
        before = intake.last_turn
        await until(lambda: len(lane.witness.failures) >= seen + 2)
        assert intake.last_turn > before
        lane.bus.is_away = False
        await fill(lane.bus, 1)
        await until(lambda: committed(lane.bus) == 5)


async def test_a_bus_that_is_away_for_the_commit_alone_gets_it_later(lane: Lane) -> None:
    await fill(lane.bus, 1)

    async def work(records: Sequence[Record]) -> list[Verdict]:
        lane.bus.is_away = True
        return await done(records)

    lane.river.work = work
    async with lane.running():
        await until(lambda: len(lane.river.seen) == 1 and len(lane.witness.failures) > 2)
        assert committed(lane.bus) is None
        lane.bus.is_away = False
        await until(lambda: committed(lane.bus) == 1)
    assert lane.river.seen == [(0, 0)]


async def test_a_stop_finishes_and_commits_what_was_begun(lane: Lane) -> None:
    await fill(lane.bus, 4)
    gate = asyncio.Event()

    async def work(records: Sequence[Record]) -> list[Verdict]:
        await gate.wait()
        return await done(records)

    lane.river.work = work
    async with lane.running() as (intake, _):
        await until(lambda: lane.river.running == 1)
        intake.stop()
        await asyncio.sleep(0)
        gate.set()
    assert committed(lane.bus) == 4


async def test_a_stop_does_not_wait_longer_than_its_deadline(lane: Lane) -> None:
    await fill(lane.bus, 4)

    async def work(records: Sequence[Record]) -> list[Verdict]:
        await asyncio.Event().wait()
        return []

    lane.river.work = work
    async with asyncio.timeout(5), lane.running(Bounds(drain_s=0.05)):
        await until(lambda: lane.river.running == 1)
    assert lane.river.running == 0
    assert committed(lane.bus) is None
    assert lane.witness.revocations[-1] == (1, 4)


async def test_a_revoke_drains_commits_and_hands_over_without_a_hole(lane: Lane) -> None:
    await fill(lane.bus, 8)
    await fill(lane.bus, 8, partition=1)
    async with lane.running(), lane.running():
        await until(lambda: committed(lane.bus) == 8 and committed(lane.bus, 1) == 8)
        await fill(lane.bus, 8)
        await fill(lane.bus, 8, partition=1)
        await until(lambda: committed(lane.bus) == 16 and committed(lane.bus, 1) == 16)
    assert sorted(set(lane.river.seen)) == [(p, n) for p in (0, 1) for n in range(16)]


async def test_what_a_frozen_member_finishes_late_is_not_committed(lane: Lane) -> None:
    await fill(lane.bus, 4)
    gate = asyncio.Event()

    async def work(records: Sequence[Record]) -> list[Verdict]:
        await gate.wait()
        return await done(records)

    lane.river.work = work
    async with lane.running() as (_, source):
        await until(lambda: lane.river.running == 1)
        source.expel()
        gate.set()
        await until(lambda: committed(lane.bus) == 4)
    assert len(lane.river.batches) == 2, "it was run again under the new assignment"


async def test_a_fault_of_the_intake_itself_comes_out_of_run(lane: Lane) -> None:
    async with lane.bus.source(GROUP, [TOPIC]) as source:
        intake = Intake(GROUP, source, lane.river, lane.attempts, lane.witness, BOUNDS)

        def broken(records: int, size: int, closed: Closed) -> None:
            raise ZeroDivisionError

        lane.witness.caught = broken  # type: ignore[method-assign]
        await fill(lane.bus, 1)
        with pytest.raises(ZeroDivisionError):
            await intake.run()
