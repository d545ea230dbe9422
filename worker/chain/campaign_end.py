"""The end of a campaign's round: verify, slice again what was left, and retire the old version under its lock."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from worker.chain import campaigns, lifecycle, merkle
from worker.chain.campaigns import Turn, Verdict, moves_deks, remaining, seen_view, verdict
from worker.chain.leaves import ACTOR, own_leaf
from worker.chain.lifecycle import Change
from worker.chain.outside import is_outside
from worker.chain.slices import announce, resting
from worker.chain.told import Teller
from worker.chain.versions import destruction
from worker.model.audit import Head
from worker.model.campaign_replies import CampaignTold, Certificate
from worker.model.campaigns import Campaign, CampaignKind, Leftovers, Progress
from worker.model.effects import Announce, Effect, Leaf, PutRow, Seen, Settlement, Vacant
from worker.model.facts import Facts, Needs
from worker.model.ids import derived_id
from worker.model.replies import Transition
from worker.model.rows import State, Version

RETIRED = "keyriver.key.retired.v1"
SCHEDULED = "keyriver.key.destruction.scheduled.v1"


@dataclass(frozen=True, slots=True)
class Look:
    """What was found when every slice was done. `digests` are the slices', `log` the audit log as last signed."""

    left: Leftovers
    progress: Progress
    digests: Sequence[bytes]
    log: Head
    parts: Sequence[UUID] = ()


def turned(campaign: Campaign, parent: Campaign | None, facts: Facts, turn: Turn, why: str = "") -> Settlement | None:
    """The campaign's next state and the fact that tells of it; None where that can't happen."""
    state = campaigns.after(turn, campaign.state)
    if state is None:
        return None
    return _settlement(campaign, campaigns.went(campaign, state, facts.now_ms), parent, facts, why)


def ended(campaign: Campaign, parent: Campaign | None, facts: Facts, look: Look) -> Verdict | Settlement | None:
    """What becomes of a campaign that verifies: `Verdict.DONE` is for `completed`, with its certificate."""
    needs = facts.needs.get((campaign.key, campaign.from_version), Needs())
    found = verdict(look.left, remaining(needs) if campaign.kind is CampaignKind.SHALLOW else 0)
    if found is Verdict.DONE:
        return found
    if found is Verdict.RESCAN:
        return _settlement(campaign, campaigns.rescan(campaign, look.left), parent, facts, "left over", quiet=True)
    why = f"{look.left.failed} failed" if look.left.rows else "the census and the rows disagree"
    return turned(campaign, parent, facts, Turn.FAIL, why)


def certificate(fleet: str, campaign: Campaign, facts: Facts, look: Look) -> Certificate:
    """What is to be signed."""
    key = facts.keys[campaign.key]
    needs = facts.needs.get((campaign.key, campaign.from_version), Needs())
    what = "stored DEKs" if moves_deks(key) else f"versions of layer {key.layer + 1} keys"
    deep = campaign.kind is CampaignKind.DEEP and not moves_deks(key)
    version = facts.versions.get((campaign.key, campaign.from_version))
    known = campaign.compromised or (version is not None and version.state is State.COMPROMISED)
    return Certificate(
        fleet=fleet,
        campaign=campaign.id,
        tenant=campaign.tenant,
        key=campaign.key,
        from_version=campaign.from_version,
        to_version=campaign.to_version,
        kind=campaign.kind,
        covers="new versions of all keys below, and what they wrap: see parts" if deep else f"stored rows: {what}",
        items=look.progress.moved,
        issued_outside=needs.issued_outside,
        exposed=look.progress.moved if known and moves_deks(key) else 0,
        parts=list(look.parts),
        started_ms=campaign.started_ms,
        ended_ms=facts.now_ms,
        digests=merkle.root_of([merkle.leaf_hash(digest) for digest in look.digests]),
        log_size=look.log.size,
        log_root=look.log.frontier[0] if look.log.frontier else b"",
    )


def completed(
    campaign: Campaign,
    parent: Campaign | None,
    facts: Facts,
    version: Version,
    signed: bytes,
    recoverable_ms: int | None = None,
) -> Settlement | None:
    """Done: the old version is locked, counted once more under that lock, and retired, or nothing is written.

    Where two officers wanted it, and nothing needs the version, it is scheduled for destruction with that (S14, S15).
    """
    state = campaigns.after(Turn.FINISH, campaign.state)
    if state is None:
        return None
    done = replace(campaigns.went(campaign, state, facts.now_ms), certificate=signed)
    retired = replace(version, retired_ms=facts.now_ms, revision=version.revision + 1)
    deep = campaign.kind is CampaignKind.DEEP
    tells = Teller(facts, ACTOR, None, str(campaign.id), str(campaign.id))
    why = f"nothing stored is left under version {version.number}"
    told = tells.transition(facts.keys[campaign.key], version, retired, why)
    last, kept, ending = _destroyed_later(campaign, facts, retired, tells, recoverable_ms)
    settled = _settlement(campaign, done, parent, facts, kept)
    fact = _fact(campaign, facts, RETIRED, told)
    return replace(
        settled,
        seen=(*settled.seen, Seen(version.ref, version.revision)),
        changes=(*settled.changes, version.ref),
        effects=(*settled.effects, PutRow(last), fact, *ending, Vacant(campaign.key, campaign.from_version, deep)),
    )


def _destroyed_later(
    campaign: Campaign, facts: Facts, retired: Version, tells: Teller, recoverable_ms: int | None
) -> tuple[Version, str, list[Effect]]:
    """The version as it will stand, why it is kept though it was to go, and what tells that it goes."""
    if not campaign.destroy_after_s:
        return retired, "", []
    needs = facts.needs.get((campaign.key, campaign.from_version))
    state = lifecycle.after(Change.SCHEDULE_DESTROY, retired.state)
    if needs is None or needs.anything:
        count = 0 if needs is None else needs.issued_outside
        return retired, f"the old version is kept: {count} blobs left the database", []
    if state is None or recoverable_ms is None or is_outside(retired):
        return retired, "the old version is kept: it can't be destroyed as things are", []
    due_ms = facts.now_ms + campaign.destroy_after_s * 1000
    scheduled = replace(retired, state=state, due_ms=due_ms, prior=retired.state, forced=False)
    report = destruction(scheduled, needs, recoverable_ms)
    key, why = facts.keys[campaign.key], "two officers wanted it when the campaign began"
    told = tells.transition(key, retired, scheduled, why, destruction=report)
    leaf_id = derived_id(facts.now_ms, str(campaign.id), str(campaign.revision), SCHEDULED, "leaf")
    place = (campaign.key, campaign.from_version)
    leaf = own_leaf(leaf_id, campaign.tenant, facts.now_ms, SCHEDULED, str(campaign.id), place=place, told=told)
    return scheduled, "", [_fact(campaign, facts, SCHEDULED, told), leaf]


def _fact(campaign: Campaign, facts: Facts, type_: str, told: Transition) -> Announce:
    id_ = derived_id(facts.now_ms, str(campaign.id), str(campaign.revision), type_)
    return Announce(id_, type_, campaign.tenant, told.model_dump_json(exclude_none=True).encode())


def _settlement(
    was: Campaign, now: Campaign, parent: Campaign | None, facts: Facts, why: str, *, quiet: bool = False
) -> Settlement:
    told = CampaignTold(campaign=seen_view(facts, now), who=ACTOR, why=why)
    effects: list[Effect] = [PutRow(now)]
    name = (str(was.id), str(was.revision))
    type_ = campaigns.EVENTS[now.state]
    if not quiet:
        effects.append(announce(facts.now_ms, type_, now, told, *name))
    effects.append(leaf_of(facts.now_ms, was, type_, told))
    return Settlement(None, None, resting(was, parent), (was.ref,), tuple(effects))


def leaf_of(now_ms: int, campaign: Campaign, type_: str, told: CampaignTold) -> Leaf:
    """The audit leaf of what becomes of a campaign."""
    id_ = derived_id(now_ms, str(campaign.id), str(campaign.revision), "leaf")
    place = campaign.key, campaign.from_version
    return own_leaf(id_, campaign.tenant, now_ms, type_, str(campaign.id), place=place, told=told)
