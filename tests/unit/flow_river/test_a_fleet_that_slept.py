"""Private halves of intake keys end with their time, however long nobody was there, in every worker's memory (S4)."""

from dataclasses import replace

from tests.unit.flow_river.rig import Rig
from worker.flow.intakekeys import DAY_MS
from worker.model.rows import IntakeKey
from worker.seal.announcements import SKEW_MS

NOON = 20_000 * DAY_MS + DAY_MS // 2


def rows(rig: Rig) -> dict[int, IntakeKey]:
    found = (stored.row for stored in rig.memory.rows.values() if isinstance(stored.row, IntakeKey))
    return {row.sequence: row for row in found}


async def test_a_fleet_that_slept_for_a_year_deletes_what_it_left() -> None:
    rig = Rig()
    await rig.intake.keep(NOON)
    (old,) = rows(rig).values()
    rig.progress.is_past = True
    await rig.intake.keep(NOON + 365 * DAY_MS)
    assert rows(rig)[old.sequence] == replace(old, wrapped_private=b"", revision=2)
    assert [row.sequence for row in rows(rig).values() if row.wrapped_private] == [old.sequence + 8 * 365]


async def test_no_worker_keeps_a_half_that_another_one_deleted() -> None:
    rig = Rig()
    deleting = rig.intake
    rig.worker()
    other = rig.intake
    assert other is not deleting
    await deleting.keep(NOON)
    (row,) = rows(rig).values()
    assert await other.opener(row) is not None
    rig.progress.is_past = True
    await deleting.keep(row.not_after_ms + 1)
    await other.keep(row.not_after_ms + 1)
    assert row.sequence not in other._openers


async def test_a_half_that_a_backlog_still_needs_is_opened_again() -> None:
    rig = Rig()
    await rig.intake.keep(NOON)
    (row,) = rows(rig).values()
    assert await rig.intake.opener(row) is not None
    await rig.intake.keep(row.not_after_ms + SKEW_MS)
    assert row.sequence not in rig.intake._openers
    assert await rig.intake.opener(rows(rig)[row.sequence]) is not None
