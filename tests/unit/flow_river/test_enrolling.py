"""The first officers are made by `init`; after that one person's word makes no other (S14)."""

import pytest

from tests.unit.flow_river.rig import Rig
from worker.flow.enrolling import Enrolling
from worker.seal.identity import Identity


async def test_init_may_run_again_and_makes_nobody_new() -> None:
    rig = await Rig.made()
    kept: list[Identity] = []
    enrolling = Enrolling(rig.ann.fleet, rig.ann.reply_topic, rig.memory, rig.token.fleet_keys, kept.append)
    assert await enrolling.enrol(["ann", "ben"]) == []
    with pytest.raises(ValueError, match="S14"):
        await enrolling.enrol(["ann", "mallory"])
    assert kept == []
