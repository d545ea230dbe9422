"""The last look at a campaign: rows scanned, parts of a deep one begun and waited for, the certificate signed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from worker.chain.campaign_end import Look, certificate, completed, ended
from worker.chain.campaign_parts import begun, parts_of
from worker.chain.campaigns import Verdict, campaign_id, campaign_ref
from worker.flow.slices import Slices
from worker.flow.standing import Standing, Standings
from worker.model.campaigns import LAST_ID, CampaignKind, Leftovers, Slice
from worker.model.effects import Settlement
from worker.model.facts import Facts, Paging
from worker.model.ids import NO_ID
from worker.ports import Dues, FleetKeys
from worker.seal.certificates import payload, signed

LEAD_S = 30.0
AT_ONCE = 50
"""Parts that begin in one settlement."""
LISTED = 10_000


@dataclass(frozen=True, slots=True)
class Verifying:
    """One process at a time looks; two would only scan twice."""

    fleet: str
    holder: str
    slices: Slices
    standings: Standings
    fleet_keys: FleetKeys
    dues: Dues
    recoverable_ms: int | None = None
    """How long backups could bring a destroyed version back (S15); None: nobody said, and nothing is destroyed."""

    async def turn(self, id_: UUID) -> bool:
        """Whether the campaign went on."""
        if not await self.dues.lead(f"campaign/{id_}", self.holder, LEAD_S):
            return False
        standing = await self.standings.of(id_)
        if standing is None or not standing.moves:
            return False
        if standing.campaign.kind is CampaignKind.DEEP and not standing.of_deks:
            return await self._layer(standing)
        left = await self.slices.leftovers(standing.campaign, of_deks=standing.of_deks)
        return await self._ended(id_, left, ())

    async def _layer(self, standing: Standing) -> bool:
        """A deep campaign's own slices are done: its parts begin, all at once, and it ends when they have ended."""
        campaign = standing.campaign
        facts, places = await self._below(standing)
        pages = facts.failures.values()
        failing = {UUID(one.item.partition("/")[0]) for page in pages for one in page}
        parts = parts_of(campaign, facts, places, failing)
        if parts.planned:
            return await self.standings.settle(begun(campaign, parts.planned[:AT_ONCE], facts))
        return False if parts.waiting else await self._ended(campaign.id, parts.left, parts.done)

    async def _below(self, standing: Standing) -> tuple[Facts, Sequence[tuple[UUID, int]]]:
        campaign = standing.campaign
        question = await self.standings.question(campaign.id)
        assert question is not None  # noqa: S101 - it was asked before
        all_ = Slice(campaign.id, 0, 0, NO_ID, LAST_ID, 0)
        places = await self.slices.versions(all_, campaign.key, campaign.from_version)
        found = await self.standings.know(replace(question, keys=frozenset(key for key, _ in places)))
        ids = {
            place: campaign_id(*place, found.keys[place[0]].active_version)
            for place in places
            if place[0] in found.keys
        }
        question = replace(
            question,
            versions=question.versions | frozenset(places),
            refs=question.refs | frozenset(map(campaign_ref, ids.values())),
            failures=frozenset({Paging(str(campaign.id), "", LISTED)}),
        )
        facts = await self.standings.know(question)
        rows = facts.rows
        begins = frozenset(place for place, id_ in ids.items() if campaign_ref(id_) in rows)
        return (await self.standings.know(replace(question, needs=begins)) if begins else facts), places

    async def _ended(self, id_: UUID, left: Leftovers, parts: Sequence[UUID]) -> bool:
        standing = await self.standings.of(id_, counted=True)
        if standing is None or not standing.moves:
            return False
        campaign, facts = standing.campaign, standing.facts
        digests = await self.slices.digests(id_)
        look = Look(left, facts.progress[id_], digests, await self.slices.checkpoint(campaign.tenant), parts)
        outcome = ended(campaign, standing.parent, facts, look)
        if outcome is Verdict.DONE:
            outcome = await self._completed(standing, look)
        return isinstance(outcome, Settlement) and await self.standings.settle(outcome)

    async def _completed(self, standing: Standing, look: Look) -> Settlement | None:
        campaign, facts = standing.campaign, standing.facts
        version = facts.versions.get((campaign.key, campaign.from_version))
        if version is None:
            return None
        said = certificate(self.fleet, campaign, facts, look)
        sealed = signed(said, await self.fleet_keys.sign(payload(said)))
        return completed(campaign, standing.parent, facts, version, sealed, self.recoverable_ms)
