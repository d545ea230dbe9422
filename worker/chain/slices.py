"""One slice of a campaign that moves stored DEKs: decide → (HSM) → conclude, as for a request, and nothing else.

The chain as it is now decides; the settlement rests on the campaign's row and on every row of both chains, so that a
slice of a campaign that was paused, or under a key that was switched off meanwhile, leaves nothing (D8).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from worker.chain import blob
from worker.chain.campaigns import ITEMS_FAILED, PROGRESS, moves_deks, seen_view
from worker.chain.leaves import ACTOR, own_leaf
from worker.chain.lifecycle import Use, Who
from worker.chain.resolve import Chains, Usable
from worker.chain.work import failed
from worker.model.campaign_replies import CampaignTold
from worker.model.campaigns import Campaign, CampaignState, Failure, Slice
from worker.model.codes import Code
from worker.model.effects import Announce, Count, Effect, FinishSlice, MoveDeks, Seen, Settlement
from worker.model.facts import Facts
from worker.model.hsm import Fault, HsmFault, HsmOp, HsmResult, Kek, RewrapDek, WrappedDek
from worker.model.ids import derived_id
from worker.model.outcomes import Failed
from worker.model.rows import Dek

SLICE = "keyriver.campaign.slice"
"""The type in a slice's leaf; it is no event."""
_NONCE_END = blob.HEADER_BYTES + blob.NONCE_BYTES
_ELSEWHERE = frozenset(Fault) - {Fault.BAD_CIPHERTEXT, Fault.INTEGRITY}
"""The token or the customer's keystore is away, says no, or is another process's: no item's fault."""


@dataclass(frozen=True, slots=True)
class Ends:
    """Where things come from and where they go, and every row that says so."""

    source: Usable
    target: Usable

    @property
    def seen(self) -> tuple[Seen, ...]:
        """Each row once."""
        return tuple(dict.fromkeys((*self.source.seen, *self.target.seen)))


@dataclass(frozen=True, slots=True)
class DekWork:
    """What a slice's rows are to become, one step per row."""

    held: Slice
    campaign: Campaign
    seen: tuple[Seen, ...]
    rows: tuple[Dek, ...]
    steps: tuple[RewrapDek | Failed, ...]

    @property
    def ops(self) -> list[HsmOp]:
        """The token's share, in the order of the rows."""
        return [step for step in self.steps if isinstance(step, RewrapDek)]


def ends(campaign: Campaign, facts: Facts, chains: Chains) -> Ends | Code:
    """Both versions, if campaigns may use them now; else why the campaign has to wait.

    A key that was rotated again has another active version: then this campaign leads nowhere (`CAMPAIGN_STATE`).
    """
    key = facts.keys.get(campaign.key)
    if key is None:
        return Code.INTEGRITY
    if key.active_version != campaign.to_version:
        return Code.CAMPAIGN_STATE
    use = Use.REWRAP_FROM if moves_deks(key) else Use.OPEN
    source = chains.usable(key, campaign.from_version, use, Who.CAMPAIGN)
    if isinstance(source, Code):
        return source
    target = chains.usable(key, campaign.to_version, Use.WRAP, Who.CAMPAIGN)
    return target if isinstance(target, Code) else Ends(source, target)


def resting(campaign: Campaign, parent: Campaign | None) -> tuple[Seen, ...]:
    """The rows that say that the campaign is at work: its own, and that of the deep one that made it."""
    return tuple(Seen(row.ref, row.revision) for row in (campaign, parent) if row is not None)


def decide(held: Slice, campaign: Campaign, at: Ends, rows: Sequence[Dek], parent: Campaign | None) -> DekWork:
    """A rewrap for every row that says of itself, in its columns and in its blob, that it is what it is."""
    moves = _Moves(campaign.key, at.source.kek, at.target.kek, campaign.tenant)
    return DekWork(held, campaign, (*resting(campaign, parent), *at.seen), tuple(rows), tuple(map(moves.step, rows)))


class _Moves:
    """From one version of a key to another; what the blobs under a version share is made once for a slice."""

    def __init__(self, key: UUID, source: Kek, target: Kek, tenant: str) -> None:
        self._key, self._source, self._target = key, source, target
        self._old, self._new = blob.whose(key, source.version), blob.whose(key, target.version)
        self._aad_end = blob.aad_end(tenant)

    def step(self, row: Dek) -> RewrapDek | Failed:
        """A blob's header has one form, so it need not be read: byte for byte it is the row's, or the row is broken."""
        id_, raw = row.id.bytes, row.blob
        old = blob.header_of(self._old, id_)
        if row.version != self._source.version or row.key != self._key or not raw.startswith(old):
            return Failed(Code.INTEGRITY)
        target_aad = blob.header_of(self._new, id_) + self._aad_end
        nonce, ciphertext = raw[blob.HEADER_BYTES : _NONCE_END], raw[_NONCE_END:]
        return RewrapDek(self._source, old + self._aad_end, nonce, ciphertext, self._target, target_aad)


def waits_for(results: Iterable[HsmResult]) -> Code | None:
    """Why the token could not be asked: then nothing of the slice is settled, and somebody tries again."""
    return next((failed(one).code for one in results if isinstance(one, HsmFault) and one.fault in _ELSEWHERE), None)


def conclude(work: DekWork, results: Sequence[HsmResult], facts: Facts, *, tells: bool) -> Settlement:
    """Everything that the slice leaves behind, in one transaction. `tells`: a progress event is due."""
    answers = iter(results)
    moved: list[Dek] = []
    blobs: list[bytes] = []
    failures: list[Failure] = []
    for row, step in zip(work.rows, work.steps, strict=True):
        result = next(answers) if isinstance(step, RewrapDek) else step
        if isinstance(step, RewrapDek) and isinstance(result, WrappedDek):
            moved.append(row)
            blobs.append(step.target_aad[: blob.HEADER_BYTES] + result.nonce + result.ciphertext)
        else:
            refused = failed(result) if isinstance(result, HsmFault) else result
            assert isinstance(refused, Failed)  # noqa: S101 - a rewrap has no other outcome
            failures.append(Failure(str(row.id), refused.code.value))
    campaign = work.campaign
    ids = tuple(row.id for row in moved)
    digest = digest_of(zip(ids, blobs, strict=True))
    effects: list[Effect] = [
        MoveDeks(campaign.to_version, ids, tuple(row.blob for row in moved), tuple(blobs)),
        FinishSlice(work.held, len(ids), digest, tuple(failures), ids),
    ]
    if ids:
        effects += [
            Count(campaign.key, campaign.from_version, -len(ids)),
            Count(campaign.key, campaign.to_version, len(ids)),
        ]
    effects += said(work.held, campaign, facts, len(ids), digest, failures, tells=tells)
    return Settlement(None, None, work.seen, (), tuple(effects))


def digest_of(moved: Iterable[tuple[UUID, bytes]]) -> bytes:
    """SHA-256 over what a slice's items became: id and bytes of each, in the order of ids."""
    digest = sha256()
    for id_, made in moved:
        digest.update(id_.bytes)
        digest.update(made)
    return digest.digest()


def said(
    held: Slice,
    campaign: Campaign,
    facts: Facts,
    moved: int,
    digest: bytes,
    failures: Sequence[Failure],
    *,
    tells: bool,
) -> list[Effect]:
    """The slice's audit leaf, and the facts: what failed, and at most once a second how far it is (D9)."""
    codes = dict(Counter(one.code for one in failures))
    if not (moved or codes):
        return []
    name = (str(held.campaign), f"{held.round}/{held.number}/{held.epoch}")
    counts = ({"OK": moved} if moved else {}) | codes
    leaf_id, place = derived_id(facts.now_ms, *name, "leaf"), (campaign.key, campaign.from_version)
    leaf = own_leaf(leaf_id, campaign.tenant, facts.now_ms, SLICE, "/".join(name), counts, place, items=digest)
    effects: list[Effect] = [leaf]
    told = CampaignTold(campaign=seen_view(facts, campaign), who=ACTOR, codes=codes)
    if codes:
        effects.append(announce(facts.now_ms, ITEMS_FAILED, campaign, told, *name))
    if tells and campaign.state is CampaignState.RUNNING:
        second = facts.now_ms // 1000
        effects.append(announce(second * 1000, PROGRESS, campaign, told, name[0], str(second)))
    return effects


def announce(at_ms: int, type_: str, campaign: Campaign, told: CampaignTold, *name: str) -> Announce:
    """A fact with an id that follows from what it tells: whoever tells it again tells it under the same id."""
    body = told.model_dump_json(exclude_none=True).encode()
    return Announce(derived_id(at_ms, *name, type_), type_, campaign.tenant, body)
