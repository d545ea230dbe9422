"""Campaigns at work: any process of the bulk lane leases slices and does them, or looks whether all is done (D8).

Leases only save work. What is written is guarded by the rows themselves: the campaign's, both chains', each DEK's.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import NamedTuple, Protocol
from uuid import UUID

from worker.chain import fair, key_slices, slices
from worker.chain.campaign_end import turned
from worker.chain.campaigns import Turn, campaign_id, campaign_ref, remaining
from worker.chain.key_slices import KeyWork
from worker.chain.outside import is_outside
from worker.chain.resolve import Chains
from worker.chain.slices import DekWork, Ends
from worker.flow.campaign_verify import Verifying
from worker.flow.failpoints import Failpoints
from worker.flow.fairness import Throttle
from worker.flow.slices import Slices
from worker.flow.standing import Standing, Standings
from worker.flow.uses import Uses
from worker.model.campaign_bodies import FULL_SHARE
from worker.model.campaigns import Campaign, CampaignKind, CampaignState, Leased, Slice
from worker.model.codes import Code
from worker.model.effects import FinishSlice, Settlement
from worker.model.facts import Facts
from worker.model.hsm import HsmOp, HsmResult
from worker.ports import Hsm

log = logging.getLogger(__name__)

LEASE_S = 5.0
"""A slice takes a tenth of a second; whoever is frozen for longer has lost it."""
HSM_S = 3.0
DEKS, KEYS = 1000, 20
"""The size of a slice."""
TURN_S = 1.0
"""So long one campaign is worked on before the next tenant has its turn."""
AT_ONCE = 3
"""Slices of one process at the same time: while one is on the token, one is settled and one is read."""
TELLS_S = 1.0
WAIT_S, QUIET_S = 1.0, 30.0
"""A campaign that can't go on is tried again after so long, and that is said again after so long without trouble."""


class CampaignWatch(Protocol):
    """Who counts what campaigns do. Must not block or raise."""

    def sliced(self, moved: int, codes: Mapping[str, int], seconds: float) -> None:
        """A slice was settled: so many moved, the others failed, in so many seconds from lease to settle."""
        ...

    def remains(self, campaign: UUID, items: int, rate: float, failed: int) -> None:
        """So many are left under the old version; the rate of all processes in items per second, 0 if unknown."""
        ...

    def gone(self, campaign: UUID) -> None:
        """It is not at work any more, whoever ended it."""
        ...


class _Lane(NamedTuple):
    slices: int
    is_over: bool


@dataclass(frozen=True, slots=True)
class Campaigning:
    """The duty. `holder` names this process; `sizes` are a slice's DEKs and keys."""

    holder: str
    slices: Slices
    standings: Standings
    hsm: Hsm
    uses: Uses
    verifying: Verifying
    failpoints: Failpoints
    watch: CampaignWatch
    clock: Callable[[], float] = perf_counter
    sizes: tuple[int, int] = (DEKS, KEYS)
    throttle: Throttle = field(default_factory=Throttle)
    _token: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One slice is on the token at a time: two of them take as long, and then both wait for Postgres."""
    _told: dict[UUID, float] = field(default_factory=dict)
    _served: dict[str, UUID] = field(default_factory=dict)
    """Which campaign of each tenant had the last turn."""
    _measured: set[UUID] = field(default_factory=set)
    _waits: dict[UUID, float] = field(default_factory=dict)
    """Campaigns that can't go on now, and until when nobody tries."""
    _said: dict[tuple[UUID, Code], float] = field(default_factory=dict)
    """Why, and when that was seen last: it is said again only after some quiet."""
    _spent: dict[UUID, float] = field(default_factory=dict)
    """On the token in this turn, of campaigns that have a share of their own."""
    _rests: dict[UUID, tuple[int, float]] = field(default_factory=dict)
    """Until when a campaign rests to keep to its share; another share ends that. Others go on meanwhile."""

    async def turn(self) -> int:
        """Work while there is work; how many slices and states were settled."""
        done = idle = 0
        while idle < fair.rounds(at_work := await self.slices.at_work()):
            self._forget({id_ for _, id_ in at_work})
            more = 0
            for tenant, id_ in fair.turns(at_work, self._served):
                self._served[tenant] = id_
                more += await self._advance(id_)
            done, idle = done + more, 0 if more else idle + 1
        self._forget({id_ for _, id_ in at_work})
        return done

    def _forget(self, at_work: set[UUID]) -> None:
        """What is over is measured no more."""
        for id_ in self._measured - at_work:
            self.watch.gone(id_)
            self._told.pop(id_, None)
            self._waits.pop(id_, None)
        self._measured.intersection_update(at_work)

    async def _advance(self, id_: UUID) -> int:
        standing = await self.standings.of(id_)
        if standing is None or not standing.moves or self.clock() < self._waits.get(id_, 0.0):
            return 0
        if standing.campaign.state is CampaignState.VERIFYING:
            return await self.verifying.turn(id_)
        share, began = standing.campaign.hsm_share, self.clock()
        rests, until = self._rests.get(id_, (share, 0.0))
        if rests == share and began < until:
            return 0
        lanes = await asyncio.gather(*[self._lane(standing, began + TURN_S) for _ in range(AT_ONCE)])
        if share < FULL_SHARE:
            self._rests[id_] = share, began + self._spent.pop(id_, 0.0) / self.throttle.part(share)
        done = sum(lane.slices for lane in lanes)
        return done + (await self._turn(id_, Turn.VERIFY) if any(lane.is_over for lane in lanes) else 0)

    async def _lane(self, standing: Standing, until: float) -> _Lane:
        """Slice after slice, as long as the campaign stays what it is; the next turn looks anew."""
        count, of_deks = 0, standing.of_deks
        size = self.throttle.size(self.sizes[0 if of_deks else 1])
        target = standing.facts.versions.get((standing.campaign.key, standing.campaign.to_version))
        if target is not None and is_outside(target):
            size = 1  # what a keystore has wrapped is given once: of a slow one a larger slice might never be whole
        if standing.campaign.items_s:  # a slice is never more than a second's worth
            size = min(size, standing.campaign.items_s)
        while self.clock() < until:
            lease = await self.slices.lease(
                standing.campaign, of_deks=of_deks, holder=self.holder, seconds=LEASE_S, size=size
            )
            if lease.slice is None:
                return _Lane(count, lease.leased is Leased.OVER)
            self.failpoints.reach("leased")
            if not await self._slice(lease.slice):
                await self.slices.release(lease.slice)
                break
            count += 1
            if standing.campaign.hsm_share < FULL_SHARE:
                break  # its rest follows, and is nobody else's
        return _Lane(count, False)

    async def _slice(self, held: Slice) -> bool:
        """One slice, whole or not at all; whether it is settled."""
        tells = self.clock() - self._told.get(held.campaign, -TELLS_S) >= TELLS_S
        standing = await self.standings.of(held.campaign, counted=tells)
        if standing is None or not standing.moves or standing.campaign.round != held.round:
            return False
        campaign, facts = standing.campaign, standing.facts
        at = slices.ends(campaign, facts, Chains(facts))
        if isinstance(at, Code):
            return await self._blocked(campaign, at)
        work, facts = await self._decided(held, standing, at)
        if work.ops and isinstance(work, DekWork):
            wanted = Counter({(campaign.key, campaign.to_version): len(work.ops)})
            if await self.uses.take(wanted):
                return await self._blocked(campaign, Code.KEY_EXHAUSTED)
        return await self._carried_out(work, facts, tells=tells)

    async def _decided(self, held: Slice, standing: Standing, at: Ends) -> tuple[DekWork | KeyWork, Facts]:
        campaign, facts, parent = standing.campaign, standing.facts, standing.parent
        if standing.of_deks:
            rows = await self.slices.deks(held, campaign.key, campaign.from_version)
            return slices.decide(held, campaign, at, rows, parent), facts
        places = await self.slices.versions(held, campaign.key, campaign.from_version)
        below = await self._below(standing, places)
        return key_slices.decide_keys(held, campaign, at, places, below, parent), below

    async def _below(self, standing: Standing, places: list[tuple[UUID, int]]) -> Facts:
        """The versions of a slice; of a deep campaign's keys all others, too, and the campaigns that they have."""
        campaign = standing.campaign
        question = await self.standings.question(campaign.id)
        assert question is not None  # noqa: S101 - it was asked before
        keys = frozenset(key for key, _ in places)
        question = replace(question, keys=question.keys | keys, versions=question.versions | frozenset(places))
        if campaign.kind is CampaignKind.DEEP:
            found = await self.standings.know(replace(question, trees=keys))
            ids = [campaign_id(key, n, found.keys[key].active_version) for key, n in places if key in found.keys]
            question = replace(question, trees=keys, refs=question.refs | frozenset(map(campaign_ref, ids)))
        found = await self.standings.know(question)
        return replace(found, needs=standing.facts.needs, progress=standing.facts.progress)

    async def _carried_out(self, work: DekWork | KeyWork, facts: Facts, *, tells: bool) -> bool:
        began = perf_counter()
        results, spent = await self._on_token(work.ops)
        self.failpoints.reach("rewrapped")
        if code := slices.waits_for(results):
            return await self._blocked(work.campaign, code)
        if isinstance(work, DekWork):
            settlement = slices.conclude(work, results, facts, tells=tells)
        else:
            settlement = key_slices.conclude_keys(work, results, facts, tells=tells)
        settled = await self.standings.settle(settlement)
        self.failpoints.reach("sliced")
        if settled:
            self._counted(settlement, facts, perf_counter() - began, tells=tells)
        if work.campaign.hsm_share < FULL_SHARE:
            self._spent[work.campaign.id] = self._spent.get(work.campaign.id, 0.0) + spent
        await self.throttle.rest("campaigns", began, spent, FULL_SHARE, AT_ONCE)
        return settled

    async def _on_token(self, ops: Sequence[HsmOp]) -> tuple[list[HsmResult], float]:
        """The results, and for how many seconds the token was at it; not while this process stood still."""
        if not ops:
            return [], 0.0
        async with self._token:
            began = self.clock()
            return await self.hsm.run(ops, HSM_S), min(HSM_S, self.clock() - began)

    def _counted(self, settlement: Settlement, facts: Facts, seconds: float, *, tells: bool) -> None:
        for effect in settlement.effects:
            if isinstance(effect, FinishSlice):
                self.watch.sliced(effect.items, Counter(one.code for one in effect.failures), seconds)
                if tells:
                    self._told[effect.slice.campaign] = self.clock()
                    self._looked(facts, effect.slice.campaign)

    def _looked(self, facts: Facts, id_: UUID) -> None:
        left = sum(remaining(needs) for needs in facts.needs.values())
        self._measured.add(id_)
        self.watch.remains(id_, left, facts.progress[id_].rate, facts.progress[id_].failed)

    async def _blocked(self, campaign: Campaign, code: Code) -> bool:
        """Nothing can be done now: it is tried again later. What was rotated again can never be done."""
        if code is Code.CAMPAIGN_STATE:
            await self._turn(campaign.id, Turn.FAIL, "the key was rotated again: start a campaign to that version")
        else:
            now = self.clock()
            if self._said.get((campaign.id, code), -QUIET_S) <= now - QUIET_S:
                log.warning("the campaign %s waits: %s", campaign.id, code)
            self._said[campaign.id, code] = now
            self._waits[campaign.id] = now + WAIT_S
        return False

    async def _turn(self, id_: UUID, turn: Turn, why: str = "") -> bool:
        standing = await self.standings.of(id_, counted=True)
        if standing is None or not standing.moves:
            return False
        self._looked(standing.facts, id_)
        settlement = turned(standing.campaign, standing.parent, standing.facts, turn, why)
        return settlement is not None and await self.standings.settle(settlement)
