"""What a campaign at full speed does to interactive answers: their p99 alone, and while it runs, in the same run.

`python -m bench.interference`. Single unwraps at a modest constant rate; workers, load, broker and Postgres share the
cores. The campaign is over more DEKs than can be moved in the time; what it reaches meanwhile is shown beside it.
"""

import asyncio
import os
from time import perf_counter

from bench.campaign import filled
from bench.load import signed
from bench.report import Figure, figure, report
from bench.rig import Rig, rig
from bench.river import check
from worker.model.bodies import DekItem, KeyRotateBody, UnwrapBody
from worker.model.campaign_bodies import CampaignShowBody, CampaignStartBody
from worker.model.campaign_replies import CampaignResult, CampaignView
from worker.model.operations import Operation
from worker.model.topics import Lane

RATE, SECONDS, WARM_S = 50, 12, 3
DEKS = int(os.environ.get("KEYRIVER_BENCH_INTERFERENCE_DEKS", "400000"))
FLOOR = 2.0


async def trips(made: Rig, body: UnwrapBody, seconds: int) -> list[float]:
    """Round trips in seconds, sorted, measured from when each was due."""
    asked = signed(made.house.identity, made.fleet.prefix, Operation.UNWRAP, body, RATE * seconds)
    found = await made.load.open(asked, RATE)
    check(made, asked, 1)
    return found


def percentile(sorted_s: list[float], share: float) -> float:
    """In milliseconds."""
    return sorted_s[int(len(sorted_s) * share)] * 1000


async def started(made: Rig, key: str) -> CampaignView:
    """A campaign over the key, at full speed."""
    house, fleet = made.house, made.fleet
    await fleet.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=key))
    done = await fleet.command(Operation.CAMPAIGN_START, CampaignStartBody(tenant=house.tenant, key=key))
    assert isinstance(done, CampaignResult)
    return done.campaign


async def shown(made: Rig, view: CampaignView) -> CampaignView:
    """How far it is."""
    asked = CampaignShowBody(tenant=view.tenant, campaign=view.id)
    done = await made.fleet.command(Operation.CAMPAIGN_SHOW, asked)
    assert isinstance(done, CampaignResult)
    return done.campaign


async def run() -> list[Figure]:
    """Both percentiles, and the campaign's speed alone and beside the reads."""
    async with rig() as made:
        await made.fleet.at_work(1, (Lane.BULK,))
        key = await filled(made, DEKS, "much")
        (one,) = await made.house.client.generate(made.house.key)
        body = UnwrapBody(items=[DekItem(id=one.id)])  # type: ignore[union-attr]
        await trips(made, body, WARM_S)
        alone = await trips(made, body, SECONDS)
        campaign, began = await started(made, key), perf_counter()
        await trips(made, body, WARM_S)  # the pace finds itself
        before, middle = await shown(made, campaign), perf_counter()
        beside = await trips(made, body, SECONDS)
        after, ended = await shown(made, campaign), perf_counter()
        assert after.remaining > 0, "the campaign was over before the reads: give it more DEKs"
        first = before.moved / (middle - began)
        rate = (after.moved - before.moved) / (ended - middle)
        return [
            figure(
                f"unwrap at {RATE}/s during a campaign: p50",
                percentile(beside, 0.5),
                "ms",
                "alone",
                percentile(alone, 0.5),
            ),
            figure(
                f"unwrap at {RATE}/s during a campaign: p99",
                percentile(beside, 0.99),
                "ms",
                "alone (floor 2)",
                percentile(alone, 0.99),
            ),
            figure("the campaign meanwhile", rate, "items/s", "its first seconds", first),
            figure("its pace at the end", after.pace, "of full", "full speed", 1.0),
        ]


def main() -> list[Figure]:
    """Print the table and write the figures."""
    return report(asyncio.run(run()))


if __name__ == "__main__":
    main()
