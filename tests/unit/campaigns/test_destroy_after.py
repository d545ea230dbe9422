"""A version that is destroyed some time after its campaign: two officers want it, and nothing may need it then."""

from dataclasses import replace

import pytest

from tests.unit.campaigns.office import Office
from tests.unit.flow_river.rig import LIMITS, PAYMENTS, Rig
from worker.chain.campaign_end import completed
from worker.model.bodies import WrapBody, WrapItem
from worker.model.campaign_bodies import CampaignPlanBody, CampaignShowBody, CampaignStartBody
from worker.model.campaign_replies import CampaignResult, CampaignTold, CampaignView
from worker.model.campaigns import CampaignKind, CampaignState
from worker.model.control import KeyCancelDestroyBody
from worker.model.effects import Announce, PutRow, Settlement
from worker.model.facts import Facts, Question, StoredRow
from worker.model.hsm import Wrapping
from worker.model.operations import Operation
from worker.model.replies import Transition
from worker.model.rows import State, Version
from worker.seal.rowmac import mac_input

DAY_S = 24 * 3600
WEEK_S = 7 * DAY_S
SCHEDULED = "keyriver.key.destruction.scheduled.v1"


async def opened() -> Office:
    """Somebody said for how long backups live, so versions may be destroyed."""
    rig = Rig(limits=replace(LIMITS, recoverable_ms=30 * DAY_S * 1000))
    await rig.founded()
    return Office(rig)


async def begun(office: Office, **words: object) -> CampaignView:
    """As two officers want it."""
    body = CampaignStartBody.model_validate({"tenant": "acme", "key": PAYMENTS, "destroy_after_s": WEEK_S} | words)
    done = await office.rig.command(Operation.CAMPAIGN_START, body)
    assert isinstance(done, CampaignResult)
    return done.campaign


async def moved(office: Office) -> tuple[CampaignView, Version]:
    view = await office.ran(await begun(office))
    return view, office.versions(PAYMENTS)[0]


async def test_one_officer_alone_starts_nothing() -> None:
    office = await opened()
    await office.wrapped(2)
    await office.rotated()
    body = CampaignStartBody(tenant="acme", key=PAYMENTS, destroy_after_s=WEEK_S)
    assert await office.refused(Operation.CAMPAIGN_START, body) == "PENDING"
    assert not await office.rig.memory.slices.at_work()
    assert (await office.started()).state is CampaignState.RUNNING  # without it one is enough


async def test_the_emptied_version_goes_after_its_grace_and_can_be_kept() -> None:
    office = await opened()
    await office.wrapped(4)
    await office.rotated()
    view, old = await moved(office)
    assert (view.state, view.destroy_after_s) == (CampaignState.DONE, WEEK_S)
    assert (old.state, old.prior, old.forced) == (State.DESTROY_SCHEDULED, State.DEACTIVATED, False)
    assert old.retired_ms
    assert old.due_ms == old.retired_ms + WEEK_S * 1000
    cancel = KeyCancelDestroyBody(tenant="acme", key=PAYMENTS, version=1)
    assert await office.refused(Operation.KEY_CANCEL_DESTROY, cancel) == "PENDING"
    await office.rig.command(Operation.KEY_CANCEL_DESTROY, cancel)
    assert office.versions(PAYMENTS)[0].state is State.DEACTIVATED


async def test_while_blobs_are_outside_it_is_kept() -> None:
    office = await opened()
    await office.wrapped(2)
    await office.rig.ask(Operation.WRAP, WrapBody(key=PAYMENTS, items=[WrapItem()], store=False))
    await office.rotated()
    view, old = await moved(office)
    assert (view.state, view.issued_outside) == (CampaignState.DONE, 1)
    assert (old.state, old.due_ms) == (State.DEACTIVATED, 0)
    assert old.retired_ms


async def test_it_is_refused_where_nothing_could_be_destroyed() -> None:
    office = await Office.opened()  # nobody said for how long backups live
    await office.rotated()
    body = CampaignStartBody(tenant="acme", key=PAYMENTS, destroy_after_s=WEEK_S)
    assert await office.refused(Operation.CAMPAIGN_START, body) == "RECOVERY_UNKNOWN"
    office = await opened()
    await office.rotated()
    await office.rotated("acme/eu")
    await office.rotated("acme")
    for seconds in (1, 31 * DAY_S):
        wrong = body.model_copy(update={"destroy_after_s": seconds})
        assert await office.refused(Operation.CAMPAIGN_START, wrong) == "GRACE_REFUSED"
    deep = CampaignStartBody.model_validate(
        {"tenant": "acme", "key": "acme/eu", "kind": "deep", "destroy_after_s": WEEK_S}
    )
    assert await office.refused(Operation.CAMPAIGN_START, deep) == "STILL_NEEDED"
    upper = office.versions("acme")[0]
    row = replace(upper, wrapping=Wrapping.EXTERNAL)
    (mac,) = await office.rig.token.fleet_keys.mac([mac_input(row)])
    office.rig.memory.rows[upper.ref] = StoredRow(row, mac.version, mac.value)
    linked = CampaignStartBody(tenant="acme", key="acme", destroy_after_s=WEEK_S)
    assert await office.refused(Operation.CAMPAIGN_START, linked) == "UNSUPPORTED"
    plan = CampaignPlanBody(tenant="acme", key="acme")
    assert await office.refused(Operation.CAMPAIGN_PLAN, plan) == "UNSUPPORTED"
    deep = linked.model_copy(update={"kind": CampaignKind.DEEP})
    assert await office.refused(Operation.CAMPAIGN_START, deep) == "STILL_NEEDED"


async def facts_of(office: Office, view: CampaignView) -> Facts:
    row = office.row(view.id)
    places = frozenset({(row.key, 1), (row.key, 2)})
    question = Question(
        keys=frozenset({row.key}),
        versions=places,
        refs=frozenset({row.ref}),
        needs=places,
        progress=frozenset({row.id}),
    )
    return await office.facts(question)


def ended(office: Office, view: CampaignView, facts: Facts, old: Version, recoverable_ms: int | None) -> Settlement:
    campaign = replace(office.row(view.id), state=CampaignState.VERIFYING)
    done = completed(campaign, None, facts, old, b"{}", recoverable_ms)
    assert done is not None
    return done


def told(done: Settlement, type_: str) -> bytes:
    (found,) = [one.body for one in done.effects if isinstance(one, Announce) and one.type == type_]
    return found


@pytest.mark.parametrize("what", ["known", "unknown needs", "backups", "outside", "state"])
async def test_the_last_look_decides(what: str) -> None:
    """Whatever was so when the campaign began: the row as it is then, and what needs it, decide."""
    office = await opened()
    await office.rotated()
    view = await begun(office)
    facts, old = await facts_of(office, view), office.versions(PAYMENTS)[0]
    recoverable: int | None = 1
    match what:
        case "unknown needs":
            facts = replace(facts, needs={})
        case "backups":
            recoverable = None
        case "outside":
            old = replace(old, wrapping=Wrapping.EXTERNAL)
        case "state":
            old = replace(old, state=State.SUSPENDED)
    done = ended(office, view, facts, old, recoverable)
    row = next(one.row for one in done.effects if isinstance(one, PutRow) and isinstance(one.row, Version))
    why = CampaignTold.model_validate_json(told(done, "keyriver.campaign.completed.v1")).why
    if what == "known":
        said = Transition.model_validate_json(told(done, SCHEDULED))
        assert said.destruction is not None
        assert (row.state, said.now, said.destruction.issued_outside, why) == (
            State.DESTROY_SCHEDULED,
            "destroy-scheduled",
            0,
            "",
        )
    else:
        assert row.state is old.state
        assert why.startswith("the old version is kept")
        assert not [one for one in done.effects if isinstance(one, Announce) and one.type == SCHEDULED]


async def test_it_is_shown() -> None:
    office = await opened()
    await office.rotated()
    view = await begun(office)
    again = await office.view(Operation.CAMPAIGN_SHOW, CampaignShowBody(tenant="acme", campaign=view.id))
    assert again.destroy_after_s == WEEK_S
