"""The campaigns that a deep one made: which begin now, which are waited for, and what is left when none is at work."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from worker.chain import campaigns
from worker.chain.campaign_end import leaf_of
from worker.chain.campaigns import Turn, campaign_id, campaign_ref, remaining, seen_view
from worker.chain.leaves import ACTOR
from worker.chain.slices import announce, resting
from worker.model.campaign_replies import CampaignTold
from worker.model.campaigns import Campaign, CampaignState, Leftovers
from worker.model.effects import Effect, PutRow, Settlement
from worker.model.facts import Facts, Needs
from worker.model.rows import State

_OVER = frozenset({CampaignState.FAILED, CampaignState.CANCELLED})


@dataclass(frozen=True, slots=True)
class Parts:
    """One layer. `left` is what will not come to an end by itself; a failed part stops the cascade."""

    planned: tuple[Campaign, ...]
    waiting: int
    done: tuple[UUID, ...]
    left: Leftovers


def parts_of(campaign: Campaign, facts: Facts, places: Sequence[tuple[UUID, int]], failing: Collection[UUID]) -> Parts:
    """Of the versions below that the old one wraps. `failing` are keys with a failure on the campaign's list."""
    planned: list[Campaign] = []
    done: list[UUID] = []
    missing: list[UUID] = []
    waiting = failed = 0
    for place in places:
        key, version = facts.keys.get(place[0]), facts.versions.get(place)
        if version is not None and (
            version.parent_version != campaign.from_version or version.state is State.DESTROYED
        ):
            continue
        part = None if key is None else facts.rows.get(campaign_ref(campaign_id(*place, key.active_version)))
        if version is not None and version.retired_ms:
            done += [part.id] if isinstance(part, Campaign) else []
        elif not isinstance(part, Campaign):
            missing.append(place[0])
        elif part.state is CampaignState.PLANNED:
            planned.append(part)
        elif part.state in _OVER:
            failed += 1
        else:
            waiting += 1
    fresh = [key for key in missing if key not in failing]
    left = Leftovers(failed + len(missing), failed + len(missing) - len(fresh))
    if fresh:
        left = replace(left, first=UUID(int=min(fresh).int - 1), last=max(fresh))
    return Parts(tuple(planned), waiting, tuple(done), left)


def begun(campaign: Campaign, parts: Sequence[Campaign], facts: Facts) -> Settlement:
    """These parts run from now on, at their campaign's speed."""
    effects: list[Effect] = []
    for part in parts:
        state = campaigns.after(Turn.START, part.state)
        assert state is not None  # noqa: S101 - only planned ones come here
        wanted = replace(part, items_s=campaign.items_s, hsm_share=campaign.hsm_share)
        items = remaining(facts.needs.get((part.key, part.from_version), Needs()))
        now = replace(campaigns.went(wanted, state, facts.now_ms), items=items)
        told = CampaignTold(campaign=seen_view(facts, now), who=ACTOR, why=f"part of {campaign.id}")
        type_, name = campaigns.EVENTS[state], (str(part.id), str(part.revision))
        leaf = leaf_of(facts.now_ms, part, type_, told)
        effects += [PutRow(now), announce(facts.now_ms, type_, now, told, *name), leaf]
    return Settlement(None, None, resting(campaign, None), tuple(part.ref for part in parts), tuple(effects))
