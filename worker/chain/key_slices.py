"""One slice of a campaign that moves keys: versions below are rewrapped, or (deep) every key below gets a new version.

A deep campaign also writes down the campaigns that its children need; they begin when its whole layer is done.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from uuid import UUID

from worker.chain import lifecycle
from worker.chain.campaigns import campaign_id, campaign_ref, moves_deks, new_campaign
from worker.chain.conclude import HINT, hint
from worker.chain.keys import creation
from worker.chain.leaves import ACTOR
from worker.chain.lifecycle import Change
from worker.chain.slices import Ends, digest_of, resting, said
from worker.chain.told import Teller
from worker.chain.versions import retiring
from worker.chain.work import failed
from worker.model.campaigns import Campaign, CampaignKind, Failure, Slice
from worker.model.codes import Code
from worker.model.effects import Announce, Effect, FinishSlice, PutRow, Seen, Settlement
from worker.model.facts import Facts
from worker.model.fields import Answer, Reason
from worker.model.hsm import CreatedKey, CreateKey, CreateOutside, HsmFault, HsmOp, HsmResult, RewrapKey, Wrapping
from worker.model.ids import derived_id
from worker.model.rows import Key, Row, State, Version

Place = tuple[UUID, int]
_GONE = frozenset({State.DESTROYED})
_WRAPPED = frozenset({Wrapping.AES_KWP, Wrapping.AES_KW})
"""What the token can take from one parent to another; what a customer's keystore wrapped it can't."""


@dataclass(frozen=True, slots=True)
class KeyStep:
    """One key or version on its way. `version` lacks its bytes until the token answers; `rows` are ready."""

    item: str
    op: RewrapKey | CreateKey | CreateOutside | None
    version: Version | None
    rows: tuple[Row, ...] = ()
    facts: tuple[tuple[str, Answer], ...] = ()
    seen: tuple[Seen, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyWork:
    """What a slice's keys are to become."""

    held: Slice
    campaign: Campaign
    seen: tuple[Seen, ...]
    steps: tuple[KeyStep | Failure, ...]

    @property
    def ops(self) -> list[HsmOp]:
        """The token's share, in the order of the steps."""
        return [step.op for step in self.steps if isinstance(step, KeyStep) and step.op is not None]


def decide_keys(
    held: Slice, campaign: Campaign, at: Ends, places: Sequence[Place], facts: Facts, parent: Campaign | None
) -> KeyWork:
    """A step for every version that the old one wraps, or (deep) for every key that has such versions."""
    if campaign.kind is CampaignKind.SHALLOW:
        steps = tuple(step for place in places for step in _rewrapped(campaign, at, place, facts))
    else:
        keys = groupby(places, key=lambda place: place[0])
        steps = tuple(step for key, group in keys for step in _renewed(campaign, at, key, list(group), facts))
    return KeyWork(held, campaign, (*resting(campaign, parent), *at.seen), steps)


def _rewrapped(campaign: Campaign, at: Ends, place: Place, facts: Facts) -> Iterator[KeyStep | Failure]:
    item = f"{place[0]}/{place[1]}"
    key, version = facts.keys.get(place[0]), facts.versions.get(place)
    if key is None or version is None or key.parent != campaign.key:
        yield Failure(item, Code.INTEGRITY.value)
    elif version.parent_version == campaign.from_version and version.state not in _GONE:
        if version.wrapping not in _WRAPPED or version.digest or at.source.link or at.target.link:
            yield Failure(item, Code.UNSUPPORTED.value)
            return
        op = RewrapKey(
            at.source.kek, key.id, version.number, key.purpose, version.wrapping, version.wrapped, at.target.kek
        )
        moved = replace(version, parent_version=campaign.to_version, revision=version.revision + 1)
        yield KeyStep(item, op, moved)


def _renewed(
    campaign: Campaign, at: Ends, id_: UUID, places: Sequence[Place], facts: Facts
) -> Iterator[KeyStep | Failure]:
    key = facts.keys.get(id_)
    olds = [facts.versions.get(place) for place in places]
    active = None if key is None else facts.versions.get((id_, key.active_version))
    if key is None or active is None or key.parent != campaign.key or None in olds:
        yield Failure(f"{id_}/{places[0][1]}", Code.INTEGRITY.value)
        return
    if not key.enabled:
        yield Failure(f"{id_}/{active.number}", Code.KEY_DISABLED.value)
        return
    under = [old for old in olds if old is not None and old.parent_version == campaign.from_version]
    how = Change.COMPROMISE if campaign.compromised else Change.RETIRE
    # What nothing may be read from can't be emptied; it is listed, and a replay after its end goes on.
    stuck = [old for old in under if not old.retired_ms and _ended(old, how, active) not in _READABLE]
    yield from (Failure(f"{id_}/{old.number}", Code.KEY_STATE.value) for old in stuck)
    living = [old for old in under if not old.retired_ms and old not in stuck]
    yield from _renewing(campaign, at, key, active, living, facts)


_READABLE = frozenset({State.DEACTIVATED, State.COMPROMISED})


def _ended(old: Version, how: Change, active: Version) -> State:
    """The state that the campaign finds it in: a version that it replaces is retired or compromised with the layer."""
    changes = old is active or how is Change.COMPROMISE
    return (lifecycle.after(how, old.state) if changes else None) or old.state


def _renewing(
    campaign: Campaign, at: Ends, key: Key, active: Version, living: Sequence[Version], facts: Facts
) -> Iterator[KeyStep]:
    teller = Teller(facts, ACTOR, None, str(campaign.id), str(campaign.id))
    renews = active in living
    number = key.latest_version + 1 if renews else key.active_version
    how, reason = (Change.COMPROMISE, Reason.COMPROMISE) if campaign.compromised else (Change.RETIRE, None)
    rows: list[Row] = []
    told: list[tuple[str, Answer]] = []
    for old in living:
        if old is active or how is Change.COMPROMISE:
            put, fact = retiring(teller, key, old, how, f"a deep campaign of {campaign.key}", reason)
            rows += put
            told += fact
    kind = CampaignKind.SHALLOW if moves_deks(key) else CampaignKind.DEEP
    for old in living:
        if campaign_ref(campaign_id(key.id, old.number, number)) not in facts.rows:
            planned = new_campaign(key, old, number, kind, campaign.asked_by, facts.now_ms)
            rows.append(replace(planned, parent=campaign.id, compromised=campaign.compromised or planned.compromised))
    if not renews:
        if rows:
            yield KeyStep(f"{key.id}/{number}", None, None, tuple(rows), tuple(told))
        return
    rows.append(replace(key, active_version=number, latest_version=number, revision=key.revision + 1))
    fresh = Version(
        key=key.id,
        number=number,
        state=State.ACTIVE,
        wrapping=Wrapping.AES_KWP,
        wrapped=b"",
        parent_version=campaign.to_version,
        material=None,
        serial="",
        created_ms=facts.now_ms,
        revision=1,
    )
    op = creation(at.target, key, number)
    yield KeyStep(f"{key.id}/{number}", op, fresh, tuple(rows), tuple(told))


def conclude_keys(work: KeyWork, results: Sequence[HsmResult], facts: Facts, *, tells: bool) -> Settlement:
    """Everything that the slice leaves behind, in one transaction."""
    answers = iter(results)
    rows: list[Row] = []
    failures: list[Failure] = []
    made: list[tuple[UUID, bytes]] = []
    told: list[tuple[str, Answer]] = []
    moved = 0
    for step in work.steps:
        if isinstance(step, Failure):
            failures.append(step)
            continue
        result = None if step.op is None else next(answers)
        if isinstance(result, HsmFault):
            failures.append(Failure(step.item, failed(result).code.value))
            continue
        moved += 1
        rows += step.rows
        told += step.facts
        if isinstance(result, CreatedKey) and step.version is not None:
            rows.append(replace(step.version, wrapped=result.wrapped, wrapping=result.wrapping, digest=result.digest))
            made.append((step.version.key, step.version.number.to_bytes(4, "big") + result.wrapped))
    digest = digest_of(made)
    effects: list[Effect] = [FinishSlice(work.held, moved, digest, tuple(failures)), *map(PutRow, rows)]
    effects += _announced(work, told, facts.now_ms)
    keys = [row.id for row in rows if isinstance(row, Key)]
    if keys:  # their old versions' handles must go
        effects.append(Announce(derived_id(facts.now_ms, *_name(work), HINT), HINT, work.campaign.tenant, hint(keys)))
    effects += said(work.held, work.campaign, facts, moved, digest, failures, tells=tells)
    return Settlement(None, None, work.seen, (), tuple(effects))


def _announced(work: KeyWork, told: Iterable[tuple[str, Answer]], now_ms: int) -> Iterator[Announce]:
    for number, (type_, fact) in enumerate(told):
        id_ = derived_id(now_ms, *_name(work), type_, str(number))
        yield Announce(id_, type_, work.campaign.tenant, fact.model_dump_json(exclude_none=True).encode())


def _name(work: KeyWork) -> tuple[str, str]:
    return str(work.campaign.id), f"{work.held.round}/{work.held.number}"
