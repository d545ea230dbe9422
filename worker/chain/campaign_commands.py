"""The officers' commands on campaigns: plan, start, pause, resume, cancel, throttle, replay, and looking at them."""

from dataclasses import replace

from worker.chain import campaigns
from worker.chain.campaigns import Turn, campaign_id, campaign_ref, moves_deks, new_campaign, remaining, seen_view
from worker.chain.keys import find
from worker.chain.listed import next_after, unbelieved
from worker.chain.outside import is_outside
from worker.chain.plan import Case
from worker.chain.told import teller
from worker.chain.versions import grace_refused
from worker.chain.work import Commanding, Step
from worker.model.campaign_bodies import (
    AnyCampaignBody,
    CampaignBody,
    CampaignCancelBody,
    CampaignCommand,
    CampaignExposedBody,
    CampaignFailuresBody,
    CampaignListBody,
    CampaignOfKeyBody,
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
    CampaignFailure,
    CampaignFailuresResult,
    CampaignLayer,
    CampaignListResult,
    CampaignPlanResult,
    CampaignResult,
    CampaignTold,
)
from worker.model.campaigns import Campaign, CampaignKind, CampaignState
from worker.model.codes import Code
from worker.model.effects import Seen
from worker.model.facts import Needs, Paging, RowPage
from worker.model.outcomes import Commanded
from worker.model.rows import Key, State, Table, Version

ASSUMED_RATE = 10_000.0
"""Items per second of one process, where nothing was measured yet."""
EXPOSED_SLICES = 5
"""Slices in one page of exposed DEKs: some thousand ids."""
_OLD = (State.DEACTIVATED, State.COMPROMISED)
_TURNS: dict[type[CampaignCommand], Turn] = {
    CampaignPauseBody: Turn.PAUSE,
    CampaignResumeBody: Turn.RESUME,
    CampaignCancelBody: Turn.CANCEL,
    CampaignReplayBody: Turn.REPLAY,
}
_AGAIN = {Turn.RESUME: "keyriver.campaign.resumed.v1", Turn.REPLAY: "keyriver.campaign.replayed.v1"}


def command(case: Case, body: AnyCampaignBody) -> Step | Code:
    """One of them."""
    match body:
        case CampaignPlanBody():
            return plan(case, body)
        case CampaignStartBody():
            return start(case, body)
        case CampaignListBody():
            return list_page(case, body)
        case CampaignShowBody():
            found = _found(case, body)
            return (
                found if isinstance(found, Code) else Commanded(CampaignResult(campaign=seen_view(case.facts, found)))
            )
        case CampaignFailuresBody():
            return failures(case, body)
        case CampaignExposedBody():
            return exposed(case, body)
        case CampaignThrottleBody():
            return throttle(case, body)
        case _:
            return change(case, body)


def start(case: Case, body: CampaignStartBody) -> Step | Code:
    """A new campaign, running at once, or a planned or cancelled one again; any other is told as it stands."""
    found = _versions(case, body)
    if isinstance(found, Code):
        return found
    key, version, now_ms = found[0], found[1], case.facts.now_ms
    if refused := _undestroyable(case, body, key):
        return refused
    row = case.facts.rows.get(campaign_ref(campaign_id(key.id, version.number, key.active_version)))
    if campaign_ref(campaign_id(key.id, version.number, key.active_version)) in case.facts.tampered:
        return Code.INTEGRITY
    known = row if isinstance(row, Campaign) else None
    before = known or new_campaign(key, version, key.active_version, body.kind, teller(case).who, now_ms)
    state = campaigns.after(Turn.START, before.state)
    if state is None:
        return Commanded(CampaignResult(campaign=seen_view(case.facts, before)))
    needs = case.facts.needs.get((key.id, version.number), Needs())
    wanted = replace(before, kind=body.kind, items_s=body.items_s, hsm_share=body.hsm_share, why=body.why)
    compromised = before.compromised or version.state is State.COMPROMISED  # since it was planned or cancelled
    wanted = replace(wanted, destroy_after_s=body.destroy_after_s, compromised=compromised)
    now = replace(
        campaigns.went(wanted, state, now_ms),
        items=remaining(needs),
        revision=1 if known is None else before.revision + 1,
    )
    rests = (Seen(key.ref, key.revision), Seen(version.ref, version.revision))
    return _putting(case, known, now, body.why, rests)


def _undestroyable(case: Case, body: CampaignStartBody, key: Key) -> Code | None:
    """Why the old version can't be scheduled for destruction at the end, where that is wanted.

    A deep campaign leaves retired versions of the keys below, and they are under it until they are destroyed.
    """
    if body.destroy_after_s and body.kind is CampaignKind.DEEP and not moves_deks(key):
        return Code.STILL_NEEDED
    return grace_refused(body.destroy_after_s, case.limits)


def change(
    case: Case, body: CampaignPauseBody | CampaignResumeBody | CampaignCancelBody | CampaignReplayBody
) -> Step | Code:
    """Pause, resume, cancel or replay. What is so already changes nothing and is no error."""
    found = _found(case, body)
    if isinstance(found, Code):
        return found
    turn = _TURNS[type(body)]
    state = campaigns.after(turn, found.state)
    if state is None:
        is_so = (turn, found.state) in {(Turn.PAUSE, CampaignState.PAUSED), (Turn.CANCEL, CampaignState.CANCELLED)}
        return Commanded(CampaignResult(campaign=seen_view(case.facts, found))) if is_so else Code.CAMPAIGN_STATE
    now = campaigns.went(found, state, case.facts.now_ms)
    return _putting(case, found, now, body.why, (), _AGAIN.get(turn))


def throttle(case: Case, body: CampaignThrottleBody) -> Step | Code:
    """Another speed; slices at work under the old one are done again under the new one."""
    found = _found(case, body)
    if isinstance(found, Code):
        return found
    if found.state is CampaignState.DONE:
        return Code.CAMPAIGN_STATE
    changed = replace(found, items_s=body.items_s, hsm_share=body.hsm_share, revision=found.revision + 1)
    return _putting(case, found, changed, "", (), "keyriver.campaign.throttled.v1")


def plan(case: Case, body: CampaignPlanBody) -> Step | Code:
    """The dry run. Of a deep one every key below counts, with all its DEKs: it is what the compromise reaches."""
    found = _versions(case, body)
    if isinstance(found, Code):
        return found
    key, version = found
    needs = case.facts.needs.get((key.id, version.number), Needs())
    layers = _layers(case, key, needs, body.kind)
    items = sum(layer.items for layer in layers)
    id_ = campaign_id(key.id, version.number, key.active_version)
    progress = case.facts.progress.get(id_)
    measured = progress.one_at_a_time if progress is not None else 0.0
    rate = measured or ASSUMED_RATE
    result = CampaignPlanResult(
        id=id_,
        key=key.id,
        alias=teller(case).name(key),
        from_version=version.number,
        to_version=key.active_version,
        kind=body.kind,
        layers=layers,
        issued_outside=needs.issued_outside,
        rate=rate,
        measured=bool(measured),
        seconds=items / rate,
    )
    return Commanded(result)


def _layers(case: Case, key: Key, needs: Needs, kind: CampaignKind) -> list[CampaignLayer]:
    if moves_deks(key):
        return [_layer("DEKs", needs.deks, campaigns.OPERATIONS_OF_A_DEK)]
    if kind is CampaignKind.SHALLOW:
        return [_layer(f"L{key.layer + 1}", needs.children, campaigns.OPERATIONS_OF_A_KEY)]
    below = [one for one in case.facts.below.get(key.id, ()) if one.key != key.id]
    keys = [
        _layer(f"L{layer}", sum(one.layer == layer for one in below), campaigns.OPERATIONS_OF_A_NEW_KEY)
        for layer in sorted({one.layer for one in below})
    ]
    return [*keys, _layer("DEKs", sum(one.deks for one in below), campaigns.OPERATIONS_OF_A_DEK)]


def _layer(name: str, items: int, each: int) -> CampaignLayer:
    return CampaignLayer(layer=name, items=items, hsm_operations=items * each)


def list_page(case: Case, body: CampaignListBody) -> Step | Code:
    """One page of campaigns, as their rows say."""
    found = case.facts.pages.get(campaign_paging(body), ())
    shown, more = found[: body.limit], len(found) > body.limit
    rows = [case.facts.rows.get(ref) for ref in shown]
    views = [seen_view(case.facts, row) for row in rows if isinstance(row, Campaign)]
    return Commanded(
        CampaignListResult(
            campaigns=views, more=more, tampered=unbelieved(case.facts, shown), next_after=next_after(shown, more=more)
        )
    )


def campaign_paging(body: CampaignListBody) -> RowPage:
    """The page that this body asks for."""
    after = "" if body.after is None else str(body.after)
    return RowPage(Table.CAMPAIGNS, body.tenant or "", after, body.limit + 1)


def failures(case: Case, body: CampaignFailuresBody) -> Step | Code:
    """One page of what could not be moved."""
    campaign = _found(case, body)
    if isinstance(campaign, Code):
        return campaign
    found = case.facts.failures.get(failure_paging(body), ())
    shown = [CampaignFailure(item=one.item, code=one.code, at_ms=one.at_ms) for one in found[: body.limit]]
    return Commanded(CampaignFailuresResult(failures=shown, more=len(found) > body.limit))


def failure_paging(body: CampaignFailuresBody) -> Paging:
    """The page that this body asks for; the campaign stands where others name a tenant."""
    return Paging(str(body.campaign), body.after, body.limit + 1)


def exposed(case: Case, body: CampaignExposedBody) -> Step | Code:
    """One page of the DEKs that were readable for whoever had the old version."""
    campaign = _found(case, body)
    if isinstance(campaign, Code):
        return campaign
    found = case.facts.exposed.get(exposed_paging(body), ())
    ids = [dek for one in found for dek in one.deks]
    place = found[-1].place if len(found) == EXPOSED_SLICES else None
    return Commanded(CampaignExposedResult(exposed=ids, place=place))


def exposed_paging(body: CampaignExposedBody) -> Paging:
    """The page that this body asks for."""
    return Paging(str(body.campaign), body.after, EXPOSED_SLICES)


def _found(case: Case, body: CampaignBody) -> Campaign | Code:
    ref = campaign_ref(body.campaign)
    if ref in case.facts.tampered:
        return Code.INTEGRITY
    row = case.facts.rows.get(ref)
    return row if isinstance(row, Campaign) and row.tenant == body.tenant else Code.NOT_FOUND


def _versions(case: Case, body: CampaignOfKeyBody) -> tuple[Key, Version] | Code:
    """The key, and which of its versions is to be emptied: never the active one, never one that nothing may read.

    What a customer's keystore wraps can't be taken to another L1 as it is, nor from ours to his: only a deep campaign
    leads there (S13).
    """
    key = find(case, body.tenant, body.key)
    if isinstance(key, Code):
        return key
    old = [
        version
        for (owner, number), version in case.facts.versions.items()
        if owner == key.id and version.state in _OLD and body.from_version in (None, number)
    ]
    if not old:
        return Code.KEY_STATE
    newest = max(old, key=lambda version: version.number)
    ends = (newest, case.facts.versions.get((key.id, key.active_version)))
    if body.kind is CampaignKind.SHALLOW and any(one is not None and is_outside(one) for one in ends):
        return Code.UNSUPPORTED
    return key, newest


def _putting(
    case: Case, before: Campaign | None, now: Campaign, why: str, rests: tuple[Seen, ...], event: str | None = None
) -> Commanding:
    shown = seen_view(case.facts, now)
    mine = () if before is None else (Seen(before.ref, before.revision),)
    return Commanding(
        op=None,
        version=None,
        rows=(now,),
        changes=tuple(seen.ref for seen in mine),
        rests=(*rests, *mine),
        result=CampaignResult(campaign=shown),
        event=event or campaigns.EVENTS[now.state],
        told=CampaignTold(campaign=shown, who=teller(case).who, why=why),
    )
