"""Two workers, one sequencer: killed or frozen, another takes over; no leaf is lost, none stands twice."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fleet import Fleet, House
from tests.processes import Member, until
from tests.stack import Services
from tests.tap import Tap
from worker.edges.store.log import read_trail
from worker.edges.store.pool import PostgresSettings, connected
from worker.flow.auditing import Hearing, Report, verify
from worker.local import Token
from worker.model.records import Entry

OURS = re.compile(r"this worker is the audit log's sequencer, epoch (\d+)")


@pytest.fixture
async def pair(stack: Services, kryoptic: Token, tmp_path: Path) -> AsyncIterator[Fleet]:
    """A fleet of two workers, on a token that survives kills."""
    async with Fleet.founded(stack, tmp_path, kryoptic) as founded:
        founded.start()
        founded.start()
        await founded.at_work(2)
        yield founded


def epoch(member: Member) -> int:
    """The last epoch in which it was the sequencer; 0 if it never was."""
    return max(map(int, OURS.findall(member.log)), default=0)


def sequencer(fleet: Fleet) -> Member:
    return max((one for one in fleet.members if one.is_running), key=epoch)


async def test_the_log_has_every_leaf_once(pair: Fleet) -> None:
    house = await pair.tenant()
    stop = asyncio.Event()
    async with pair.tap(pair.topics.audit) as tap:
        using = asyncio.create_task(use(house, stop))
        # When the sequencer is killed, Then the other one goes on
        await until(lambda: epoch(sequencer(pair)) > 0, "one of the two is the sequencer")
        first = sequencer(pair)
        first.kill()
        await until(lambda: epoch(sequencer(pair)) > epoch(first), "the other one is the sequencer")
        await grown(pair, tap)
        # When that one is frozen, and thawed once a third has taken over, Then it does no harm
        pair.start()
        second = sequencer(pair)
        await until(
            lambda: len([one for one in pair.members if epoch(one) or "token is ready" in one.log]) == 3, "a third"
        )
        second.freeze()
        await until(lambda: epoch(newest(pair)) > epoch(second), "the third one is the sequencer")
        second.thaw()
        await grown(pair, tap)
        stop.set()
        await using
        await pair.caught_up()
        leaves = await pair.pool.fetchval("SELECT count(*) FROM keyriver.leaves")
        done = "SELECT count(*) FROM keyriver.log_entries"
        async with asyncio.timeout(60):
            while await pair.pool.fetchval(done) < leaves:
                await asyncio.sleep(0.05)
        # Then every leaf has one place in its tenant's log, and all that was published is of one log
        every = "SELECT count(DISTINCT e.leaf) FROM keyriver.log_entries AS e JOIN keyriver.leaves AS l USING (number)"
        assert await pair.pool.fetchval(every) == leaves
        report = await audited(pair, await tap.to_end())
    assert report.is_whole
    assert report.strays == ()
    assert sum(one.size for one in report.verdicts) >= leaves


def newest(fleet: Fleet) -> Member:
    return max(fleet.members, key=epoch)


async def use(house: House, stop: asyncio.Event) -> None:
    """A client that is at work all the time, whoever dies."""
    while not stop.is_set():
        await house.client.generate(house.key)


async def grown(fleet: Fleet, tap: Tap) -> None:
    """Until something that is written from now on is published in a checkpoint."""
    await tap.to_end()
    before = len(tap.entries)
    await tap.until(lambda entries: len(entries) > before + 1, "a new checkpoint")


async def audited(fleet: Fleet, published: list[Entry]) -> Report:
    identity = fleet.officers[0]
    hearing = Hearing(identity.fleet, identity.fleet_key)
    for entry in published:
        hearing.read(entry.value)
    assert hearing.unread == 0
    dsn = Path(fleet.env["KEYRIVER_POSTGRES_DSN_FILE"]).read_text()
    async with connected(PostgresSettings(dsn, pool_size=1)) as pool:
        return await read_trail(pool, lambda trail: verify(trail, hearing))
