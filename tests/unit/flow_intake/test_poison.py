"""Dead-letter limits and records that kill (D5), on the fake bus."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from tests.unit.flow_intake.lane import BOUNDS, TOPIC, Lane, committed, done, fill, until
from worker.flow.intake import Bounds
from worker.model.records import Partition, Record, Verdict
from worker.ports import StoreUnavailable


async def test_authentic_dead_letters_in_a_row_stop_a_partition_and_readiness(lane: Lane) -> None:
    await fill(lane.bus, 12)
    await fill(lane.bus, 2, partition=1)

    async def work(records: Sequence[Record]) -> list[Verdict]:
        return [Verdict.DEAD if record.partition.number == 0 else Verdict.DONE for record in records]

    lane.river.work = work
    async with lane.running(Bounds(max_records=1, in_flight=1, dead_letters=5, commit_every_s=0.001)) as (intake, _):
        await until(lambda: bool(lane.witness.stops) and committed(lane.bus, 1) == 2)
        assert not intake.is_ready
        assert lane.witness.stops == [Partition(TOPIC, 0)]
        await fill(lane.bus, 1, partition=1)
        await until(lambda: committed(lane.bus, 1) == 3)
    assert committed(lane.bus) == 5
    assert [offset for partition, offset in lane.river.seen if partition == 0] == [0, 1, 2, 3, 4]


async def test_a_good_record_ends_the_row_and_an_unauthentic_one_does_not_count(lane: Lane) -> None:
    await fill(lane.bus, 12)
    verdicts = [Verdict.DEAD, Verdict.UNAUTHENTIC, Verdict.DEAD, Verdict.DONE] * 3

    async def work(records: Sequence[Record]) -> list[Verdict]:
        return [verdicts[record.offset] for record in records]

    lane.river.work = work
    async with lane.running(Bounds(dead_letters=3, commit_every_s=0.001)) as (intake, _):
        await until(lambda: committed(lane.bus) == 12)
        assert intake.is_ready


async def test_after_three_deaths_records_are_run_one_at_a_time(lane: Lane) -> None:
    await fill(lane.bus, 14)
    for _ in range(3):
        await lane.die()
    lane.river.batches.clear()
    async with lane.running():
        await until(lambda: committed(lane.bus) == 14)
    assert lane.river.batches[:12] == [[offset] for offset in range(12)], "all that three batches of four reached"
    assert lane.river.batches[12] == [12, 13]
    assert lane.witness.suspicions == [(offset, 1) for offset in range(12)]
    assert not lane.attempts.markers
    assert lane.river.buried == []


async def test_a_record_that_dies_three_times_alone_is_buried(lane: Lane) -> None:
    await fill(lane.bus, 5)
    for _ in range(6):
        await lane.die()
    async with lane.running():
        await until(lambda: committed(lane.bus) == 5)
    assert lane.river.buried == [2]
    assert [times for offset, times in lane.witness.suspicions if offset == 2] == [1, 2, 3, 4]
    assert max(times for offset, times in lane.witness.suspicions if offset != 2) == 1, "no neighbour is blamed"


async def test_a_record_that_always_raises_is_buried_too_and_its_neighbours_live(lane: Lane) -> None:
    await fill(lane.bus, 6)

    async def work(records: Sequence[Record]) -> list[Verdict]:
        if any(record.offset == 2 for record in records):
            raise ZeroDivisionError
        return await done(records)

    lane.river.work = work
    async with lane.running():
        await until(lambda: committed(lane.bus) == 6)
    assert lane.river.buried == [2]
    assert {offset for _, offset in lane.river.seen} == {0, 1, 3, 4, 5}


async def test_an_outage_while_alone_is_not_blamed_on_the_record(lane: Lane) -> None:
    await fill(lane.bus, 3)
    for _ in range(3):
        await lane.die()
    outages = [StoreUnavailable] * 5

    async def work(records: Sequence[Record]) -> list[Verdict]:
        if outages:
            raise outages.pop()
        return await done(records)

    lane.river.work = work
    async with lane.running():
        await until(lambda: committed(lane.bus) == 3)
    assert lane.river.buried == []


async def test_a_shutdown_that_does_not_wait_for_it_is_no_death_of_a_record_alone(lane: Lane) -> None:
    await fill(lane.bus, 3)
    for _ in range(3):
        await lane.die()

    async def outlasts(records: Sequence[Record]) -> list[Verdict]:
        await asyncio.Event().wait()
        return await done(records)

    lane.river.work = outlasts
    for _ in range(4):
        lane.river.batches.clear()
        async with lane.running(replace(BOUNDS, drain_s=0.0)):
            await until(lambda: bool(lane.river.batches))
        assert not +lane.attempts.markers
    assert {times for _, times in lane.witness.suspicions} == {1}


async def test_a_burial_that_kills_too_ends_in_setting_aside_unopened(lane: Lane) -> None:
    await fill(lane.bus, 3)
    for _ in range(3):
        await lane.die()
    lane.attempts.markers[Partition(TOPIC, 0), 1] = 6
    async with lane.running():
        await until(lambda: committed(lane.bus) == 3)
    assert lane.river.set_aside_ == [1]


async def test_an_idle_partition_that_is_given_back_is_no_death(lane: Lane) -> None:
    await fill(lane.bus, 1)
    lane.attempts.assignments[Partition(TOPIC, 0)] = (0, 2)

    async def work(records: Sequence[Record]) -> list[Verdict]:
        raise StoreUnavailable

    lane.river.work = work
    async with lane.running():
        await until(lambda: len(lane.witness.failures) > 1)
    assert lane.attempts.released_ == [Partition(TOPIC, 0)]


async def test_progress_forgets_the_deaths(lane: Lane) -> None:
    await fill(lane.bus, 4)
    lane.attempts.assignments[Partition(TOPIC, 0)] = (0, 1)
    async with lane.running():
        await until(lambda: committed(lane.bus) == 4)
        await until(lambda: lane.attempts.released_ == [Partition(TOPIC, 0)])
