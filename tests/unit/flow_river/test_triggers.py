"""Reports through the river, and the duty that sees occasions by itself."""

import asyncio
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from tests.unit.flow_river.rig import PAYMENTS, Rig
from worker.client.answers import Refusal
from worker.flow.triggers import Triggering
from worker.flow.trust import Trust
from worker.model.bodies import KeyRotateBody, KeyShowBody
from worker.model.campaigns import Campaign
from worker.model.codes import Code
from worker.model.control import ApprovalApproveBody
from worker.model.operations import Operation
from worker.model.replies import KeyResult, KeyView
from worker.model.triggering import TriggerAddBody, TriggerBody, TriggerCheckBody, TriggerCheckResult, TriggerResult
from worker.model.triggers import Found, Occasion, TriggerEvent


class Seen:
    """Occasions that a test says have come; each page has one."""

    def __init__(self, *found: Found, is_watched: bool = True) -> None:
        self.found = list(found)
        self.is_watched = is_watched
        self.asked: list[UUID] = []

    async def watched(self) -> bool:
        return self.is_watched

    async def page(self, after: UUID, size: int) -> tuple[list[Found], UUID | None]:
        assert size > 0
        self.asked.append(after)
        index = len(self.asked) - 1
        if index >= len(self.found):
            return [], None
        return [self.found[index]], UUID(int=index + 1)


class Leads:
    """Everybody leads: what two leaders do at once must be done once."""

    def __init__(self, *, leads: bool = True) -> None:
        self.leads = leads

    async def lead(self, duty: str, holder: str, seconds: float) -> bool:
        assert duty.startswith("triggers/")
        assert holder
        assert seconds > 0
        return self.leads


def duty(rig: Rig, seen: Seen, *, leads: bool = True, serial: str = "") -> Triggering:
    keys, hsm = rig.token.fleet_keys, rig.token.hsm
    dues = Leads(leads=leads)
    return Triggering("me", serial or rig.token.serial, seen, dues, rig.store, Trust(keys), keys, hsm)  # type: ignore[arg-type]


async def ruled(rig: Rig, event: str, **words: object) -> None:
    said = {"tenant": "acme", "name": event, "event": event} | words
    await rig.command(Operation.TRIGGER_ADD, TriggerAddBody.model_validate(said))


async def shown(rig: Rig, key: str = PAYMENTS) -> KeyView:
    told = await rig.command(Operation.KEY_SHOW, KeyShowBody(tenant="acme", key=key))
    assert isinstance(told, KeyResult)
    return told.key


def campaigns(rig: Rig) -> list[Campaign]:
    return [stored.row for stored in rig.memory.rows.values() if isinstance(stored.row, Campaign)]


def event(rig: Rig, key: str = PAYMENTS) -> TriggerBody:
    return TriggerBody(event=TriggerEvent.SCHEDULE_DUE, key=key, occurred_ms=rig.clock.ms)


async def test_one_batch_with_the_same_event_under_many_ids_rotates_once() -> None:
    rig = await Rig.made()
    await ruled(rig, "schedule-due")
    rig.clock.ms += 1000
    key = await shown(rig)
    drafts = [rig.draft(Operation.TRIGGER, event(rig, name)) for name in (PAYMENTS, str(key.id)) for _ in range(4)]
    await rig.run(*drafts)
    results = [rig.told(sent)[-1].results[0] for sent in drafts]
    assert [isinstance(one, TriggerResult) and one.rotated for one in results].count(True) == 1
    assert len(campaigns(rig)) == 1
    assert (await shown(rig)).active_version == 2
    rig.clock.ms += 1000
    again = await rig.ask(Operation.TRIGGER, event(rig))  # another moment is another event
    assert isinstance(again.results[0], TriggerResult)
    assert again.results[0].rotated


async def test_a_redelivered_report_is_answered_from_the_ledger() -> None:
    rig = await Rig.made()
    await ruled(rig, "schedule-due")
    rig.clock.ms += 1000
    sent = rig.draft(Operation.TRIGGER, event(rig))
    await rig.run(sent)
    await rig.run(rig.again(sent))
    first = rig.told(sent)[-1].results[0]
    assert isinstance(first, TriggerResult)
    assert first.rotated
    assert (await shown(rig)).active_version == 2


async def test_a_tenants_rule_is_not_anothers() -> None:
    rig = await Rig.made()
    (refused,) = (await rig.ask(Operation.TRIGGER, event(rig))).results
    assert isinstance(refused, Refusal)
    assert refused.code == Code.NOT_FOUND


async def test_a_dry_run_knows_what_a_report_knows() -> None:
    rig = await Rig.made()
    await ruled(rig, "schedule-due")
    rig.clock.ms += 1000
    for name in (PAYMENTS, str((await shown(rig)).id)):
        body = TriggerCheckBody(tenant="acme", event=Occasion.SCHEDULE_DUE, key=name)
        told = await rig.command(Operation.TRIGGER_CHECK, body)
        assert isinstance(told, TriggerCheckResult)
        assert (told.would_rotate, told.begins) == (True, True)
    assert (await shown(rig)).active_version == 1
    (none,) = (await rig.ask(Operation.TRIGGER_CHECK, body.model_copy(update={"key": str(uuid4())}), rig.ann)).results
    assert isinstance(none, Refusal)


async def test_a_rule_that_was_replaced_meanwhile_voids_the_approval() -> None:
    rig = await Rig.made()
    await ruled(rig, "schedule-due")
    body = TriggerAddBody.model_validate({"tenant": "acme", "name": "schedule-due", "event": "schedule-due"})
    told = await rig.ask(Operation.TRIGGER_ADD, body, rig.ann)
    await ruled(rig, "schedule-due", pattern="acme/eu")
    (waiting,) = told.results
    assert isinstance(waiting, Refusal)
    assert waiting.pending is not None
    approve = ApprovalApproveBody(tenant="acme", approval=waiting.pending.id, digest=waiting.pending.digest)
    (ended,) = (await rig.ask(Operation.APPROVAL_APPROVE, approve, rig.ben)).results
    assert getattr(ended, "result", None) is None


async def test_the_duty_rotates_what_is_too_old_once_though_two_lead() -> None:
    rig = await Rig.made()
    await ruled(rig, "key-age", period_s=60)
    rig.clock.ms += 60_000
    key = (await shown(rig)).id
    one = Found(Occasion.KEY_AGE, "acme", key, 1)
    assert sum(await asyncio.gather(duty(rig, Seen(one)).turn(), duty(rig, Seen(one)).turn())) == 1
    assert await duty(rig, Seen(one)).turn() == 0
    assert (await shown(rig)).active_version == 2
    (campaign,) = campaigns(rig)
    assert (campaign.asked_by, campaign.key) == ("keyriver", key)


async def test_the_duty_goes_on_where_it_was_and_begins_anew() -> None:
    rig = await Rig.made()
    seen = Seen(Found(Occasion.KEY_AGE, "acme", uuid4(), 1))
    looking = duty(rig, seen)
    assert await looking.turn() == 0
    assert seen.asked == [UUID(int=0), UUID(int=1)]
    await looking.turn()
    assert seen.asked[2] == UUID(int=0)


@pytest.mark.parametrize(("leads", "watched"), [(False, True), (True, False)])
async def test_who_does_not_lead_and_where_no_rule_waits_nothing_is_read(leads: bool, watched: bool) -> None:
    rig, seen = await Rig.made(), Seen(is_watched=watched)
    assert await duty(rig, seen, leads=leads).turn() == 0
    assert seen.asked == []


async def test_an_l1_of_another_token_is_left_to_its_workers() -> None:
    rig = await Rig.made()
    await ruled(rig, "key-age", period_s=60)
    rig.clock.ms += 60_000
    one = Found(Occasion.KEY_AGE, "acme", (await shown(rig, "acme")).id, 1)
    assert await duty(rig, Seen(one), serial="another").turn() == 0
    assert await duty(rig, Seen(one)).turn() == 1
    assert (await shown(rig, "acme")).active_version == 2


async def test_what_the_token_does_not_do_now_is_left_for_later() -> None:
    rig = await Rig.made()
    await ruled(rig, "key-age", period_s=60)
    rig.clock.ms += 60_000
    one = Found(Occasion.KEY_AGE, "acme", (await shown(rig)).id, 1)
    looking = duty(rig, Seen(one))
    looking = replace(looking, hsm=rig.hiccups)
    rig.hiccups.skipped = [True]
    assert await looking.turn() == 0
    assert (await shown(rig)).active_version == 1


async def test_what_stands_below_is_moved_by_the_duty() -> None:
    rig = await Rig.made()
    await ruled(rig, "parent-rotated", action="move")
    await rig.command(Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key="acme/eu"))
    one = Found(Occasion.PARENT_ROTATED, "acme", (await shown(rig, "acme/eu")).id, 1)
    assert await duty(rig, Seen(one)).turn() == 1
    assert [(row.from_version, row.items) for row in campaigns(rig)] == [(1, 2)]
    assert await duty(rig, Seen(one)).turn() == 0
