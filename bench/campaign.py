"""A campaign over stored DEKs, as a share of what the bare token can do: three operations an item.

`python -m bench.campaign`. Each DEK is read, rewrapped in the token, unwrapped again, compared and updated; figures are
per number of DEKs under the key, for time per item must not grow with it (all keys are filled first, so that the table
is the same), and for one and for two bulk processes. KEYRIVER_BENCH_DEKS names other sizes, comma-separated.
"""

import asyncio
import os

from bench.bulk import Beside, one_more, uncompared
from bench.report import Figure, figure, report
from bench.rig import Rig, rig
from worker.model.bodies import KeyCreateBody, KeyRotateBody
from worker.model.campaign_bodies import CampaignStartBody
from worker.model.campaign_replies import CampaignResult
from worker.model.operations import Operation
from worker.model.topics import Lane

BATCH, AT_ONCE = 1000, 8
_STORED = """
    SELECT sum(c.stored)::bigint FROM keyriver.census AS c JOIN keyriver.aliases AS a ON a.key = c.key WHERE a.name = $1
"""
SIZES = tuple(int(one) for one in os.environ.get("KEYRIVER_BENCH_DEKS", "10000,100000").split(","))


async def filled(made: Rig, deks: int, name: str) -> str:
    """A service key with so many stored DEKs."""
    house = made.house
    alias = f"{house.upper}/{name}"
    await made.fleet.command(Operation.KEY_CREATE, KeyCreateBody(tenant=house.tenant, parent=house.upper, alias=alias))
    left = deks // BATCH
    while left > 0:
        await asyncio.gather(
            *[house.client.generate(alias, BATCH, return_dek=False) for _ in range(min(left, AT_ONCE))]
        )
        left -= AT_ONCE
    return alias


async def campaign_rate(made: Rig, key: str) -> float:
    """Items per second of a campaign over the key, from its first lease to its last settle."""
    house, fleet = made.house, made.fleet
    await fleet.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=key))
    started = await fleet.command(Operation.CAMPAIGN_START, CampaignStartBody(tenant=house.tenant, key=key))
    assert isinstance(started, CampaignResult)
    id_ = started.campaign.id
    while (state := await fleet.pool.fetchval("SELECT state FROM keyriver.campaigns WHERE id = $1", id_)) != "done":
        assert state != "failed", id_
        await asyncio.sleep(0.2)  # asked past the workers: a slow answer of theirs would slow the campaign down
    query = """
        SELECT sum(items) / extract(EPOCH FROM max(done_at) - min(leased_at))::float8
        FROM keyriver.campaign_slices WHERE campaign = $1
    """
    return float(await fleet.pool.fetchval(query, id_))


async def hot_updates(made: Rig) -> Figure:
    """How many of all updates of DEK rows touched no index (D8)."""
    query = """
        SELECT sum(s.n_tup_hot_upd)::float8 AS hot, sum(s.n_tup_upd)::float8 AS of_all
        FROM pg_stat_user_tables AS s WHERE s.relname LIKE 'deks\\___'
    """
    row = await made.fleet.pool.fetchrow(query)
    assert row is not None
    return figure("updates of DEK rows that touched no index", row["hot"], "rows", "all updates", row["of_all"])


async def run() -> list[Figure]:
    """All figures of campaigns."""
    async with rig() as made:
        beside = Beside.measured(made)
        await made.fleet.at_work(1, (Lane.BULK,))
        figures: list[Figure] = []
        keys = {size: await filled(made, size, f"s{size}") for size in SIZES}

        async def over(size: int, how: str) -> float:
            stored = await made.fleet.pool.fetchval(_STORED, f"{made.house.upper}/s{size}")
            name = f"campaign over {size:,} DEKs, {how}"
            more, rate = await beside.figures(name, stored, lambda: campaign_rate(made, keys[size]))
            figures.extend(more)
            return 1e6 / rate

        each = {size: await over(size, "one bulk process") for size in SIZES}
        for size in SIZES:
            name = f"campaign over {size:,} DEKs, one bulk process"
            figures.append(figure(name, each[size], "µs/item", f"{SIZES[0]:,} DEKs", each[SIZES[0]]))
        figures.append(figure("slowest size of all", max(each.values()), "µs/item", "quickest", min(each.values())))
        middle = SIZES[min(1, len(SIZES) - 1)]
        async with one_more(made):
            await over(middle, "two bulk processes")
        async with uncompared(made):
            await over(middle, "without compare")
        return [*figures, await hot_updates(made)]


def main() -> list[Figure]:
    """Print the table and write the figures."""
    return report(asyncio.run(run()))


if __name__ == "__main__":
    main()
