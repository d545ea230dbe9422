"""Bulk rewrap of blobs that are not stored, as a share of what the bare token can do: three operations an item.

`python -m bench.rewrap`. Requests of 1,000 blobs to one and to two bulk processes, and a file through the file job, its
client and disk included. Each item is unwrapped again and compared; what it would be without stands at the end.
"""

import asyncio
import json
from base64 import b64encode
from collections.abc import Sequence
from time import perf_counter

from bench.bulk import Beside, one_more, uncompared
from bench.load import signed
from bench.report import Figure, figure, report
from bench.rig import STAGES, Rig, rig
from worker.client.files import Counts, FileJob, JsonLines, Plan
from worker.client.results import WrappedDek
from worker.model.bodies import KeyRotateBody, RewrapBody, RewrapItem
from worker.model.operations import Operation
from worker.model.topics import Lane

BATCH, ITEMS, WARM, IN_FLIGHT, LINES = 1000, 300_000, 30_000, 12, 200_000


class Silent:
    """A watcher that says nothing."""

    def began(self, total: int, counts: Counts) -> None:
        """See `Watcher`."""

    def moved(self, read: int, counts: Counts) -> None:
        """See `Watcher`."""

    def waits(self, why: str) -> None:
        """See `Watcher`."""


async def old_blobs(made: Rig) -> list[bytes]:
    """Blobs of version 1, the key having been rotated since."""
    house = made.house
    found = await house.client.generate(house.key, BATCH, store=False, return_dek=False)
    blobs = [one.blob for one in found if isinstance(one, WrappedDek) and one.blob is not None]
    assert len(blobs) == BATCH, found[:3]
    await made.fleet.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.key))
    return blobs


async def requests_rate(made: Rig, blobs: Sequence[bytes]) -> float:
    """Items a second that were moved by signed requests; every item's result is looked at.

    On a machine with other work the token may be too slow for an item: what is deferred does not count.
    """
    body = RewrapBody(items=[RewrapItem(blob=one) for one in blobs], return_blob=True)

    async def rate(items: int) -> float:
        asked = signed(made.house.identity, made.fleet.prefix, Operation.REWRAP, body, items // BATCH)
        spent, moved = await made.load.closed(asked, IN_FLIGHT), 0
        for request in asked:
            results = json.loads(made.load.answers.pop(request.id)[1])["results"]
            assert len(results) == BATCH
            odd = [one for one in results if one.get("version") != 2 or one.get("unchanged")]
            assert all(one.get("retry") for one in odd), odd[0]
            moved += BATCH - len(odd)
        if moved < items:
            print(f"DEFERRED: {items - moved} of {items}")
        return moved / spent

    await rate(WARM)
    return await rate(ITEMS)


async def file_rate(made: Rig, blobs: Sequence[bytes]) -> float:
    """Lines a second of a file job."""
    source, out = made.folder / "deks.jsonl", made.folder / "moved.jsonl"
    with source.open("w") as file:
        for number in range(LINES):
            file.write(json.dumps({"row": number, "blob": b64encode(blobs[number % BATCH]).decode()}) + "\n")
    identity = made.house.identity
    plan = Plan(
        source=source,
        out=out,
        rejects=made.folder / "rejects",
        form=JsonLines("blob"),
        fleet=identity.fleet,
        tenant=identity.tenant,
    )
    began = perf_counter()
    counts = await FileJob(made.house.client, plan, Silent()).run()
    spent = perf_counter() - began
    assert counts == Counts(rewrapped=LINES), counts
    for path in (source, out):
        path.unlink()
    return LINES / spent


async def run() -> list[Figure]:
    """All figures of bulk rewrap."""
    async with rig() as made:
        beside = Beside.measured(made)
        await made.fleet.at_work(1, (Lane.BULK,))
        blobs = await old_blobs(made)

        async def requests() -> float:
            return await requests_rate(made, blobs)

        before = made.stage_seconds()
        figures, _ = await beside.figures("rewrap of 1,000 blobs, one bulk process", WARM + ITEMS, requests)
        after = made.stage_seconds()
        stages = {stage: (after[stage] - before[stage]) / (WARM + ITEMS) * 1e6 for stage in STAGES}
        figures += [
            figure(f"rewrap of 1,000 blobs: {stage}", spent, "µs/item", "all stages", sum(stages.values()))
            for stage, spent in stages.items()
        ]
        figures += beside.rate("file job, one bulk process", await file_rate(made, blobs))
        async with one_more(made):
            more, _ = await beside.figures("rewrap of 1,000 blobs, two bulk processes", WARM + ITEMS, requests)
            figures += [*more, *beside.rate("file job, two bulk processes", await file_rate(made, blobs))]
        async with uncompared(made):
            more, _ = await beside.figures(
                "rewrap of 1,000 blobs without compare, one bulk process", WARM + ITEMS, requests
            )
            return figures + more


def main() -> list[Figure]:
    """Print the table and write the figures."""
    return report(asyncio.run(run()))


if __name__ == "__main__":
    main()
