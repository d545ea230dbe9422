"""An auditor at work (S16): every log recomputed in bounded memory and held against all that the fleet ever signed."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from worker.chain import tiles
from worker.chain.audit import Told, hash_of
from worker.chain.logcheck import LogCheck
from worker.chain.merkle import BadProof, check_inclusion
from worker.model.audit import AuditLeaf, Checkpoint, Flaw, Head, LogRow, Node, Span, Stray
from worker.seal import checkpoints
from worker.seal.errors import SealError
from worker.seal.lineage import FleetKey

ROWS = 2000


class AuditTrail(Protocol):
    """The logs as an auditor reads them: nothing is written, and all is as of one moment."""

    async def tenants(self, tenant: str = "") -> list[str]:
        """All that have a log, or only this one if it has."""
        ...

    async def head(self, tenant: str) -> Head | None:
        """Where a log says that it ends."""
        ...

    def rows(self, tenant: str, first: int = 0) -> AsyncIterator[LogRow]:
        """A log's entries with their leaves, from an index on."""
        ...

    async def row(self, tenant: str, index: int) -> LogRow | None:
        """One of them."""
        ...

    def checkpoints(self, tenant: str) -> AsyncIterator[Checkpoint]:
        """A log's stored checkpoints, by size; nothing about them was verified."""
        ...

    async def checkpoint_of(self, tenant: str, index: int) -> Checkpoint | None:
        """The newest stored checkpoint that covers this index."""
        ...

    async def nodes(self, spans: Sequence[Span]) -> dict[tuple[str, int, int], bytes]:
        """By tenant, level and index; level 0 are the entries' own."""
        ...

    async def strays(self, tenant: str = "") -> list[Stray]:
        """Leaves that are in no log and wait for none, and those that vanished before their turn."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found in one log. `accepted` is the longest checkpoint it agrees with; None for none or a flawed log."""

    tenant: str
    size: int
    flaws: tuple[Flaw, ...]
    more: int
    accepted: Checkpoint | None


@dataclass(frozen=True, slots=True)
class Report:
    """One run over the logs, and records that stand beside them."""

    verdicts: tuple[Verdict, ...]
    strays: tuple[Stray, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing was found."""
        return not self.strays and not any(verdict.flaws for verdict in self.verdicts)


@dataclass(slots=True)
class Hearing:
    """All that was told of the logs outside the database: published, accepted before, or in a customer's hand."""

    fleet: str
    fleet_key: FleetKey
    told: dict[str, Told] = field(default_factory=dict)
    forks: dict[str, list[Flaw]] = field(default_factory=dict)
    unread: int = 0
    """Records of the topic that the fleet did not sign; whoever may write the topic can put them there."""

    def read(self, value: bytes | None) -> None:
        """A record of the audit topic."""
        try:
            self.hear(checkpoints.parse(value or b"", self.fleet, self.fleet_key))
        except SealError:
            self.unread += 1

    def hear(self, said: Checkpoint) -> None:
        """A checkpoint whose signature was verified."""
        flaw = self.told.setdefault(said.tenant, Told()).hear(said)
        if flaw is not None:
            self.forks.setdefault(said.tenant, []).append(flaw)


async def verify(trail: AuditTrail, hearing: Hearing, tenant: str = "") -> Report:
    """Every log that is stored, and every one that was told of; or only this tenant's."""
    names = {*await trail.tenants(tenant), *(name for name in hearing.told if tenant in ("", name))}
    verdicts = [await _one(trail, hearing, name) for name in sorted(names)]
    return Report(tuple(verdicts), tuple(await trail.strays(tenant)))


class NoProof(Exception):
    """Nothing can be proved of this record; the message says why."""


@dataclass(frozen=True, slots=True)
class Proof:
    """That a leaf stands at `index` of the log that the checkpoint signs."""

    leaf: AuditLeaf
    index: int
    path: tuple[bytes, ...]
    checkpoint: Checkpoint


async def prove(trail: AuditTrail, hearing: Hearing, tenant: str, index: int, said: Checkpoint | None = None) -> Proof:
    """The proof under `said`, or under the newest stored checkpoint. It was checked. Raises `NoProof`."""
    said = said or await trail.checkpoint_of(tenant, index)
    row = await trail.row(tenant, index)
    if said is None or said.tenant != tenant or said.size <= index:
        raise NoProof("no checkpoint covers this record yet: ask again in a second")
    if row is None or row.leaf is None:
        raise NoProof("the record is gone: `keyriver audit verify` says more")
    path = tiles.inclusion_path(index, said.size)
    found = await trail.nodes([Span(tenant, *place) for place in tiles.needed(path)])
    try:
        checkpoints.check(said, hearing.fleet, hearing.fleet_key)
        steps = tiles.roots(path, {(level, at): value for (_, level, at), value in found.items()})
        check_inclusion(hash_of(row.leaf, index), index, said.size, steps, said.root)
    except (SealError, BadProof, KeyError) as error:
        raise NoProof(f"the log is not what was signed ({error}): `keyriver audit verify` says more") from error
    return Proof(row.leaf, index, tuple(steps), said)


async def _one(trail: AuditTrail, hearing: Hearing, tenant: str) -> Verdict:
    told = hearing.told.get(tenant, Told())
    check = LogCheck(tenant, told.all(), flaws=list(hearing.forks.get(tenant, ())))
    stored = _Stored(trail.checkpoints(tenant), check, hearing)
    async for rows in _chunks(trail.rows(tenant)):
        nodes = check.take(rows, await stored.up_to(rows[-1].entry.index + 1))
        check.indexed(nodes, await _kept(trail, tenant, nodes))
    check.finish(await trail.head(tenant), await stored.up_to(None))
    accepted = check.confirmed if check.is_whole else None
    return Verdict(tenant, check.size, tuple(check.flaws), check.more, accepted)


async def _kept(trail: AuditTrail, tenant: str, nodes: Sequence[Node]) -> Mapping[tuple[int, int], bytes]:
    found = await trail.nodes([Span(tenant, node.level, node.index, 1) for node in nodes]) if nodes else {}
    return {(level, index): value for (_, level, index), value in found.items()}


async def _chunks(rows: AsyncIterator[LogRow]) -> AsyncIterator[list[LogRow]]:
    chunk: list[LogRow] = []
    async for row in rows:
        chunk.append(row)
        if len(chunk) == ROWS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


class _Stored:
    """The stored checkpoints as the walk over the rows comes by; those that the fleet never signed are flaws."""

    def __init__(self, source: AsyncIterator[Checkpoint], check: LogCheck, hearing: Hearing) -> None:
        self._source = source
        self._check = check
        self._hearing = hearing
        self._next: Checkpoint | None = None

    async def up_to(self, size: int | None) -> list[Checkpoint]:
        """Those of at most this size; None: all that are left."""
        found: list[Checkpoint] = []
        while (said := self._next or await anext(self._source, None)) is not None:
            self._next = said
            if size is not None and said.size > size:
                break
            self._next = None
            try:
                checkpoints.check(said, self._hearing.fleet, self._hearing.fleet_key)
            except SealError as error:
                self._check.bad_checkpoint(said, f"stored as a checkpoint of {said.size} records: {error}")
            else:
                found.append(said)
        return found
