"""What nobody can carry out holds up nothing that falls due, and a lease belongs to one run of one process."""

import asyncio
import time

from tests.fleet import Fleet, House
from worker.flow.due import AT_ONCE
from worker.model.bodies import KeyRotateBody
from worker.model.control import KeyActivateBody
from worker.model.operations import Operation

_JUNK = """
INSERT INTO keyriver.versions SELECT (jsonb_populate_record(v, jsonb_build_object(
    'key', gen_random_uuid(), 'state', 'pre-active', 'due_ms', g.n))).*
FROM keyriver.versions AS v, generate_series(1, $2::int) AS g (n)
WHERE v.key = (SELECT a.key FROM keyriver.aliases AS a WHERE a.name = $1) AND v.number = 1
"""
_STATE = """
SELECT v.state FROM keyriver.versions AS v JOIN keyriver.aliases AS a ON a.key = v.key
WHERE a.name = $1 AND v.number = 2
"""


async def test_what_is_stuck_holds_up_nothing(fleet: Fleet, house: House) -> None:
    # Given more forged rows than are looked at in one turn, all due long ago
    await fleet.pool.execute(_JUNK, house.key, AT_ONCE + 50)
    # When a real version is to become active
    await fleet.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.key, pre_active=True))
    at_ms = int(time.time() * 1000) + 500
    await fleet.command(Operation.KEY_ACTIVATE, KeyActivateBody(tenant=house.tenant, key=house.key, at_ms=at_ms))
    # Then it does
    deadline = time.monotonic() + 30
    while await fleet.pool.fetchval(_STATE, house.key) != "active":
        assert time.monotonic() < deadline, "the forged rows hold it up"
        await asyncio.sleep(0.05)
    await fleet.pool.execute("DELETE FROM keyriver.versions WHERE due_ms < 1000000")


async def test_a_lease_names_its_run(fleet: Fleet, house: House) -> None:
    # Given a worker that has led its duties
    del house
    runs = {str(row["run"]) for row in await fleet.pool.fetch("SELECT run FROM keyriver.workers")}
    held = [row["holder"] for row in await fleet.pool.fetch("SELECT holder FROM keyriver.duties")]
    # Then each lease names the run: another process with the same host name and number is not taken for it
    assert held
    assert {holder.rpartition("/")[2] for holder in held} <= runs
