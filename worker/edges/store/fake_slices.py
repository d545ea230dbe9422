"""Campaigns in memory: the port `Slices` over a fake store's rows, and the effects that are settled alone."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol
from uuid import UUID

from worker.model.audit import Head
from worker.model.campaigns import (
    Campaign,
    CampaignState,
    ExposedSlice,
    Failure,
    Lease,
    Leased,
    Leftovers,
    Progress,
    Slice,
)
from worker.model.effects import Effect, FinishSlice, MoveDeks, Vacant
from worker.model.facts import Answer, Paging, Question, StoredRow
from worker.model.ids import NO_ID
from worker.model.rows import Dek, Key, RowRef, State, Version

Name = tuple[UUID, int, int]


class Rows(Protocol):
    """What of a fake store is seen here."""

    @property
    def clock(self) -> Callable[[], int]:
        """Unix milliseconds."""
        ...

    @property
    def rows(self) -> dict[RowRef, StoredRow]:
        """By name."""
        ...

    @property
    def deks(self) -> dict[UUID, Dek]:
        """By id."""
        ...

    @property
    def census(self) -> dict[tuple[UUID, int], tuple[int, int]]:
        """Stored and issued outside, by key version."""
        ...


@dataclass(slots=True)
class _Round:
    after: UUID
    upto: UUID
    carved: int = 0
    over: bool = False
    next_ms: float = 0.0


@dataclass(slots=True)
class _Slice:
    held: Slice
    expires_ms: float
    done: FinishSlice | None = None


@dataclass(slots=True)
class FakeSlices:
    """See the module."""

    store: Rows
    rounds: dict[tuple[UUID, int], _Round] = field(default_factory=dict)
    slices: dict[Name, _Slice] = field(default_factory=dict)
    failures: dict[UUID, dict[str, Failure]] = field(default_factory=dict)

    # The port.

    async def at_work(self) -> list[tuple[str, UUID]]:
        """See `Slices`."""
        at_work = (CampaignState.RUNNING, CampaignState.VERIFYING)
        return sorted((one.tenant, one.id) for one in self._campaigns() if one.state in at_work)

    async def below(self, campaign: UUID) -> list[UUID]:
        """See `Slices`."""
        return sorted(one.id for one in self._campaigns() if one.parent == campaign)

    async def lease(self, campaign: Campaign, *, of_deks: bool, holder: str, seconds: float, size: int) -> Lease:
        """See `Slices`."""
        del holder
        now = self.store.clock()
        turn = self.rounds.setdefault((campaign.id, campaign.round), _Round(campaign.after, campaign.upto))
        if campaign.items_s and turn.next_ms > now:
            return Lease(Leased.WAIT)
        mine = [one for one in self.slices.values() if one.held.campaign == campaign.id]
        open_ = [one for one in mine if one.held.round == campaign.round and one.done is None]
        lapsed = next((one for one in open_ if one.expires_ms < now), None)
        if lapsed is not None:
            lapsed.held = replace(lapsed.held, epoch=lapsed.held.epoch + 1)
            lapsed.expires_ms = now + seconds * 1000
            held = lapsed.held
        elif turn.over:
            return Lease(Leased.WAIT if open_ else Leased.OVER)
        else:
            held = self._carved(campaign, turn, of_deks=of_deks, size=size)
            self.slices[held.campaign, held.round, held.number] = _Slice(held, now + seconds * 1000)
        if campaign.items_s:
            turn.next_ms = max(turn.next_ms, now - 1000) + 1000 * size / campaign.items_s
        return Lease(Leased.SLICE, held)

    async def release(self, held: Slice) -> None:
        """See `Slices`."""
        one = self.slices[held.campaign, held.round, held.number]
        if one.held == held and one.done is None:
            one.expires_ms = float("-inf")

    async def deks(self, held: Slice, key: UUID, version: int) -> list[Dek]:
        """See `Slices`."""
        found = [dek for dek in self._under(key, version) if held.after < dek.id <= held.upto]
        return sorted(found, key=lambda dek: dek.id)

    async def versions(self, held: Slice, key: UUID, version: int) -> list[tuple[UUID, int]]:
        """See `Slices`."""
        found = [(one.key, one.number) for one in self._below(key, version)]
        return sorted(place for place in found if held.after < place[0] <= held.upto)

    async def leftovers(self, campaign: Campaign, *, of_deks: bool) -> Leftovers:
        """See `Slices`."""
        listed = self.failures.get(campaign.id, {})
        if of_deks:
            found = [(dek.id, str(dek.id)) for dek in self._under(campaign.key, campaign.from_version)]
        else:
            below = self._below(campaign.key, campaign.from_version)
            found = [(one.key, f"{one.key}/{one.number}") for one in below]
        fresh = [id_ for id_, name in found if name not in listed]
        left = Leftovers(len(found), len(found) - len(fresh))
        return replace(left, first=UUID(int=min(fresh).int - 1), last=max(fresh)) if fresh else left

    async def progress(self, campaign: UUID) -> Progress:
        """See `Slices`; nothing is measured here."""
        return self._progress_of(campaign)

    async def digests(self, campaign: UUID) -> list[bytes]:
        """See `Slices`."""
        return [done.digest for _, done in self._done(campaign) if done.items]

    async def checkpoint(self, tenant: str) -> Head:
        """See `Slices`; nobody signs any here."""
        return Head(tenant)

    # The effects.

    def fits(self, effect: Effect) -> bool:
        """Whether nothing has moved under it."""
        match effect:
            case MoveDeks():
                pairs = zip(effect.ids, effect.old_blobs, strict=True)
                held = self.store.deks
                return all(id_ in held and held[id_].blob == old for id_, old in pairs)
            case FinishSlice():
                one = self.slices.get((effect.slice.campaign, effect.slice.round, effect.slice.number))
                return one is not None and one.done is None and one.held.epoch == effect.slice.epoch
            case Vacant():
                below = [one for one in self._below(effect.key, effect.version) if not one.retired_ms]
                if not effect.retired_only:
                    below = self._below(effect.key, effect.version)
                return not below and not self.store.census.get((effect.key, effect.version), (0, 0))[0]
            case _:
                return True

    def write(self, effect: Effect) -> None:
        """It happened."""
        if isinstance(effect, MoveDeks):
            for id_, blob in zip(effect.ids, effect.blobs, strict=True):
                self.store.deks[id_] = replace(self.store.deks[id_], version=effect.version, blob=blob)
        elif isinstance(effect, FinishSlice):
            held = effect.slice
            self.slices[held.campaign, held.round, held.number].done = effect
            kept = {
                name: one
                for name, one in self.failures.get(held.campaign, {}).items()
                if not held.after < UUID(name.partition("/")[0]) <= held.upto
            }
            self.failures[held.campaign] = kept | {one.item: one for one in effect.failures}

    def answered(self, question: Question, answer: Answer) -> Answer:
        """The answer, and what was asked of campaigns besides their rows."""
        done = {one: self._progress_of(one) for one in question.progress}
        failures = {page: self._failure_page(page) for page in question.failures}
        exposed = {page: self._exposed_page(page) for page in question.exposed}
        return replace(answer, progress=done, failures=failures, exposed=exposed)

    def _progress_of(self, campaign: UUID) -> Progress:
        done = [one for _, one in self._done(campaign)]
        return Progress(len(self.failures.get(campaign, {})), len(done), sum(one.items for one in done))

    def _failure_page(self, page: Paging) -> tuple[Failure, ...]:
        listed: Mapping[str, Failure] = self.failures.get(UUID(page.tenant), {})
        return tuple(listed[name] for name in sorted(listed) if name > page.after)[: page.limit]

    def _exposed_page(self, page: Paging) -> tuple[ExposedSlice, ...]:
        after = tuple(int(number) for number in page.after.split("/")) if page.after else (-1, -1)
        mine = self._done(UUID(page.tenant))
        found = [(place, done.exposed) for place, done in mine if done.exposed and place > after]
        return tuple(ExposedSlice(f"{place[0]}/{place[1]}", deks) for place, deks in found[: page.limit])

    def _done(self, campaign: UUID) -> list[tuple[tuple[int, int], FinishSlice]]:
        """Its finished slices by round and number, in their order."""
        mine = sorted(name for name in self.slices if name[0] == campaign)
        return [(name[1:], done) for name in mine if (done := self.slices[name].done) is not None]

    def _carved(self, campaign: Campaign, turn: _Round, *, of_deks: bool, size: int) -> Slice:
        ids = self._ids(campaign.key, of_deks=of_deks)
        inside = sorted(id_ for id_ in ids if turn.after < id_ <= turn.upto)
        turn.over = len(inside) < size
        upto = turn.upto if turn.over else inside[size - 1]
        made = Slice(campaign.id, campaign.round, turn.carved, turn.after, upto, 1)
        turn.after, turn.carved = upto, turn.carved + 1
        return made

    def _ids(self, key: UUID, *, of_deks: bool) -> Iterable[UUID]:
        if of_deks:
            return [dek.id for dek in self.store.deks.values() if dek.key == key]
        rows = (stored.row for stored in self.store.rows.values())
        return [row.id for row in rows if isinstance(row, Key) and row.parent == key]

    def _under(self, key: UUID, version: int) -> list[Dek]:
        mark = version.to_bytes(4, "big")
        mine = [dek for dek in self.store.deks.values() if dek.key == key and dek.id > NO_ID]
        return [dek for dek in mine if dek.version == version or dek.blob[20:24] == mark]

    def _below(self, key: UUID, version: int) -> list[Version]:
        keys = set(self._ids(key, of_deks=False))
        rows = [stored.row for stored in self.store.rows.values()]
        found = [row for row in rows if isinstance(row, Version) and row.key in keys]
        return [row for row in found if row.parent_version == version and row.state is not State.DESTROYED]

    def _campaigns(self) -> list[Campaign]:
        rows = (stored.row for stored in self.store.rows.values())
        return [row for row in rows if isinstance(row, Campaign)]
