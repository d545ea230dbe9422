"""What stories of campaigns share: stored DEKs that are remembered, commands, and waiting."""

import asyncio
import time
from collections.abc import Mapping
from uuid import UUID

from tests.fleet import Fleet, House
from worker.client import ItemError, Unwrapped, WrappedDek
from worker.model.bodies import DekItem, KeyRotateBody, KeyShowBody
from worker.model.campaign_bodies import CampaignFailuresBody, CampaignShowBody, CampaignStartBody
from worker.model.campaign_replies import CampaignFailuresResult, CampaignResult, CampaignView, Certificate
from worker.model.campaigns import CampaignState
from worker.model.fields import Reason
from worker.model.operations import Operation
from worker.model.replies import KeyResult
from worker.seal.certificates import check

WAIT_S = 60.0
AT_ONCE = 500
CONTEXT = {"row": "1"}
OVER = (CampaignState.DONE, CampaignState.FAILED, CampaignState.CANCELLED)


async def filled(house: House, count: int, key: str | None = None) -> dict[UUID, bytes]:
    """So many stored DEKs, and what they are."""
    found: dict[UUID, bytes] = {}
    while len(found) < count:
        wanted = [CONTEXT] * min(AT_ONCE, count - len(found))
        for one in await house.client.generate(key or house.key, contexts=wanted):
            assert isinstance(one, WrappedDek)
            assert one.id is not None
            assert one.dek is not None
            found[one.id] = one.dek
    return found


async def unwrapped(house: House, deks: Mapping[UUID, bytes], version: int) -> None:
    """Every one of them is what it was, under this version."""
    ids = list(deks)
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        for id_, one in zip(some, await opened(house, some), strict=True):
            assert isinstance(one, Unwrapped), one
            assert (one.version, one.dek) == (version, deks[id_])


async def opened(house: House, ids: list[UUID]) -> list[Unwrapped | ItemError]:
    return await house.client.unwrap([DekItem(id=one, context=CONTEXT) for one in ids])


async def rotated(fleet: Fleet, house: House, key: str | None = None, reason: Reason = Reason.OPERATOR) -> None:
    body = KeyRotateBody(tenant=house.tenant, key=key or house.key, reason=reason)
    await fleet.command(Operation.KEY_ROTATE, body)


async def started(fleet: Fleet, house: House, key: str | None = None, **words: object) -> CampaignView:
    body = CampaignStartBody.model_validate({"tenant": house.tenant, "key": key or house.key} | words)
    done = await fleet.command(Operation.CAMPAIGN_START, body)
    assert isinstance(done, CampaignResult)
    return done.campaign


async def shown(fleet: Fleet, campaign: CampaignView) -> CampaignView:
    body = CampaignShowBody(tenant=campaign.tenant, campaign=campaign.id)
    done = await fleet.command(Operation.CAMPAIGN_SHOW, body)
    assert isinstance(done, CampaignResult)
    return done.campaign


async def ended(fleet: Fleet, campaign: CampaignView) -> CampaignView:
    """Wait until it is over."""
    deadline = time.monotonic() + max(WAIT_S, fleet.patience_s)
    while (found := await shown(fleet, campaign)).state not in OVER:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)
    return found


async def moved(fleet: Fleet, campaign: CampaignView, count: int) -> CampaignView:
    """Wait until so many items are moved."""
    deadline = time.monotonic() + WAIT_S
    while (found := await shown(fleet, campaign)).moved < count:
        assert found.state not in OVER, found
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)
    return found


async def failures(fleet: Fleet, campaign: CampaignView) -> dict[str, str]:
    """What is listed, by item."""
    body = CampaignFailuresBody(tenant=campaign.tenant, campaign=campaign.id)
    done = await fleet.command(Operation.CAMPAIGN_FAILURES, body)
    assert isinstance(done, CampaignFailuresResult)
    return {one.item: one.code for one in done.failures}


def certified(fleet: Fleet, campaign: CampaignView) -> Certificate:
    """Its certificate, checked as an outsider does with the key that he pinned."""
    assert campaign.certificate is not None
    officer = fleet.officers[0]
    return check(campaign.certificate, officer.fleet, officer.fleet_key)


async def key_of(fleet: Fleet, house: House, name: str | None = None) -> KeyResult:
    result = await fleet.command(Operation.KEY_SHOW, KeyShowBody(tenant=house.tenant, key=name or house.key))
    assert isinstance(result, KeyResult)
    return result


async def retired(fleet: Fleet, key: UUID) -> dict[int, bool]:
    """Which versions of a key were seen to be empty."""
    rows = await fleet.pool.fetch("SELECT number, retired_ms FROM keyriver.versions WHERE key = $1", key)
    return {row["number"]: bool(row["retired_ms"]) for row in rows}


async def facts(fleet: Fleet, tenant: str, type_: str) -> int:
    """How often this was announced."""
    query = "SELECT count(*) FROM keyriver.outbox WHERE tenant = $1 AND type = $2"
    return int(await fleet.pool.fetchval(query, tenant, type_))
