"""The sequencer (S16): appends audit leaves to their tenants' Merkle logs, signs checkpoints, publishes them.

Every worker takes its turns; the one that holds the lease works. Nothing is kept between turns that can't be read
again, so a turn may end anywhere: leaves stay queued until their append is committed, checkpoints until acknowledged.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from worker.chain import audit, tiles
from worker.chain.merkle import BadProof
from worker.model.audit import AuditLeaf, Checkpoint, Due, Growth, Head, Span
from worker.model.records import Outgoing
from worker.ports import BusUnavailable, FleetKeys, Sink, StoreUnavailable
from worker.seal import checkpoints
from worker.seal.errors import SealError

log = logging.getLogger(__name__)

TURN_S = 0.5
"""A leaf is in a signed log within a second, and a tenant's log has two checkpoints a second at most."""
LEASE_S = 2.0
"""A dead holder's work is taken up after this; well before five seconds behind, when workers are no longer ready."""
LEAVES = 400
"""At once: about 2 ms of hashing, then others have their turn on the loop (D6)."""
LOGS = 100
STEPS = 50
"""Batches of each kind in one turn: a long backlog is no reason to lose the lease."""
LATE = 100_000
"""Numbers that may still be open below the highest one: a settle ends within seconds."""
ALL_EVERY = 20
"""Turns between looks at the whole queue, whose beginning may be strewn with what was deleted."""


class AuditLog(Protocol):
    """Every tenant's Merkle log (S16), written by one worker at a time: who holds the lease.

    What changes the log takes the lease's epoch; it does nothing and returns False when another holds it by then.
    """

    async def hold(self, holder: UUID, seconds: float) -> int | None:
        """Take the lease or keep it for so long; its epoch, or None while another holds it."""
        ...

    async def release(self, holder: UUID) -> None:
        """Give the lease away, if it is ours."""
        ...

    async def waiting(self, after: int, limit: int) -> list[AuditLeaf]:
        """Leaves that are in no log yet, by number, after the given one. A lower number may still come."""
        ...

    async def heads(self, tenants: Sequence[str]) -> dict[str, Head]:
        """Where these tenants' logs end."""
        ...

    async def append(self, epoch: int, growths: Sequence[Growth]) -> bool:
        """Append, one growth per tenant, all in one transaction."""
        ...

    async def due(self, limit: int) -> list[Due]:
        """Logs that grew past their last checkpoint."""
        ...

    async def nodes(self, spans: Sequence[Span]) -> dict[tuple[str, int, int], bytes]:
        """Hashes by tenant, level and index; level 0 are the entries' own."""
        ...

    async def checkpoint(self, epoch: int, signed: Sequence[Checkpoint]) -> bool:
        """Store signed checkpoints, to be published."""
        ...

    async def unpublished(self, limit: int) -> list[Checkpoint]:
        """Checkpoints that nobody acknowledged, each tenant's in order."""
        ...

    async def acknowledge(self, published: Sequence[Checkpoint]) -> None:
        """The bus has these."""
        ...

    async def behind_s(self) -> float:
        """The age in seconds of the oldest thing that is still to be appended, signed or published; 0 for none."""
        ...


@dataclass(slots=True)
class Sequencer:
    """One worker's; `holder` is its name in the lease."""

    fleet: str
    topic: str
    holder: UUID
    log: AuditLog
    fleet_keys: FleetKeys
    sink: Sink
    _epoch: int = 0
    _turns: int = 0
    _highest: int = 0
    _refused: set[str] = field(default_factory=set)

    async def turn(self) -> int:
        """All that waits now; how many leaves were appended. Who can't go on gives the lease to another."""
        epoch = await self.log.hold(self.holder, LEASE_S)
        if epoch is None:
            return 0
        if epoch != self._epoch:
            self._epoch = epoch
            log.info("this worker is the audit log's sequencer, epoch %d", epoch)
        try:
            appended = await self._append_all(epoch)
            await self._sign_all(epoch)
            await self._publish_all()
        except Exception:
            with suppress(StoreUnavailable):
                await self.log.release(self.holder)
            raise
        return appended

    async def _append_all(self, epoch: int) -> int:
        after = max(0, self._highest - LATE) if self._turns % ALL_EVERY else 0
        self._turns += 1
        appended = 0
        for _ in range(STEPS):
            leaves = await self.log.waiting(after, LEAVES)
            if not leaves:
                break
            done = await self._append(epoch, await self._growths(leaves))
            if done is None:
                break
            after = leaves[-1].number
            self._highest = max(self._highest, after)
            appended += done
            if len(leaves) < LEAVES or await self.log.hold(self.holder, LEASE_S) != epoch:
                break
        return appended

    async def _append(self, epoch: int, growths: Sequence[Growth]) -> int | None:
        """How many leaves; None when the lease is lost. A log that refuses its leaves holds no other's back."""
        try:
            if await self.log.append(epoch, growths):
                return sum(len(growth.entries) for growth in growths)
            return None
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, another hand was in this tenant's log
            if len(growths) == 1:
                self._refuse(growths[0].head.tenant, error)
                return 0
        counts = [await self._append(epoch, [growth]) for growth in growths]
        return None if None in counts else sum(filter(None, counts))

    async def _growths(self, leaves: Sequence[AuditLeaf]) -> list[Growth]:
        by_tenant: dict[str, list[AuditLeaf]] = {}
        for leaf in leaves:
            by_tenant.setdefault(leaf.tenant, []).append(leaf)
        heads = await self.log.heads(list(by_tenant))
        growths: list[Growth] = []
        for tenant, group in sorted(by_tenant.items()):
            growths.append(audit.grow(heads[tenant], group))
            await asyncio.sleep(0)
        return growths

    async def _sign_all(self, epoch: int) -> None:
        for _ in range(STEPS):
            due = await self.log.due(LOGS)
            signed = await self._signed(due)
            if not signed or not await self.log.checkpoint(epoch, signed):
                return
            if len(due) < LOGS or await self.log.hold(self.holder, LEASE_S) != epoch:
                return

    async def _signed(self, due: Sequence[Due]) -> list[Checkpoint]:
        spans = [Span(each.head.tenant, *place) for each in due for place in tiles.needed(audit.bridge(each))]
        nodes = await self.log.nodes(spans)
        unsigned = [one for each in due if (one := self._continued(each, nodes)) is not None]
        signatures = await asyncio.gather(*[self.fleet_keys.sign(checkpoints.payload(one)) for one in unsigned])
        return [checkpoints.signed(one, signature) for one, signature in zip(unsigned, signatures, strict=True)]

    def _continued(self, due: Due, nodes: Mapping[tuple[str, int, int], bytes]) -> Checkpoint | None:
        """The next checkpoint, or None: the fleet never signs what does not continue what it signed before."""
        tenant = due.head.tenant
        mine = {(level, index): found for (owner, level, index), found in nodes.items() if owner == tenant}
        try:
            if due.last is not None:
                checkpoints.check(due.last, self.fleet, self.fleet_keys.lineage)
            made = audit.next_checkpoint(self.fleet, due, tiles.roots(audit.bridge(due), mine))
        except (BadProof, SealError, KeyError) as error:
            self._refuse(tenant, error)
            return None
        self._refused.discard(tenant)
        return made

    def _refuse(self, tenant: str, error: Exception) -> None:
        if tenant not in self._refused:
            self._refused.add(tenant)
            log.critical("the audit log of %s was changed by another hand: `keyriver audit verify` (%r)", tenant, error)

    async def _publish_all(self) -> None:
        for _ in range(STEPS):
            waiting = await self.log.unpublished(LOGS)
            if not waiting:
                return
            refusals = await self.sink.publish([self._record(each) for each in waiting])
            if any(refusals):
                raise BusUnavailable(f"{self.topic} does not take checkpoints: {next(filter(None, refusals))}")
            await self.log.acknowledge(waiting)
            if len(waiting) < LOGS:
                return

    def _record(self, said: Checkpoint) -> Outgoing:
        headers = (("content-type", b"application/json"),)
        return Outgoing(self.topic, said.tenant.encode(), checkpoints.to_json(said), headers)
