"""A campaign over stored DEKs, as a share of what the bare token can do: three operations an item.

`python -m bench.campaign`. Each DEK is read, rewrapped in the token, unwrapped again, compared and updated; figures are
per size of the table, for time per item must not grow with it, and for one and for two bulk processes.
KEYRIVER_BENCH_DEKS names other sizes, comma-separated.
"""

import asyncio
import os
from collections.abc import Sequence

from bench.report import Figure, figure, report
from bench.rewrap import one_more
from bench.rig import Rig, rig
from bench.rivals import plain_rewrap_rate
from worker.model.bodies import KeyCreateBody, KeyRotateBody
from worker.model.campaign_bodies import CampaignShowBody, CampaignStartBody
from worker.model.campaign_replies import CampaignResult
from worker.model.campaigns import CampaignState
from worker.model.operations import Operation
from worker.model.topics import Lane

BATCH, AT_ONCE = 1000, 4
SIZES = tuple(int(one) for one in os.environ.get("KEYRIVER_BENCH_DEKS", "10000,100000").split(","))


async def filled(made: Rig, deks: int, name: str) -> str:
    """A service key with so many stored DEKs."""
    house = made.house
    alias = f"{house.upper}/{name}"
    await made.fleet.command(Operation.KEY_CREATE, KeyCreateBody(tenant=house.tenant, parent=house.upper, alias=alias))
    for _ in range(deks // (BATCH * AT_ONCE) + 1):
        await asyncio.gather(*[house.client.generate(alias, BATCH, return_dek=False) for _ in range(AT_ONCE)])
    return alias


async def campaign_rate(made: Rig, key: str) -> float:
    """Items per second of a campaign over the key, from its first lease to its last settle."""
    house, fleet = made.house, made.fleet
    await fleet.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=key))
    started = await fleet.command(Operation.CAMPAIGN_START, CampaignStartBody(tenant=house.tenant, key=key))
    assert isinstance(started, CampaignResult)
    id_ = started.campaign.id
    while True:
        shown = await fleet.command(Operation.CAMPAIGN_SHOW, CampaignShowBody(tenant=house.tenant, campaign=id_))
        assert isinstance(shown, CampaignResult)
        if shown.campaign.state is CampaignState.DONE:
            break
        assert shown.campaign.state is not CampaignState.FAILED, shown
        await asyncio.sleep(0.2)
    query = """
        SELECT sum(items) / extract(EPOCH FROM max(done_at) - min(leased_at))::float8
        FROM keyriver.campaign_slices WHERE campaign = $1
    """
    return float(await fleet.pool.fetchval(query, id_))


def beside(name: str, value: float, limits: Sequence[float]) -> list[Figure]:
    """A rate against the bare token with and without the compare."""
    three, two = limits
    return [
        figure(name, value, "items/s", "plain python-pkcs11, 3 operations an item", three),
        figure(name, value, "items/s", "plain python-pkcs11, 2 operations (no compare)", two),
    ]


async def run() -> list[Figure]:
    """All figures of campaigns."""
    async with rig() as made:
        limits = tuple(plain_rewrap_rate(made.folder, made.token, compare=compare) for compare in (True, False))
        await made.fleet.at_work(1, (Lane.BULK,))
        figures: list[Figure] = []
        first = 0.0
        for size in SIZES:
            key = await filled(made, size, f"s{size}")
            rate = await campaign_rate(made, key)
            figures += beside(f"campaign over {size:,} DEKs, one bulk process", rate, limits)
            first = first or 1e6 / rate
            figures.append(figure(f"campaign over {size:,} DEKs", 1e6 / rate, "µs/item", f"{SIZES[0]:,} DEKs", first))
        async with one_more(made):
            rate = await campaign_rate(made, key)
            figures += beside(f"campaign over {size:,} DEKs, two bulk processes", rate, limits)
        return figures


def main() -> list[Figure]:
    """Print the table and write the figures."""
    return report(asyncio.run(run()))


if __name__ == "__main__":
    main()
