"""An event from outside rotates a key and starts its campaign: once, however often and by whomever it is told."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fleet import Fleet, House
from tests.hostile.forging import header
from tests.scribe import SIGNATURE, Scribe, now_ms
from tests.stack import Services
from tests.stories.campaigning import ended, facts, filled, key_of, unwrapped
from worker.client import KeyriverClient, RequestRefused
from worker.local import softhsm
from worker.model.bodies import KeyRotateBody
from worker.model.campaign_bodies import CampaignListBody
from worker.model.campaign_replies import CampaignListResult, CampaignView
from worker.model.campaigns import CampaignKind, CampaignState
from worker.model.codes import Code
from worker.model.operations import Operation, Permission
from worker.model.policies import PolicyAllowBody
from worker.model.rows import State
from worker.model.triggering import (
    TriggerAddBody,
    TriggerBody,
    TriggerCheckBody,
    TriggerCheckResult,
    TriggerRemoveBody,
    TriggerResult,
)
from worker.model.triggers import Occasion, TriggerEvent
from worker.seal.signatures import jws_kid

SOON_S = 60.0
ROTATED, STARTED = "keyriver.key.rotated.v1", "keyriver.campaign.started.v1"


@pytest.fixture(scope="module")
async def pair(stack: Services, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A fleet of two workers."""
    folder = tmp_path_factory.mktemp("triggers")
    module = Path(shutil.copy2(softhsm.module(), folder / "module.so"))
    async with Fleet.founded(
        stack, folder, softhsm.token(folder / "token", module_file=module), kafka_session_s=6
    ) as founded:
        founded.start()
        founded.start()
        await founded.at_work(2)
        yield founded


@pytest.fixture
async def acme(pair: Fleet) -> House:
    """A tenant of this test's own."""
    return await pair.tenant()


async def rule(fleet: Fleet, house: House, event: str, **words: object) -> None:
    """Both officers agree on it."""
    said = {"tenant": house.tenant, "name": event, "event": event, "pattern": house.key} | words
    await fleet.command(Operation.TRIGGER_ADD, TriggerAddBody.model_validate(said))


async def campaigns(fleet: Fleet, house: House) -> list[CampaignView]:
    done = await fleet.command(Operation.CAMPAIGN_LIST, CampaignListBody(tenant=house.tenant))
    assert isinstance(done, CampaignListResult)
    return done.campaigns


def happened(
    house: House, event: TriggerEvent = TriggerEvent.SCHEDULE_DUE, key: str = "", at_ms: int = 0
) -> TriggerBody:
    return TriggerBody(event=event, key=key or house.key, occurred_ms=at_ms or now_ms(), why="as agreed")


async def told(client: KeyriverClient, body: TriggerBody) -> TriggerResult:
    done = await client.command(Operation.TRIGGER, body)
    assert isinstance(done, TriggerResult)
    return done


async def refused(client: KeyriverClient, body: TriggerBody) -> str:
    with pytest.raises(RequestRefused) as caught:
        await client.command(Operation.TRIGGER, body)
    return caught.value.code


async def nothing_happened(fleet: Fleet, house: House) -> None:
    assert (await key_of(fleet, house)).key.active_version == 1
    assert await campaigns(fleet, house) == []


async def started(fleet: Fleet, house: House, key: str = "") -> CampaignView:
    """Wait until the tenant has a campaign; the first one, if there are more by now."""
    deadline = time.monotonic() + SOON_S
    while not (found := await campaigns(fleet, house)):
        assert time.monotonic() < deadline, f"nothing started for {key or house.key}"
        await asyncio.sleep(0.3)
    return min(found, key=lambda one: one.from_version)


async def test_a_hundred_reports_by_two_clients_to_two_workers_are_one(pair: Fleet, acme: House) -> None:
    assert await a_hundred_reports(pair, acme) == 2, "one worker took them all"


async def a_hundred_reports(pair: Fleet, acme: House) -> int:
    """Given stored DEKs and a rule; when one event is told a hundred times; then one version and one campaign.

    Returns how many workers answered.
    """
    deks = await filled(acme, 500)
    await rule(pair, acme, "schedule-due")
    event = happened(acme)
    other = await pair.service(acme.tenant, permissions=[Permission.TRIGGER])
    async with Scribe(pair, acme.identity) as ours, Scribe(pair, other) as theirs:
        raw = event.model_dump_json().encode()
        drafts = [(scribe, scribe.draft(Operation.TRIGGER, raw)) for _ in range(50) for scribe in (ours, theirs)]
        async with pair.tap(pair.topics.replies) as replies:
            await asyncio.gather(*[one.send(draft, index // 2 % 2) for index, (one, draft) in enumerate(drafts)])
            answers = [await scribe.answer(draft.id) for scribe, draft in drafts]
            await replies.to_end()
            signed = [dict(entry.headers).get(SIGNATURE, b"") for entry in replies.entries]
    results = [result for answer in answers for result in answer.results]
    assert all(isinstance(one, TriggerResult) for one in results), results
    found = [one for one in results if isinstance(one, TriggerResult)]
    assert len(found) == 100
    assert sum(one.rotated for one in found) == 1
    assert {one.version for one in found} == {2}
    (campaign,) = await campaigns(pair, acme)
    assert {one.campaign and one.campaign.id for one in found} == {campaign.id}
    assert await facts(pair, acme.tenant, STARTED) == 1
    assert (await ended(pair, campaign)).state is CampaignState.DONE
    await unwrapped(acme, deks, 2)
    late = await told(acme.client, event)
    assert (late.rotated, late.version, late.campaign and late.campaign.id) == (False, 2, campaign.id)
    return len({jws_kid(one.decode()) for one in signed if one})


async def test_the_same_event_is_answered_by_the_same_campaign_after_another_rotation(pair: Fleet, acme: House) -> None:
    await rule(pair, acme, "schedule-due")
    event = happened(acme)
    first = await told(acme.client, event)
    await pair.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=acme.tenant, key=acme.key))
    again = await told(acme.client, event)
    assert (again.rotated, again.version) == (False, 3)
    assert first.campaign is not None
    assert again.campaign is not None
    assert again.campaign.id == first.campaign.id
    assert len(await campaigns(pair, acme)) == 1
    later = await told(acme.client, happened(acme))
    assert (later.rotated, later.version) == (True, 4)


async def test_whoever_may_not_report_starts_nothing(pair: Fleet, acme: House) -> None:
    """Without the permission, for keys of other names, of another tenant, without a rule, ahead of the time."""
    assert await refused(acme.client, happened(acme)) == Code.NOT_FOUND  # no rule
    await rule(pair, acme, "schedule-due")
    powerless = await pair.service(
        acme.tenant, permissions=[one for one in Permission if one is not Permission.TRIGGER]
    )
    elsewhere = await pair.service(acme.tenant, permissions=[Permission.TRIGGER], pattern=f"{acme.tenant}/us/*")
    stranger = await pair.tenant()
    await rule(pair, stranger, "schedule-due", pattern="*")
    for identity in (powerless, elsewhere):
        assert await refused(await pair.client(identity), happened(acme)) == Code.NOT_FOUND
    key = (await key_of(pair, acme)).key
    for name in (acme.key, str(key.id)):
        assert await refused(stranger.client, happened(acme, key=name)) == Code.NOT_FOUND
    assert await refused(acme.client, happened(acme, TriggerEvent.MEMBER_LEFT)) == Code.NOT_FOUND
    assert await refused(acme.client, happened(acme, at_ms=now_ms() + 3_600_000)) == Code.MALFORMED
    officer = await pair.officer()
    assert await refused(officer, happened(acme)) == Code.NOT_FOUND
    await nothing_happened(pair, acme)
    allowed = PolicyAllowBody(
        tenant=acme.tenant,
        client=powerless.client,
        permissions=[Permission.TRIGGER],
        pattern=acme.key,
        not_after_ms=now_ms() + 3_600_000,
    )
    await pair.command(Operation.POLICY_ALLOW, allowed)
    assert (await told(await pair.client(powerless), happened(acme))).rotated


async def test_a_forged_report_is_not_even_answered(pair: Fleet, acme: House) -> None:
    await rule(pair, acme, "schedule-due")
    stranger = await pair.tenant()
    async with Scribe(pair, acme.identity) as scribe:
        draft = scribe.draft(Operation.TRIGGER, happened(acme).model_dump_json().encode())
        mine = replace(draft, signer=stranger.identity)  # another's key under the client's name
        altered = [header("ce_tenant", stranger.tenant.encode()), header(SIGNATURE, None)]
        scribe.expect(draft)
        for record in (mine.record(0), *[change(draft.record(0)) for change in altered]):
            await pair.send(record)
        await pair.send(replace(draft.record(0), value=draft.body.replace(b"schedule-due", b"member-left!")))
        await pair.caught_up()
        assert await scribe.so_far(draft.id) == []
    await nothing_happened(pair, acme)


@pytest.mark.parametrize("edit", ["pattern = '*'", "action = 'move'", "hsm_share = 1", "revoked = false", "tenant"])
async def test_a_rule_that_somebody_edited_fires_nothing(pair: Fleet, acme: House, edit: str) -> None:
    """Whoever can write the database makes no rule broader, takes none back from its end, and borrows no other's."""
    owner = await pair.tenant() if edit == "tenant" else acme
    await rule(pair, owner, "schedule-due", pattern="*" if edit == "tenant" else f"{owner.tenant}/us")
    if edit.startswith("revoked"):
        await pair.command(Operation.TRIGGER_REMOVE, TriggerRemoveBody(tenant=acme.tenant, name="schedule-due"))
    set_to = f"tenant = '{acme.tenant}'" if edit == "tenant" else edit
    await pair.pool.execute(f"UPDATE keyriver.trigger_rules SET {set_to} WHERE tenant = $1", owner.tenant)  # noqa: S608
    assert await refused(acme.client, happened(acme)) == Code.INTEGRITY
    await nothing_happened(pair, acme)


async def test_a_dry_run_says_what_would_be_and_changes_nothing(pair: Fleet, acme: House) -> None:
    asked = TriggerCheckBody(tenant=acme.tenant, event=Occasion.SCHEDULE_DUE, key=acme.key)
    nothing = await pair.command(Operation.TRIGGER_CHECK, asked)
    assert isinstance(nothing, TriggerCheckResult)
    assert (nothing.rule, nothing.would_rotate) == (None, False)
    await rule(pair, acme, "schedule-due", pattern="*", name="all")
    await rule(pair, acme, "schedule-due", items_s=70)
    before = await pair.pool.fetchval("SELECT max(revision) FROM keyriver.keys WHERE tenant = $1", acme.tenant)
    would = await pair.command(Operation.TRIGGER_CHECK, asked)
    assert isinstance(would, TriggerCheckResult)
    assert would.rule is not None
    assert (would.rule.name, would.rule.items_s) == ("schedule-due", 70)  # the most specific one
    assert (would.would_rotate, would.begins, would.from_version, would.to_version) == (True, True, 1, 2)
    await nothing_happened(pair, acme)
    assert before == await pair.pool.fetchval("SELECT max(revision) FROM keyriver.keys WHERE tenant = $1", acme.tenant)
    done = await told(acme.client, happened(acme))
    assert done.campaign is not None
    assert (done.fired, done.campaign.items_s) == ("schedule-due", 70)


async def test_who_left_had_the_key_and_all_below_it(pair: Fleet, acme: House) -> None:
    """An emergency compromises the version before, and goes deep where the key wraps keys."""
    deks = await filled(acme, 500)
    await rule(pair, acme, "member-left", pattern="*", action="emergency")
    done = await told(acme.client, happened(acme, TriggerEvent.MEMBER_LEFT, key=acme.upper))
    assert done.campaign is not None
    assert done.campaign.kind is CampaignKind.DEEP
    first = (await key_of(pair, acme, acme.upper)).key.versions[0]
    assert first.state is State.COMPROMISED
    assert (await ended(pair, done.campaign)).state is CampaignState.DONE
    await unwrapped(acme, deks, 2)


async def test_news_of_a_compromise_comes_after_a_rotation(pair: Fleet, acme: House) -> None:
    """Given a rotation since; then the version of that time is the compromised one, and nothing is rotated again."""
    await rule(pair, acme, "key-compromised", action="emergency")
    event = happened(acme, TriggerEvent.KEY_COMPROMISED)
    await pair.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=acme.tenant, key=acme.key))
    done = await told(acme.client, event)
    assert (done.rotated, done.version) == (False, 2)
    assert done.campaign is not None
    assert [one.state for one in (await key_of(pair, acme)).key.versions] == [State.COMPROMISED, State.ACTIVE]
    assert (await told(acme.client, event)).campaign is not None
    assert await facts(pair, acme.tenant, "keyriver.trigger.fired.v1") == 1


async def test_a_key_that_is_too_old_is_rotated_by_itself(pair: Fleet, acme: House) -> None:
    deks = await filled(acme, 500)
    await rule(pair, acme, "key-age", period_s=1)
    campaign = await started(pair, acme)
    await pair.command(Operation.TRIGGER_REMOVE, TriggerRemoveBody(tenant=acme.tenant, name="key-age"))
    assert (campaign.asked_by, campaign.from_version, campaign.key) == (
        "keyriver",
        1,
        (await key_of(pair, acme)).key.id,
    )
    assert await facts(pair, acme.tenant, ROTATED) == (await key_of(pair, acme)).key.active_version - 1
    assert len(deks) == 500


async def test_a_key_that_was_used_too_often_is_rotated_by_itself(pair: Fleet, acme: House) -> None:
    deks = await filled(acme, 500)
    key = (await key_of(pair, acme)).key
    await rule(pair, acme, "use-count", pattern="*")
    await pair.pool.execute("UPDATE keyriver.uses SET leased = 2147483648 WHERE key = $1", key.id)
    campaign = await started(pair, acme)
    assert (campaign.asked_by, campaign.key, campaign.to_version) == ("keyriver", key.id, 2)
    assert (await ended(pair, campaign)).state is CampaignState.DONE
    await unwrapped(acme, deks, 2)
    assert await facts(pair, acme.tenant, ROTATED) == 1


async def test_what_stands_under_a_rotated_parent_is_moved_by_itself(pair: Fleet, acme: House) -> None:
    await rule(pair, acme, "parent-rotated", pattern=acme.upper, action="move")
    await pair.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=acme.tenant, key=acme.upper))
    campaign = await started(pair, acme, acme.upper)
    assert (campaign.asked_by, campaign.kind) == ("keyriver", CampaignKind.SHALLOW)
    assert (await ended(pair, campaign)).state is CampaignState.DONE
    (version,) = (await key_of(pair, acme)).key.versions
    assert version.parent_version == 2
    assert await facts(pair, acme.tenant, STARTED) == 1
