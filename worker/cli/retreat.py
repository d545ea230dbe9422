"""A country retreats: the switch of every key of a tenant that is bound to a region (its topmost keys there).

Each is a disable of its own, so each is quick, has its own report and is lifted by its own revision. Keys that were
made meanwhile are found by looking again until nothing is left on.
"""

from collections import Counter
from collections.abc import Sequence

from worker.cli.body import body
from worker.cli.errors import Refused
from worker.cli.pages import Asking, every
from worker.model.bodies import KeyListBody
from worker.model.control import KeyDisableBody
from worker.model.operations import Operation
from worker.model.replies import DisableResult, KeyListResult, KeyView
from worker.model.views import Blast, BlastLayer


async def every_key(asking: Asking, tenant: str) -> list[KeyView]:
    """All keys of a tenant, page by page."""
    return await every(
        asking,
        Operation.KEY_LIST,
        body(KeyListBody, tenant=tenant),
        KeyListResult,
        lambda page: page.keys,
        lambda page: page.keys[-1].id if page.more and page.keys else None,
    )


def topmost(keys: Sequence[KeyView], region: str) -> list[KeyView]:
    """The keys that are bound to the region while the key above is not: their switches stop all of it."""
    within = {one.id for one in keys if one.region == region}
    return [one for one in keys if one.id in within and one.parent not in within]


async def retreat(asking: Asking, tenant: str, region: str, *, dry_run: bool, why: str) -> list[DisableResult]:
    """Press the switch of each, or only tell what it would stop. Raises `Refused` when nothing is bound to it."""
    done: list[DisableResult] = []
    while True:
        found = topmost(await every_key(asking, tenant), region)
        if not found:
            raise Refused(f"no key of {tenant} is bound to the region {region}: `keyriver key list {tenant}`")
        todo = found if dry_run else [one for one in found if one.enabled]
        for one in todo:
            asked = body(KeyDisableBody, tenant=tenant, key=str(one.id), dry_run=dry_run, why=why)
            done.append(await asking.ask(Operation.KEY_DISABLE, asked, DisableResult))
        if dry_run or not todo:
            return done


def together(blasts: Sequence[Blast], tenant: str) -> Blast:
    """One report of several: sums per layer and region; the service keys side by side, the largest first."""
    sums: dict[tuple[int, str], Counter[str]] = {}
    for layer in (layer for blast in blasts for layer in blast.layers):
        counts = layer.model_dump(exclude={"layer", "region"})
        sums.setdefault((layer.layer, layer.region), Counter()).update(counts)
    layers = [BlastLayer(layer=place[0], region=place[1], **counts) for place, counts in sorted(sums.items())]
    services = sorted((one for blast in blasts for one in blast.services), key=lambda one: (-one.deks, one.alias))
    return Blast(tenant=tenant, layers=layers, services=services, more=sum(blast.more for blast in blasts))
