"""A long log is verified in bounded memory. KEYRIVER_TEST_LEAVES=1000000 makes it a million (a minute or two)."""

import json
import os
import subprocess
import sys

from tests.stack import CHECKOUT
from tests.unit.audit.book import FLEET, MemoryKeys, Shelf
from tests.unit.store import fixtures
from tests.unit.store.builders import fresh_id
from tests.unit.store.rooms import value
from worker.edges.store.log import PostgresAuditLog
from worker.edges.store.pool import Pool
from worker.flow.sequencer import Sequencer

pool = fixtures.pool
LEAVES = int(os.environ.get("KEYRIVER_TEST_LEAVES", "50000"))
BODY = 600
"""Bytes, about as those of real leaves: a log held in memory would be a hundred megabytes for every 100,000."""
FILL = """
    INSERT INTO keyriver.leaves (id, tenant, body)
    SELECT gen_random_uuid(), $1, convert_to(rpad(n::text, $3, 'x'), 'UTF8') FROM generate_series(1, $2::int) AS n
"""
PEAK = """
import asyncio, json, resource, sys
from worker.edges.store.log import read_trail
from worker.edges.store.pool import PostgresSettings, connected
from worker.flow.auditing import Hearing, verify

async def main(dsn, fleet, key, *tenants):
    async with connected(PostgresSettings(dsn, pool_size=1)) as pool:
        for tenant in tenants:
            report = await read_trail(pool, lambda trail: verify(trail, Hearing(fleet, bytes.fromhex(key)), tenant))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            megabytes = peak // (1024 if sys.platform == "linux" else 2**20)
            print(json.dumps([report.is_whole, report.verdicts[0].size, megabytes]))

asyncio.run(main(*sys.stdin.read().split(), *sys.argv[1:]))
"""


async def test_memory_does_not_grow_with_the_log(pool: Pool, database: str) -> None:
    keys, log = MemoryKeys(), PostgresAuditLog(pool)
    sequencer = Sequencer(FLEET, "audit", fresh_id(), log, keys, Shelf())
    for tenant, count in (("short", LEAVES // 10), ("long", LEAVES)):
        for start in range(0, count, 10_000):
            arguments = (tenant, min(10_000, count - start), BODY)
            await pool.run(lambda connection, arguments=arguments: connection.execute(FILL, *arguments))  # type: ignore[misc]
            await sequencer.turn()
    while await sequencer.turn():
        pass
    assert await value(pool, "SELECT count(*) FROM keyriver.unsequenced") == 0
    told = f"{database} {FLEET} {keys.signing_key.hex()}"
    command = [sys.executable, "-c", PEAK, "short", "long"]
    done = subprocess.run(command, input=told, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    short, long = (json.loads(line) for line in done.stdout.splitlines())
    assert short[:2] == [True, LEAVES // 10]
    assert long[:2] == [True, LEAVES]
    assert long[2] - short[2] < 16, "megabytes"
