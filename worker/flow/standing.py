"""Where a campaign stands: its verified row, those of the campaigns above it, and what all of them rest on."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from uuid import UUID

from worker.chain.campaigns import AT_REST, campaign_ref, moves_deks
from worker.flow.authentic import authenticated
from worker.flow.trust import Trust
from worker.model.campaigns import Campaign, CampaignState
from worker.model.effects import Settled, Settlement
from worker.model.facts import Facts, Question
from worker.ports import FleetKeys, Store

log = logging.getLogger(__name__)

DEEPEST = 8
"""Layers, and so campaigns above one another."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One campaign now. `moves`: it is at work, and none of those above it was stopped."""

    campaign: Campaign
    parent: Campaign | None
    facts: Facts
    moves: bool

    @property
    def of_deks(self) -> bool:
        """Whether it moves stored DEKs, and not keys."""
        return moves_deks(self.facts.keys[self.campaign.key])


@dataclass(frozen=True, slots=True)
class Standings:
    """Asks for them, and settles what follows."""

    store: Store
    trust: Trust
    fleet_keys: FleetKeys
    _questions: dict[UUID, Question] = field(default_factory=dict)
    """What never changes of a campaign: its key, its versions and those above it."""
    _old: dict[UUID, frozenset[tuple[UUID, int]]] = field(default_factory=dict)
    """The version that it empties."""

    async def of(self, id_: UUID, *, counted: bool = False) -> Standing | None:
        """As of now; `counted`: with the census and the progress. None for what can't be believed."""
        question = await self.question(id_)
        if question is None:
            return None
        if counted:
            question = replace(question, needs=self._old[id_], progress=frozenset({id_}))
        facts = await self.trust.verified(await self.store.know(question))
        campaign = facts.rows.get(campaign_ref(id_))
        line = list(_above(campaign, facts))
        if not isinstance(campaign, Campaign) or campaign.key not in facts.keys or not _is_whole(campaign, line):
            log.error("the campaign %s, one above it or its key can't be believed: it stands still", id_)
            return None
        at_work = campaign.state in (CampaignState.RUNNING, CampaignState.VERIFYING)
        moves = at_work and all(one.state not in AT_REST for one in line)
        return Standing(campaign, line[0] if line else None, facts, moves)

    async def question(self, id_: UUID) -> Question | None:
        """What to ask for this campaign every time."""
        known = self._questions.get(id_)
        if known is not None:
            return known
        refs = frozenset({campaign_ref(id_)})
        for _ in range(DEEPEST):
            facts = await self.trust.verified(await self.store.know(Question(refs=refs)))
            campaigns = [row for row in facts.rows.values() if isinstance(row, Campaign)]
            above = frozenset(campaign_ref(one.parent) for one in campaigns if one.parent is not None)
            if above <= refs:
                break
            refs |= above
        mine = next((one for one in campaigns if one.id == id_), None)
        if mine is None:
            log.error("the campaign %s can't be believed: it stands still", id_)
            return None
        versions = frozenset({(mine.key, mine.from_version), (mine.key, mine.to_version)})
        made = Question(tenants=frozenset({mine.tenant}), keys=frozenset({mine.key}), versions=versions, refs=refs)
        self._questions[id_] = made
        self._old[id_] = frozenset({(mine.key, mine.from_version)})
        return made

    async def know(self, question: Question) -> Facts:
        """Verified facts."""
        return await self.trust.verified(await self.store.know(question))

    async def settle(self, settlement: Settlement) -> bool:
        """Whether it is settled; else something moved, and nothing was written."""
        (done,) = await self.store.settle([await authenticated(self.fleet_keys, settlement)])
        return isinstance(done, Settled)


def _above(campaign: object, facts: Facts) -> Iterator[Campaign]:
    while isinstance(campaign, Campaign) and campaign.parent is not None:
        campaign = facts.rows.get(campaign_ref(campaign.parent))
        if isinstance(campaign, Campaign):
            yield campaign


def _is_whole(campaign: Campaign, line: list[Campaign]) -> bool:
    """Whether no campaign above is missing, as one is whose MAC does not hold."""
    return (line[-1] if line else campaign).parent is None
