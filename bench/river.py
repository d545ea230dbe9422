"""The river end to end, client, broker and Postgres on the same cores: throughput, stages, round trips, memory.

`python -m bench.river`. Each figure stands beside a rival of the same run.
"""

import asyncio
import json

from bench.load import Signed, signed
from bench.report import Figure, figure, report
from bench.rig import STAGES, Rig, rig
from bench.rivals import plain_encrypt_rate, public_key_rate
from worker.client.results import WrappedDek
from worker.model.bodies import AnyBody, DekItem, RewrapBody, RewrapItem, UnwrapBody, WrapBody, WrapItem
from worker.model.operations import Operation

ITEMS = {1: 12_000, 100: 120_000, 1000: 200_000}
IN_FLIGHT = {1: 500, 100: 60, 1000: 12}
RATES, SECONDS = (50, 200, 1000), 8
MEMORY_ITEMS = (200_000, 1_000_000)


async def bodies(made: Rig, batch: int) -> dict[Operation, AnyBody]:
    """One body of each data operation. The rewraps are of current blobs: `unchanged`, the cheapest there is."""
    key = made.house.key
    found = await made.house.client.generate(key, batch, return_blob=True, return_dek=False)
    wrapped = [one for one in found if isinstance(one, WrappedDek)]
    assert len(wrapped) == batch, found[:3]
    return {
        Operation.WRAP: WrapBody(key=key, items=[WrapItem()] * batch, return_dek=True),
        Operation.UNWRAP: UnwrapBody(items=[DekItem(id=one.id) for one in wrapped]),
        Operation.REWRAP: RewrapBody(items=[RewrapItem(blob=one.blob) for one in wrapped]),
    }


def requests(made: Rig, operation: Operation, body: AnyBody, count: int) -> list[Signed]:
    """Signed beforehand, for the client's work is not what is measured."""
    return signed(made.house.identity, made.fleet.prefix, operation, body, count)


def check(made: Rig, asked: list[Signed], batch: int) -> None:
    """Every request has its answer, and every item its result."""
    for request in asked:
        answer = json.loads(made.load.answers.pop(request.id)[1])
        assert len(answer["results"]) == batch, answer
        assert not any("code" in result for result in answer["results"]), answer["results"][0]


async def throughput(made: Rig, operation: Operation, batch: int, body: AnyBody) -> tuple[float, dict[str, float]]:
    """Items a second, and microseconds per item in each stage."""
    asked = requests(made, operation, body, ITEMS[batch] // batch)
    warm = requests(made, operation, body, min(len(asked) // 5 + 1, 400))
    await made.load.closed(warm, IN_FLIGHT[batch])
    check(made, warm, batch)
    before = made.stage_seconds()
    seconds = await made.load.closed(asked, IN_FLIGHT[batch])
    after = made.stage_seconds()
    check(made, asked, batch)
    items = len(asked) * batch
    return items / seconds, {stage: (after[stage] - before[stage]) / items * 1e6 for stage in STAGES}


async def all_throughput(made: Rig) -> list[Figure]:
    """Each operation at each batch size; generate-and-store against the floors' rivals."""
    plain, public = plain_encrypt_rate(made.folder, made.token), public_key_rate()
    figures = []
    for batch in ITEMS:
        for operation, body in (await bodies(made, batch)).items():
            rate, stages = await throughput(made, operation, batch, body)
            against, rival = (
                ("plain python-pkcs11 GCM loop", plain) if batch > 1 else ("public-key work, 1 core", public)
            )
            figures.append(figure(f"{operation.value}, batch {batch}", rate, "items/s", against, rival))
            whole = sum(stages.values())
            figures += [
                figure(f"{operation.value}, batch {batch}: {stage}", spent, "µs/item", "all stages", whole)
                for stage, spent in stages.items()
            ]
    return figures


async def latency(made: Rig) -> list[Figure]:
    """Round trips of single unwraps at a fixed rate, measured from when each was due."""
    body = (await bodies(made, 1))[Operation.UNWRAP]
    figures = []
    for rate in RATES:
        asked = requests(made, Operation.UNWRAP, body, rate * SECONDS)
        trips = await made.load.open(asked, rate)
        check(made, asked, 1)
        p50, p99 = (trips[int(len(trips) * share)] * 1000 for share in (0.5, 0.99))
        figures.append(figure(f"unwrap at {rate}/s: p99", p99, "ms", "its p50", p50))
    return figures


async def memory(made: Rig) -> list[Figure]:
    """Peak memory of the hungriest worker after a million items, against 200,000 of the same run."""
    body, done, peaks = (await bodies(made, 100))[Operation.WRAP], 0, []
    for goal in MEMORY_ITEMS:
        while done < goal:
            asked = requests(made, Operation.WRAP, body, 500)
            await made.load.closed(asked, IN_FLIGHT[100])
            check(made, asked, 100)
            done += 500 * 100
        peaks.append(made.peak_bytes() / 1e6)
    return [figure(f"peak memory after {MEMORY_ITEMS[1]:,} items", peaks[1], "MB", f"{MEMORY_ITEMS[0]:,}", peaks[0])]


async def run() -> list[Figure]:
    """All figures of the river."""
    async with rig() as made:
        return [*await all_throughput(made), *await latency(made), *await memory(made)]


def main() -> list[Figure]:
    """Print the table and write the figures."""
    return report(asyncio.run(run()))


if __name__ == "__main__":
    main()
