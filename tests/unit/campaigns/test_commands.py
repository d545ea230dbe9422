"""The officers' commands on campaigns, and every pair of state and command."""

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from tests.unit.campaigns.office import Office
from tests.unit.flow_river.rig import PAYMENTS
from worker.chain import campaigns
from worker.chain.campaigns import Turn, after
from worker.model.campaign_bodies import (
    CampaignCancelBody,
    CampaignExposedBody,
    CampaignFailuresBody,
    CampaignListBody,
    CampaignPauseBody,
    CampaignPlanBody,
    CampaignReplayBody,
    CampaignResumeBody,
    CampaignShowBody,
    CampaignStartBody,
    CampaignThrottleBody,
)
from worker.model.campaign_replies import (
    CampaignExposedResult,
    CampaignFailuresResult,
    CampaignListResult,
    CampaignPlanResult,
)
from worker.model.campaigns import CampaignKind, CampaignState
from worker.model.control import KeyCompromiseBody
from worker.model.facts import StoredRow
from worker.model.fields import Reason
from worker.model.operations import Operation
from worker.model.rows import RowRef, Table

S = CampaignState
LEADS = {
    Turn.START: {S.PLANNED: S.RUNNING, S.CANCELLED: S.RUNNING},
    Turn.PAUSE: {S.RUNNING: S.PAUSED, S.VERIFYING: S.PAUSED},
    Turn.RESUME: {S.PAUSED: S.RUNNING},
    Turn.CANCEL: dict.fromkeys((S.PLANNED, S.RUNNING, S.PAUSED, S.VERIFYING, S.FAILED), S.CANCELLED),
    Turn.VERIFY: {S.RUNNING: S.VERIFYING},
    Turn.RESCAN: {S.VERIFYING: S.RUNNING},
    Turn.FINISH: {S.VERIFYING: S.DONE},
    Turn.FAIL: {S.RUNNING: S.FAILED, S.VERIFYING: S.FAILED},
    Turn.REPLAY: {S.FAILED: S.RUNNING},
}


@pytest.mark.parametrize("state", S)
@pytest.mark.parametrize("turn", Turn)
def test_every_state_and_turn(state: CampaignState, turn: Turn) -> None:
    assert after(turn, state) == LEADS[turn].get(state)


def test_the_id_follows_from_the_three_and_nothing_else() -> None:
    key = uuid4()
    ids = {campaigns.campaign_id(*place) for place in ((key, 1, 2), (key, 2, 1), (key, 1, 3), (uuid4(), 1, 2))}
    assert len(ids) == 4
    assert campaigns.campaign_id(key, 1, 2) == campaigns.campaign_id(UUID(str(key)), 1, 2)


async def test_a_plan_changes_nothing_and_counts_each_layer() -> None:
    office = await Office.opened()
    plan = CampaignPlanBody(tenant="acme", key=PAYMENTS)
    assert await office.refused(Operation.CAMPAIGN_PLAN, plan) == "KEY_STATE"  # nothing is old yet
    await office.wrapped(7)
    await office.rotated()
    before = dict(office.rig.memory.rows)
    told = await office.ask(Operation.CAMPAIGN_PLAN, plan)
    assert isinstance(told, CampaignPlanResult)
    assert [(one.layer, one.items, one.hsm_operations) for one in told.layers] == [("DEKs", 7, 21)]
    assert (told.measured, told.seconds) == (False, 7 / told.rate)
    assert office.rig.memory.rows == before
    await office.rotated("acme/eu")
    for kind, wanted in (
        (CampaignKind.SHALLOW, [("L3", 3, 12)]),
        (CampaignKind.DEEP, [("L3", 2, 6), ("DEKs", 7, 21)]),
    ):
        body = CampaignPlanBody(tenant="acme", key=str(office.key("acme/eu").id), kind=kind)
        deep = await office.ask(Operation.CAMPAIGN_PLAN, body)
        assert isinstance(deep, CampaignPlanResult)
        assert [(one.layer, one.items, one.hsm_operations) for one in deep.layers] == wanted
    assert not [ref for ref in office.rig.memory.rows if ref.table is Table.CAMPAIGNS]


async def test_it_is_started_once_and_told_as_it_stands() -> None:
    office = await Office.opened()
    await office.wrapped(4)
    await office.rotated()
    view = await office.started(items_s=5, hsm_share=50, why="once a year")
    assert (view.state, view.items, view.remaining, view.items_s, view.hsm_share) == (S.RUNNING, 4, 4, 5, 50)
    again = await office.started(items_s=9)
    assert (again.id, again.revision, again.items_s) == (view.id, view.revision, 5)
    throttled = await office.view(
        Operation.CAMPAIGN_THROTTLE, CampaignThrottleBody(tenant="acme", campaign=view.id, items_s=7)
    )
    assert (throttled.items_s, throttled.hsm_share, throttled.revision) == (7, 100, view.revision + 1)


async def test_pausing_twice_is_no_error_and_what_can_not_be_is_refused() -> None:
    office = await Office.opened()
    await office.wrapped(4)
    await office.rotated()
    id_ = (await office.started()).id
    pause, cancel = CampaignPauseBody(tenant="acme", campaign=id_), CampaignCancelBody(tenant="acme", campaign=id_)
    resume = CampaignResumeBody(tenant="acme", campaign=id_)
    assert await office.refused(Operation.CAMPAIGN_RESUME, resume) == "CAMPAIGN_STATE"
    for _ in range(2):
        assert (await office.view(Operation.CAMPAIGN_PAUSE, pause)).state is S.PAUSED
    assert (await office.view(Operation.CAMPAIGN_RESUME, resume)).state is S.RUNNING
    for _ in range(2):
        assert (await office.view(Operation.CAMPAIGN_CANCEL, cancel)).state is S.CANCELLED
    assert await office.refused(Operation.CAMPAIGN_PAUSE, pause) == "CAMPAIGN_STATE"
    again = await office.started()
    assert (again.state, again.round) == (S.RUNNING, 2)


async def test_what_is_done_has_no_speed_and_keeps_the_row_that_its_certificate_stands_in() -> None:
    office = await Office.opened()
    await office.wrapped(4)
    await office.rotated()
    done = await office.ran(await office.started())
    assert done.state is S.DONE
    body = CampaignThrottleBody(tenant="acme", campaign=done.id, items_s=7)
    assert await office.refused(Operation.CAMPAIGN_THROTTLE, body) == "CAMPAIGN_STATE"
    assert (await office.shown(done.id)).revision == done.revision


async def test_a_version_that_others_learn_of_while_its_campaign_is_cancelled_counts_as_known_to_them() -> None:
    office = await Office.opened()
    await office.wrapped(4)
    await office.rotated()
    id_ = (await office.started()).id
    await office.view(Operation.CAMPAIGN_CANCEL, CampaignCancelBody(tenant="acme", campaign=id_))
    assert not office.row(id_).compromised
    compromise = KeyCompromiseBody(tenant="acme", key=PAYMENTS, version=1)
    await office.rig.command(Operation.KEY_COMPROMISE, compromise)
    await office.started()
    assert office.row(id_).compromised


async def test_what_is_not_there_or_anothers_is_not_found() -> None:
    office = await Office.opened()
    await office.rotated()
    id_ = (await office.started()).id
    for tenant, campaign in (("acme", uuid4()), ("other", id_)):
        words = {"tenant": tenant, "campaign": campaign}
        for operation, body in (
            (Operation.CAMPAIGN_SHOW, CampaignShowBody.model_validate(words)),
            (Operation.CAMPAIGN_PAUSE, CampaignPauseBody.model_validate(words)),
            (Operation.CAMPAIGN_THROTTLE, CampaignThrottleBody.model_validate(words)),
            (Operation.CAMPAIGN_FAILURES, CampaignFailuresBody.model_validate(words)),
            (Operation.CAMPAIGN_EXPOSED, CampaignExposedBody.model_validate(words)),
        ):
            assert await office.refused(operation, body) == "NOT_FOUND"
    for key in ("acme/nothing", str(uuid4())):
        plan, start = CampaignPlanBody(tenant="acme", key=key), CampaignStartBody(tenant="acme", key=key)
        assert await office.refused(Operation.CAMPAIGN_PLAN, plan) == "NOT_FOUND"
        assert await office.refused(Operation.CAMPAIGN_START, start) == "NOT_FOUND"


async def test_a_row_that_somebody_changed_is_not_believed() -> None:
    office = await Office.opened()
    await office.wrapped(2)
    await office.rotated()
    view = await office.started()
    ref, rows = RowRef(Table.CAMPAIGNS, str(view.id)), office.rig.memory.rows
    rows[ref] = StoredRow(replace(office.row(view.id), hsm_share=1), rows[ref].mac_version, rows[ref].mac)
    show = CampaignShowBody(tenant="acme", campaign=view.id)
    assert await office.refused(Operation.CAMPAIGN_SHOW, show) == "INTEGRITY"
    start = CampaignStartBody(tenant="acme", key=PAYMENTS)
    assert await office.refused(Operation.CAMPAIGN_START, start) == "INTEGRITY"
    await office.process().turn()  # and nobody works on it
    assert not office.rig.memory.slices.slices


async def test_pages_of_campaigns_failures_and_exposed_deks() -> None:
    office = await Office.opened()
    ids = await office.wrapped(20)
    for id_ in ids[:3]:
        dek = office.rig.memory.deks[id_]
        office.rig.memory.deks[id_] = replace(dek, blob=dek.blob[:-1] + bytes((dek.blob[-1] ^ 1,)))
    await office.rotated(reason=Reason.COMPROMISE)
    view = await office.ran(await office.started())
    assert (view.state, view.failed, view.moved) == (S.FAILED, 3, 17)
    found: list[str] = []
    after_ = ""
    while True:
        body = CampaignFailuresBody(tenant="acme", campaign=view.id, after=after_, limit=2)
        page = await office.ask(Operation.CAMPAIGN_FAILURES, body)
        assert isinstance(page, CampaignFailuresResult)
        found += [one.item for one in page.failures]
        after_ = found[-1]
        if not page.more:
            break
    assert found == sorted(str(id_) for id_ in ids[:3])
    exposed: list[UUID] = []
    place: str | None = ""
    while place is not None:
        told = await office.ask(
            Operation.CAMPAIGN_EXPOSED, CampaignExposedBody(tenant="acme", campaign=view.id, after=place)
        )
        assert isinstance(told, CampaignExposedResult)
        exposed += told.exposed
        place = told.place
    assert sorted(exposed) == sorted(ids[3:])
    await office.rotated()
    await office.started()
    for tenant, limit, more in (("acme", 1, True), (None, 500, False), ("other", 500, False)):
        listed = await office.ask(Operation.CAMPAIGN_LIST, CampaignListBody(tenant=tenant, limit=limit))
        assert isinstance(listed, CampaignListResult)
        assert listed.more is more
        assert len(listed.campaigns) == {"acme": 1, None: 2, "other": 0}[tenant]
    last = await office.ask(Operation.CAMPAIGN_LIST, CampaignListBody(after=view.id))
    assert isinstance(last, CampaignListResult)
    replay = CampaignReplayBody(tenant="acme", campaign=view.id)
    assert (await office.view(Operation.CAMPAIGN_REPLAY, replay)).state is S.RUNNING
