"""An officer moves every stored DEK to a new version while everything fails: nothing is lost, doubled or passed over.

Workers are killed and frozen, broker and database lose their power, the campaign is paused and goes on, two clients
read and write all the time. What happens when follows from a seed: KEYRIVER_STORM_SEED; KEYRIVER_STORM_DEKS is the
size of the long ones. `make test` has both campaigns, sound and damaged, in one short storm.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

import asyncpg
import pytest

from tests.faults.remembered import Memory
from tests.faults.weather import Weather, supervised
from tests.fleet import Fleet
from tests.stack import Services
from tests.stories.campaigning import certified, failures, retired, rotated, shown, started
from tests.stories.test_an_auditor_misses_nothing_when_the_sequencer_dies import audited
from worker.chain.slices import SLICE
from worker.local import Stack, Token
from worker.model.campaign_bodies import (
    CampaignCommand,
    CampaignPauseBody,
    CampaignReplayBody,
    CampaignResumeBody,
    CampaignThrottleBody,
)
from worker.model.campaign_replies import CampaignView
from worker.model.campaigns import CampaignState
from worker.model.operations import Operation
from worker.model.topics import Lane, dead_letter_topic

SEED = int(os.environ.get("KEYRIVER_STORM_SEED", "4711"))
MANY = int(os.environ.get("KEYRIVER_STORM_DEKS", "500000"))
PATIENCE_S = 240.0
FROZEN_S = 7.0
"""Past a session and past a slice's lease, or not."""
STEP_S = 0.25
OLD, NEW = 1, 2
STRETCHES = 12
POSTS = ([Lane.BULK], [Lane.BULK], [Lane.CONTROL, Lane.INTERACTIVE], [Lane.CONTROL, Lane.INTERACTIVE])
BURST_S = 1.0
"""What the throttle lets a campaign catch up after it stood still."""
DAMAGE = (
    "set_byte(blob, length(blob) - 1, 255 - get_byte(blob, length(blob) - 1))",  # the tag
    "set_byte(blob, 60, 255 - get_byte(blob, 60))",  # the ciphertext
    "set_byte(blob, 45, 255 - get_byte(blob, 45))",  # the nonce
    "set_byte(blob, 39, 255 - get_byte(blob, 39))",  # the DEK's id in the header
    "set_byte(blob, 10, 255 - get_byte(blob, 10))",  # the key's
    "set_byte(blob, 1, 0)",  # the magic
    "substr(blob, 1, length(blob) - 7)",  # cut off
    "'\\x'::bytea",  # nothing
)
"""What a database's owner does to a blob."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many DEKs, in slices of how many; a strike at such intervals; for each campaign, how many damaged rows.

    `items_s`: the throttle as long as deeds are done, so low that nothing is over before they are, and the one after.
    """

    deks: int
    items_s: tuple[int, int]
    slice_items: int
    strikes_s: tuple[float, float]
    planted: tuple[int, ...]

    def place(self, number: int) -> int:
        """When so many are moved, the deed of this number is done."""
        return number * self.deks // STRETCHES

    def least_s(self, deeds: int) -> float:
        """What the throttle alone makes of so many deeds: a slice starts when those before it are paid for."""
        return (self.place(deeds) - self.slice_items) / self.items_s[0] - BURST_S


SHORT = Size(1500, (60, 300), 50, (0.7, 2.0), (0, 50))
LONG = [Size(MANY, (MANY // 200, MANY // 50), 1000, (1.5, 4.0), (planted,)) for planted in (0, 50)]


@dataclass
class Undertaking:
    """One campaign, its DEKs, and the rows that somebody damaged: what they were."""

    weather: Weather
    memory: Memory
    size: Size
    campaign: CampaignView | None = None
    kept: dict[UUID, bytes] = field(default_factory=dict, repr=False)
    spoken: list[float] = field(default_factory=list)
    """When the throttle was set, by the database's clock."""

    @property
    def fleet(self) -> Fleet:
        return self.weather.fleet

    @property
    def view(self) -> CampaignView:
        assert self.campaign is not None
        return self.campaign

    async def plant(self, count: int) -> None:
        """Damage so many rows in the database, each way in turn; one gets another row's blob, one another label."""
        memory, pool = self.memory, self.fleet.pool
        memory.broken = set(memory.chance.sample(memory.ids, count))
        rows = await pool.fetch("SELECT id, blob FROM keyriver.deks WHERE id = ANY($1)", list(memory.broken))
        self.kept = {UUID(int=row["id"].int): row["blob"] for row in rows}
        for place, id_ in enumerate(self.kept):
            how = DAMAGE[place % len(DAMAGE)]
            await pool.execute(f"UPDATE keyriver.deks SET blob = {how} WHERE id = $1", id_)  # noqa: S608
        first, second, *_ = self.kept
        whole = next(id_ for id_ in memory.ids if id_ not in memory.broken)
        other = "UPDATE keyriver.deks SET blob = (SELECT o.blob FROM keyriver.deks AS o WHERE o.id = $2) WHERE id = $1"
        await pool.execute(other, first, whole)
        label = "UPDATE keyriver.deks SET blob = $2, version = $3 WHERE id = $1"
        await pool.execute(label, second, self.kept[second], NEW)

    async def repair(self) -> None:
        """Put the old bytes back."""
        whole = "UPDATE keyriver.deks SET blob = $2, version = $3 WHERE id = $1"
        async with self.weather.power:
            await self.fleet.pool.executemany(whole, [(id_, blob, OLD) for id_, blob in self.kept.items()])
        self.memory.broken.clear()

    async def begin(self) -> None:
        """Rotate, start, and then set the speed by its command."""
        house = self.memory.house
        await rotated(self.fleet, house)
        self.campaign = await started(self.fleet, house, items_s=1)
        await self.throttle(self.size.items_s[0])

    async def throttle(self, items_s: int) -> None:
        async with self.weather.power:
            self.spoken.append(await self.fleet.pool.fetchval("SELECT extract(EPOCH FROM clock_timestamp())::float8"))
        await self.order(Operation.CAMPAIGN_THROTTLE, CampaignThrottleBody, items_s=items_s)

    async def order(self, operation: Operation, kind: type[CampaignCommand], **words: object) -> None:
        body = kind.model_validate({"tenant": self.view.tenant, "campaign": self.view.id} | words)
        await self.fleet.command(operation, body)

    async def live(self, deeds: list[str]) -> None:
        """Let it run; at each stretch of its way one of the deeds is done."""
        for number, deed in enumerate(deeds, 1):
            await self.reaches(self.size.place(number))
            if deed == "pause":
                await self.pause()
            else:
                await self.weather.restart(deed)
        await self.throttle(self.size.items_s[1])

    async def pause(self) -> None:
        """Nothing moves from the officer's answer on until it is resumed."""
        await self.order(Operation.CAMPAIGN_PAUSE, CampaignPauseBody, why="a rest")
        standing = await shown(self.fleet, self.view)
        assert standing.state is CampaignState.PAUSED
        await asyncio.sleep(1.0)
        assert (await shown(self.fleet, self.view)).moved == standing.moved < self.size.deks
        await self.order(Operation.CAMPAIGN_RESUME, CampaignResumeBody, why="go on")
        self.weather.faults["pause"] += 1

    async def reaches(self, count: int) -> None:
        async with asyncio.timeout(self.size.least_s(STRETCHES) + PATIENCE_S):
            while (await shown(self.fleet, self.view)).moved < count:
                await asyncio.sleep(STEP_S)

    async def ended(self, state: CampaignState) -> CampaignView:
        async with asyncio.timeout(self.size.least_s(STRETCHES) + PATIENCE_S):
            while (found := await shown(self.fleet, self.view)).ended_ms == 0:
                await asyncio.sleep(STEP_S)
        assert found.state is state, found
        return found


@pytest.fixture(scope="module")
async def fleet(own_stack: Stack, kryoptic: Token, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A fleet on a stack of its own."""
    services = Services(own_stack.kafka.bootstrap, own_stack.postgres.dsn())
    async with Fleet.founded(services, tmp_path_factory.mktemp("storm"), kryoptic, partitions=4) as founded:
        founded.patience_s = PATIENCE_S
        yield founded


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    "size",
    [SHORT, *[pytest.param(one, marks=pytest.mark.storm) for one in LONG]],
    ids=lambda size: f"{size.deks}-deks-{'-'.join(map(str, size.planted))}-damaged-seed-{SEED}",
)
async def test_every_dek_is_moved_once_whatever_falls(fleet: Fleet, own_stack: Stack, size: Size) -> None:
    chance = Random(SEED)  # noqa: S311 - must be repeatable
    weather = Weather(fleet, own_stack, chance, POSTS, {"slice_items": size.slice_items}, FROZEN_S)
    async with supervised(weather):
        # Given stored DEKs, some of whose rows are damaged, and a campaign that its throttle makes long
        undertakings = []
        for planted in size.planted:
            memory = Memory(await fleet.tenant(), Random(chance.random()))  # noqa: S311
            await memory.fill(size.deks)
            undertakings.append(Undertaking(weather, memory, size))
            if planted:
                await undertakings[-1].plant(planted)
        deeds = ["pause", "broker", "database", "pause"]
        chance.shuffle(deeds)
        # When all that can fall falls
        async with weather.blowing(*size.strikes_s), asyncio.TaskGroup() as tasks:
            for number, one in enumerate(undertakings):
                tasks.create_task(_campaign(one, [each for each in deeds if not number or each == "pause"]))
        # Then there were deaths enough, and the rows are those that were answered, each what it was
        assert min(weather.faults["kill"], weather.faults["freeze"]) > 1, weather.faults
        assert (weather.faults["broker"], weather.faults["database"]) == (1, 1)
        assert weather.faults["pause"] == 2 * len(undertakings)
        await fleet.caught_up(seconds=120)
        for one in undertakings:
            await _rows_are_those_answered(one)
            await one.memory.check()
            await _announced_once(one)
        await _the_trail_tells_it(fleet, undertakings)
        async with fleet.tap(*map(dead_letter_topic, fleet.topics.requests), fleet.topics.undelivered) as tap:
            assert not await tap.to_end(), "somebody was dead-lettered"


async def _campaign(one: Undertaking, deeds: list[str]) -> None:
    """From its start to its end, under load."""
    memory, fleet, size = one.memory, one.fleet, one.size
    await one.begin()
    async with memory.load(fleet, NEW):
        await one.live(deeds)
        if one.kept:
            await _ends_with_a_list_and_is_replayed(one)
        done = await one.ended(CampaignState.DONE)
    assert (done.remaining, done.moved, done.failed) == (0, size.deks, 0), done
    assert await failures(fleet, done) == {}
    assert certified(fleet, done).items == size.deks
    assert done.ended_ms - done.started_ms >= size.least_s(len(deeds)) * 1000
    async with one.weather.power:
        assert await retired(fleet, done.key) == {OLD: True, NEW: False}
        await _kept_to_its_throttle(one)


async def _ends_with_a_list_and_is_replayed(one: Undertaking) -> None:
    """Exactly the damaged rows are listed, the old version stays; after the repair a replay moves them, too."""
    failed = await one.ended(CampaignState.FAILED)
    assert (failed.moved, failed.failed) == (one.size.deks - len(one.kept), len(one.kept)), failed
    listed = await failures(one.fleet, failed)
    assert set(listed) == set(map(str, one.kept))
    assert set(listed.values()) == {"UNWRAP_FAILED", "INTEGRITY"}
    assert failed.certificate is None
    async with one.weather.power:
        assert await retired(one.fleet, failed.key) == {OLD: False, NEW: False}
    await one.repair()
    await one.throttle(0)
    await one.order(Operation.CAMPAIGN_REPLAY, CampaignReplayBody, why="repaired")


async def _kept_to_its_throttle(one: Undertaking) -> None:
    """In no stretch of time were more items leased than rate and burst allow, before the second word and after it."""
    query = """
        SELECT extract(EPOCH FROM leased_at)::float8 AS at, items FROM keyriver.campaign_slices
        WHERE campaign = $1 AND round = 1 ORDER BY leased_at
    """
    leases = [(row["at"], row["items"]) for row in await one.fleet.pool.fetch(query, one.view.id)]
    slow, fast = one.size.items_s
    _within([lease for lease in leases if lease[0] < one.spoken[1]], slow)
    _within(leases, fast)


def _within(leases: list[tuple[float, int]], rate: int) -> None:
    before, least = 0, float("inf")
    for at, items in leases:
        # All that was leased since some earlier lease is paid for when another one is given.
        assert before - rate * at <= least + rate * BURST_S + 1, "faster than its throttle"
        least = min(least, before - rate * at)
        before += items


async def _rows_are_those_answered(one: Undertaking) -> None:
    """None is missing, none stands beside them, none under the old version; the census says the same."""
    pool, key = one.fleet.pool, one.view.key
    stored = await pool.fetch("SELECT id FROM keyriver.deks WHERE key = $1", key)
    assert {UUID(int=row["id"].int) for row in stored} == one.memory.made.keys()
    per_version = "SELECT version, count(*) AS rows FROM keyriver.deks WHERE key = $1 GROUP BY version"
    census = "SELECT version, stored AS rows FROM keyriver.census_totals WHERE key = $1 AND stored <> 0"
    assert await _by_version(pool, per_version, key) == await _by_version(pool, census, key) == {NEW: len(stored)}


async def _the_trail_tells_it(fleet: Fleet, undertakings: list[Undertaking]) -> None:
    """The leaves of each campaign's slices count every DEK once, and the logs are whole."""
    query = """
        SELECT sum((l.leaf -> 'counts' ->> 'OK')::int)
        FROM (SELECT convert_from(body, 'UTF8')::jsonb AS leaf FROM keyriver.leaves WHERE tenant = $1) AS l
        WHERE l.leaf ->> 'type' = $2
    """
    for one in undertakings:
        assert await fleet.pool.fetchval(query, one.view.tenant, SLICE) == one.size.deks
    waiting = "SELECT count(*) FROM keyriver.unsequenced"
    async with asyncio.timeout(PATIENCE_S):
        while await fleet.pool.fetchval(waiting):
            await asyncio.sleep(STEP_S)
    async with fleet.tap(fleet.topics.audit) as tap:
        report = await audited(fleet, await tap.to_end())
    assert report.is_whole, report
    assert report.strays == ()


async def _by_version(pool: asyncpg.Pool, query: str, key: UUID) -> Mapping[int, int]:
    return {row["version"]: row["rows"] for row in await pool.fetch(query, key)}


async def _announced_once(one: Undertaking) -> None:
    """Told as often as the relay likes, but it is one fact: one `ce_id`."""
    mine = str(one.view.id)

    async with one.fleet.tap(one.fleet.topics.events) as tap:

        def told() -> set[bytes]:
            found = set()
            for entry in tap.entries:
                headers = dict(entry.headers)
                is_completion = headers["ce_type"] == b"keyriver.campaign.completed.v1"
                if is_completion and json.loads(entry.value or b"")["campaign"]["id"] == mine:
                    found.add(headers["ce_id"])
            return found

        await tap.until(lambda _: bool(told()), "the completion was announced")
        await tap.to_end()
        assert len(told()) == 1
