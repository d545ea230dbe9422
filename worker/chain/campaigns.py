"""Campaigns, purely: what leads to what, where an id comes from, what a scan's end means, and what is told."""

from collections.abc import Iterable
from dataclasses import replace
from enum import Enum, auto
from uuid import UUID

from worker.model.campaign_replies import CampaignView
from worker.model.campaigns import LAST_ID, Campaign, CampaignKind, CampaignState, Leftovers, Progress
from worker.model.facts import Facts, Needs
from worker.model.hsm import Purpose
from worker.model.ids import NO_ID, derived_id, moment_of
from worker.model.rows import Key, State, Version
from worker.model.words import RowRef, Table


class Turn(Enum):
    """What can happen to a campaign. `VERIFY`: every slice is done; `RESCAN`: something was left over."""

    START = auto()
    PAUSE = auto()
    RESUME = auto()
    CANCEL = auto()
    VERIFY = auto()
    RESCAN = auto()
    FINISH = auto()
    FAIL = auto()
    REPLAY = auto()


_PLANNED, _RUNNING, _PAUSED = CampaignState.PLANNED, CampaignState.RUNNING, CampaignState.PAUSED
_VERIFYING, _DONE, _FAILED = CampaignState.VERIFYING, CampaignState.DONE, CampaignState.FAILED
_CANCELLED = CampaignState.CANCELLED
_LEADS: dict[Turn, dict[CampaignState, CampaignState]] = {
    Turn.START: {_PLANNED: _RUNNING, _CANCELLED: _RUNNING},
    Turn.PAUSE: {_RUNNING: _PAUSED, _VERIFYING: _PAUSED},
    Turn.RESUME: {_PAUSED: _RUNNING},
    Turn.CANCEL: dict.fromkeys((_PLANNED, _RUNNING, _PAUSED, _VERIFYING, _FAILED), _CANCELLED),
    Turn.VERIFY: {_RUNNING: _VERIFYING},
    Turn.RESCAN: {_VERIFYING: _RUNNING},
    Turn.FINISH: {_VERIFYING: _DONE},
    Turn.FAIL: {_RUNNING: _FAILED, _VERIFYING: _FAILED},
    Turn.REPLAY: {_FAILED: _RUNNING},
}
AT_REST = frozenset({_PAUSED, _CANCELLED})
"""States of a deep campaign in which those that it made stand still, too."""
EVENTS = {
    _RUNNING: "keyriver.campaign.started.v1",
    _PAUSED: "keyriver.campaign.paused.v1",
    _VERIFYING: "keyriver.campaign.verifying.v1",
    _DONE: "keyriver.campaign.completed.v1",
    _FAILED: "keyriver.campaign.failed.v1",
    _CANCELLED: "keyriver.campaign.cancelled.v1",
}
PROGRESS = "keyriver.campaign.progress.v1"
ITEMS_FAILED = "keyriver.campaign.items.failed.v1"
OPERATIONS_OF_A_DEK, OPERATIONS_OF_A_KEY, OPERATIONS_OF_A_NEW_KEY = 3, 4, 3
"""Calls that compute on the token: decrypt, encrypt, decrypt · unwrap, wrap, unwrap, wrap · generate, wrap, unwrap."""


def after(turn: Turn, state: CampaignState) -> CampaignState | None:
    """The state that follows, or None where that can't happen."""
    return _LEADS[turn].get(state)


def campaign_id(key: UUID, from_version: int, to_version: int) -> UUID:
    """The one campaign of these three: an event that comes twice finds it started."""
    return derived_id(moment_of(key), str(key), str(from_version), str(to_version), "campaign")


def campaign_ref(id_: UUID) -> RowRef:
    """The row of this campaign."""
    return RowRef(Table.CAMPAIGNS, str(id_))


def new_campaign(
    key: Key, version: Version, to_version: int, kind: CampaignKind, asked_by: str, now_ms: int
) -> Campaign:
    """A planned one, without a throttle."""
    return Campaign(
        id=campaign_id(key.id, version.number, to_version),
        tenant=key.tenant,
        key=key.id,
        from_version=version.number,
        to_version=to_version,
        kind=kind,
        state=_PLANNED,
        parent=None,
        compromised=version.state is State.COMPROMISED,
        items=0,
        items_s=0,
        hsm_share=100,
        round=0,
        after=NO_ID,
        upto=LAST_ID,
        asked_by=asked_by,
        why="",
        created_ms=now_ms,
        started_ms=0,
        ended_ms=0,
        certificate=b"",
        revision=1,
    )


def moves_deks(key: Key) -> bool:
    """Whether stored DEKs are what the key's campaigns move, and not versions of the keys below."""
    return key.purpose is Purpose.WRAPS_DEKS


def remaining(needs: Needs) -> int:
    """What the old version still wraps, as the census and the rows below say."""
    return needs.deks + needs.children


def went(campaign: Campaign, state: CampaignState, now_ms: int) -> Campaign:
    """The row in its next state. What starts anew goes through all ids again, in a new round."""
    anew = state is _RUNNING and campaign.state in (_PLANNED, _CANCELLED, _FAILED)
    ends = state in (_DONE, _FAILED, _CANCELLED)
    return replace(
        campaign,
        state=state,
        round=campaign.round + anew,
        after=NO_ID if anew else campaign.after,
        upto=LAST_ID if anew else campaign.upto,
        started_ms=now_ms if anew and not campaign.started_ms else campaign.started_ms,
        ended_ms=now_ms if ends else 0,
        revision=campaign.revision + 1,
    )


class Verdict(Enum):
    """What a campaign's last look means."""

    DONE = auto()
    RESCAN = auto()
    FAILED = auto()


def verdict(left: Leftovers, census: int) -> Verdict:
    """Done: no row and nothing in the census. What nobody saw fail is sliced again; only failures are left: failed.

    No row, and a census that says otherwise: rows were taken away behind our back, and that is no success.
    """
    if left.rows > left.failed:
        return Verdict.RESCAN
    return Verdict.FAILED if left.rows or census else Verdict.DONE


def rescan(campaign: Campaign, left: Leftovers) -> Campaign:
    """Another round, over the leftovers alone."""
    running = went(campaign, _RUNNING, 0)
    return replace(running, round=campaign.round + 1, after=left.first, upto=left.last)


def view(campaign: Campaign, names: Iterable[str], needs: Needs, progress: Progress) -> CampaignView:
    """The campaign for people and machines."""
    left = remaining(needs)
    at_work = campaign.state is _RUNNING
    rate = progress.rate if at_work else 0.0
    return CampaignView(
        id=campaign.id,
        tenant=campaign.tenant,
        key=campaign.key,
        alias=min(names, default=""),
        from_version=campaign.from_version,
        to_version=campaign.to_version,
        kind=campaign.kind,
        state=campaign.state,
        parent=campaign.parent,
        items=campaign.items,
        remaining=left,
        moved=progress.moved,
        failed=progress.failed,
        issued_outside=needs.issued_outside,
        rate=rate,
        eta_s=left / rate if rate else 0.0,
        pace=progress.pace if at_work else 1.0,
        items_s=campaign.items_s,
        hsm_share=campaign.hsm_share,
        round=campaign.round,
        asked_by=campaign.asked_by,
        why=campaign.why,
        created_ms=campaign.created_ms,
        started_ms=campaign.started_ms,
        ended_ms=campaign.ended_ms,
        revision=campaign.revision,
        destroy_after_s=campaign.destroy_after_s,
        certificate=campaign.certificate.decode() or None,
    )


def seen_view(facts: Facts, campaign: Campaign) -> CampaignView:
    """The view of a campaign of which the facts know names, needs and progress; what they lack counts as nothing."""
    needs = facts.needs.get((campaign.key, campaign.from_version), Needs())
    return view(campaign, facts.names.get(campaign.key, ()), needs, facts.progress.get(campaign.id, Progress()))
