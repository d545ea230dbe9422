"""The whole life of a request: open → know → decide → execute → settle → publish.

Each stage takes a whole batch and gives one result per request; a failure is a value. A crash before `settle` leaves
nothing; after it the ledger answers the redelivery with the same outcome (DELIVERY). What met a row that has moved, or
a twin that settled first, flows once more from the top.
"""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Protocol, TypeVar

from worker.chain.conclude import refuse
from worker.chain.decide import decide
from worker.chain.plan import Conclusion, Decision, Limits, NewIds, Plan, Refused, Reopen
from worker.chain.resolve import Chains
from worker.flow.answering import Answering
from worker.flow.clock import boottime
from worker.flow.executing import Executing
from worker.flow.failpoints import Failpoints
from worker.flow.knowing import Knowing
from worker.flow.opening import Dead, Opened, Opening, Rejected, Unproven
from worker.flow.pacing import paced
from worker.flow.publishing import Letter, Publishing
from worker.flow.quotas import Quotas
from worker.flow.registry import Clients
from worker.flow.unsealing import Unsealing
from worker.model.codes import Code
from worker.model.effects import PutRow, Seen, Settled, Settlement
from worker.model.facts import Facts
from worker.model.records import Partition, Record, Verdict
from worker.model.requests import Envelope, Request
from worker.model.rows import RowRef, Table
from worker.ports import StaleEpoch, Store, StoreUnavailable, TokenUnavailable

DEATHS = 3
"""How often a record has stopped its worker when it is buried (D5)."""
ROUNDS = 16
"""How often one record may meet a moved row before its batch is given back to the bus."""
FROZEN_S = 0.25
"""An answer that waits longer after its settle is checked against the rows once more (D3)."""

T = TypeVar("T")
Concluded = Conclusion | Rejected | Refused


class Fence(Protocol):
    """Whether this process still holds a partition under an epoch."""

    def is_current(self, partition: Partition, epoch: int) -> bool:
        """As `Source.is_current`."""
        ...


class Watch(Protocol):
    """Who counts what the river did. Must not block or raise."""

    def stage(self, name: str, items: int, seconds: float) -> None:
        """A stage took so long for so many items."""
        ...

    def concluded(self, request: Envelope, item: "Concluded") -> None:
        """A request was answered."""
        ...


@dataclass(frozen=True, slots=True)
class River:
    """The stages in their order, and the loop that sends back what must be decided anew."""

    opening: Opening
    clients: Clients
    knowing: Knowing
    quotas: Quotas
    unsealing: Unsealing
    executing: Executing
    store: Store
    answering: Answering
    publishing: Publishing
    fence: Fence
    watch: Watch
    limits: Limits
    new_ids: NewIds
    failpoints: Failpoints

    async def run(self, records: Sequence[Record]) -> list[Verdict]:
        """Answer every record. Raising means that the batch as a whole comes again; nothing of it may be committed."""
        verdicts: dict[tuple[Partition, int], Verdict] = {}
        todo = list(records)
        self._reach("caught")
        for left in reversed(range(ROUNDS)):
            opened = await self._open(todo)
            facts, requests = await self._know(opened)
            decided = await self._decide(requests, facts) if left else _deferred(requests)
            concluded = await self._execute(decided, opened, facts)
            settled, moved, settled_at = await self._settle(concluded)
            published, moved_since = await self._publish(settled, settled_at, opened)
            verdicts |= {dead.record.at: Verdict.UNAUTHENTIC for dead in opened if isinstance(dead, Dead)}
            verdicts |= {_envelope(done).record.at: Verdict.DONE for done in published}
            todo = [*moved, *moved_since, *self._reopened(decided)]
            if any(isinstance(item, Unproven) for item in opened):
                raise TokenUnavailable("who sent some of these records can't be verified now")
            if not todo:
                return [verdicts[record.at] for record in records]
        raise StoreUnavailable("rows kept moving under the batch")

    async def _open(self, records: Sequence[Record]) -> list[Opened]:
        opened = await self._timed("open", len(records), self.opening.open(records))
        self._reach("opened")
        return opened

    async def _know(self, opened: Sequence[Opened]) -> tuple[Facts | None, list[Request]]:
        requests = [item for item in opened if isinstance(item, Request)]
        try:
            knowing = self.quotas.beside(self.knowing.know(requests), requests) if requests else None
            facts = await self._timed("know", len(requests), knowing) if knowing else None
        except TokenUnavailable:
            facts = None  # rows that nobody could verify decide nothing: the requests are deferred (D4)
        self._reach("known")
        return facts, requests

    async def _decide(self, requests: list[Request], facts: Facts | None) -> list[Decision]:
        if facts is None:
            return _deferred(requests)
        waits = await self.quotas.admit(requests, facts)
        unsealed = await self.unsealing.unseal(requests, facts)
        chains = Chains(facts)
        begun = perf_counter()
        decided = [
            decide(request, facts, chains, unsealed.get(index), self.limits, waits.get(index))
            async for index, request in paced(enumerate(requests))
        ]
        self.watch.stage("decide", len(requests), perf_counter() - begun)
        self._reach("decided")
        return decided

    async def _execute(
        self, decided: Sequence[Decision], opened: Sequence[Opened], facts: Facts | None
    ) -> list[Concluded]:
        plans = [item for item in decided if isinstance(item, Plan)]
        now_ms = 0 if facts is None else facts.now_ms
        items = sum(len(plan.steps) for plan in plans)
        conclusions = await self._timed("execute", items, self.executing.execute(plans, now_ms)) if plans else []
        self._reach("executed")
        refused = [item for item in (*decided, *opened) if isinstance(item, Refused | Rejected)]
        return [*conclusions, *refused]

    async def _settle(self, concluded: Sequence[Concluded]) -> tuple[list[Concluded], list[Record], float]:
        """One transaction. Who lost to a twin or met a moved row starts again, and then the new facts decide."""
        self._check_fence(concluded)
        settlements = [self._settlement(item) for item in concluded]
        results = await self._timed("settle", len(settlements), self.store.settle(settlements)) if settlements else []
        settled_at = boottime()
        self._reach("settled")
        pairs = list(zip(concluded, results, strict=True))
        settled = [item for item, result in pairs if isinstance(result, Settled)]
        moved = [_envelope(item) for item, result in pairs if not isinstance(result, Settled)]
        for envelope in moved:
            self.clients.forget(envelope.key.client)  # its row may be what moved
        return settled, [envelope.record for envelope in moved], settled_at

    async def _publish(
        self, settled: Sequence[Concluded], settled_at: float, opened: Sequence[Opened]
    ) -> tuple[list[Concluded], list[Record]]:
        """Seal, sign and send. What moved while the process stood still is not sent but decided anew (D3)."""
        begun = perf_counter()
        letters = [(item, self._letter(item)) async for item in paced(settled)]
        self.watch.stage("seal", len(letters), perf_counter() - begun)
        self._reach("answered")
        await self.publishing.bury([item for item in opened if isinstance(item, Dead)])
        moved: list[Record] = []
        while letters and boottime() - settled_at >= FROZEN_S:
            settled_at = boottime()
            results = await self.store.settle([_checking(self._settlement(item)) for item, _ in letters])
            pairs = list(zip(letters, results, strict=True))
            moved += [letter.record for (_, letter), result in pairs if not isinstance(result, Settled)]
            letters = [pair for pair, result in pairs if isinstance(result, Settled)]
        published = [item for item, _ in letters]
        self._check_fence(published)
        await self._timed("publish", len(letters), self.publishing.publish([letter for _, letter in letters]))
        self._reach("published")
        for item in published:
            self.watch.concluded(_envelope(item), item)
        return published, moved

    async def bury(self, record: Record) -> Verdict:
        """Set aside a record that stopped its worker three times; if its signature held, its requester is told (D5)."""
        (opened,) = await self.opening.open([record])
        if isinstance(opened, Dead):
            await self.publishing.bury([opened])
            return Verdict.UNAUTHENTIC
        if isinstance(opened, Unproven):
            raise TokenUnavailable("who sent this record can't be verified now")
        rejected = Rejected(opened.envelope if isinstance(opened, Rejected) else opened, Code.POISON)
        (done,) = await self.store.settle([self._settlement(rejected)])
        if isinstance(done, Settled):  # a client that was revoked is answered nothing
            await self.publishing.publish([self._letter(rejected)])
        await self.publishing.set_aside(record, Code.POISON, DEATHS)
        return Verdict.DEAD

    async def set_aside(self, record: Record) -> Verdict:
        """Dead-letter a record unread: even opening it to bury it stopped its worker three times."""
        await self.publishing.set_aside(record, Code.POISON, 2 * DEATHS)
        return Verdict.UNAUTHENTIC

    def _settlement(self, item: Concluded) -> Settlement:
        """A refusal rests on its client's row: `open` saw it in memory, and nobody answers a revoked one."""
        if isinstance(item, Conclusion):
            return item.settlement
        envelope = _envelope(item)
        client = Seen(RowRef(Table.CLIENTS, envelope.key.client), envelope.client_revision)
        return replace(refuse(envelope, item.code, self.new_ids), seen=(client,))

    def _letter(self, item: Concluded) -> Letter:
        if isinstance(item, Conclusion):
            outgoing = self.answering.answer(item.plan, item.outcomes)
        else:
            wait_ms = item.retry_after_ms if isinstance(item, Refused) else None
            outgoing = self.answering.refusal(_envelope(item), item.code, wait_ms)
        return Letter(_envelope(item).record, outgoing)

    def _reopened(self, decided: Sequence[Decision]) -> list[Record]:
        reopened = [item.request for item in decided if isinstance(item, Reopen)]
        for request in reopened:
            self.clients.forget(request.key.client)
        return [request.record for request in reopened]

    def _check_fence(self, items: Sequence[Concluded]) -> None:
        for place in {(_envelope(item).record.partition, _envelope(item).record.epoch) for item in items}:
            if not self.fence.is_current(*place):
                raise StaleEpoch(place[0].topic)

    def _reach(self, name: str) -> None:
        self.failpoints.reach(name)

    async def _timed(self, stage: str, items: int, work: Awaitable[T]) -> T:
        begun = perf_counter()
        done = await work
        self.watch.stage(stage, items, perf_counter() - begun)
        return done


def _deferred(requests: Sequence[Request]) -> list[Decision]:
    """Nothing is decided now: without verified rows (D4), or when rows moved too often under a request."""
    return [Refused(request, Code.DEFERRED) for request in requests]


def _checking(settlement: Settlement) -> Settlement:
    """Compares what a settlement rested on once more, and writes nothing. What it changed itself is left out."""
    changed = {effect.row.ref for effect in settlement.effects if isinstance(effect, PutRow)}
    seen = tuple(one for one in settlement.seen if one.ref not in changed)
    return Settlement(None, None, seen, (), ())


def _envelope(item: Concluded) -> Envelope:
    match item:
        case Conclusion(plan=plan):
            return plan.request
        case Rejected(envelope=envelope):
            return envelope
        case Refused(request=request):
            return request
