"""Quotas (D10): what this process has leased of each and not yet given out.

More is leased beside `know`, so a batch waits for it only where a quota is new to this process. A tenant whose quota is
used up is told so from memory until there is something again: it costs nobody else a round trip.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Protocol

from cachetools import LRUCache

from worker.chain.decide import is_answered
from worker.chain.quotas import bounds, cost, met_by
from worker.flow.clock import boottime
from worker.model.facts import Facts
from worker.model.quotas import Lease, Quota, Want
from worker.model.requests import Request

SHARE_S = 0.1
"""A lease is at least what the quota refills in so many seconds."""
REMEMBERED = 50_000


class QuotaLeases(Protocol):
    """Quotas in Postgres, refilled by its clock."""

    async def lease_quotas(self, wants: Sequence[Want]) -> list[Lease]:
        """Lease of each what is wanted, as far as it is there; one answer per want, in order.

        If anything is there, at least what is needed is granted: the quota is in debt then until that is refilled.
        Raises `StoreUnavailable`.
        """
        ...


@dataclass(slots=True)
class _Held:
    """What is left of the leases of one quota; until `closed_until` (seconds of BOOTTIME) there is no more."""

    quota: Quota
    left: int = 0
    closed_until: float = 0.0


@dataclass(slots=True)
class Quotas:
    """All quotas that this process meets. What it forgets, or leased of a quota that changed, is lost to its tenant."""

    leases: QuotaLeases
    clock: Callable[[], float] = boottime
    _held: LRUCache[str, _Held] = field(default_factory=lambda: LRUCache(REMEMBERED))

    async def beside(self, knowing: Awaitable[Facts], requests: Sequence[Request]) -> Facts:
        """Lease what this batch will need while its facts are asked for."""
        wants = self._wants((self._held[id_].quota, cost(one)) for one in requests for id_ in self._met(one))
        if not wants:
            return await knowing
        facts, _ = await asyncio.gather(knowing, self._lease(wants))
        return facts

    async def admit(self, requests: Sequence[Request], facts: Facts) -> Mapping[int, int]:
        """Take what each request costs. Of those that there is no quota for: after how many milliseconds there may be.

        By their places in the batch. What was answered before costs nothing.
        """
        bounded: dict[int, Sequence[Quota]] = {}
        for index, request in enumerate(requests):
            quotas = bounds(request, facts)
            self._meet(request, quotas)
            if quotas and not is_answered(facts.ledger.get(request.key)):
                bounded[index] = quotas
        if not bounded:
            return {}
        demands = [(quota, cost(requests[index])) for index, quotas in bounded.items() for quota in quotas]
        wants = self._wants(demands)
        if wants:
            await self._lease(wants)
        waits = ((index, self._take(cost(requests[index]), quotas)) for index, quotas in bounded.items())
        return {index: wait_ms for index, wait_ms in waits if wait_ms is not None}

    def _met(self, request: Request) -> Iterable[str]:
        return (id_ for id_ in met_by(request) if id_ in self._held)

    def _meet(self, request: Request, quotas: Sequence[Quota]) -> None:
        """Forget what was lifted, and begin anew with what changed."""
        for lifted in set(self._met(request)).difference(quota.id for quota in quotas):
            del self._held[lifted]
        for quota in quotas:
            held = self._held.get(quota.id)
            if held is None or held.quota != quota:
                self._held[quota.id] = _Held(quota)

    def _wants(self, demands: Iterable[tuple[Quota, int]]) -> list[Want]:
        """What to lease so that these demands are met. `need` is what the first of them lacks."""
        needs: dict[str, int] = {}
        sums: dict[str, int] = {}
        for quota, demand in demands:
            sums[quota.id] = sums.get(quota.id, 0) + demand
            if quota.id not in needs and sums[quota.id] > self._held[quota.id].left:
                needs[quota.id] = sums[quota.id] - self._held[quota.id].left
        now, wants = self.clock(), []
        for id_, need in needs.items():
            held = self._held[id_]
            if now >= held.closed_until:
                share = ceil(held.quota.per_second * SHARE_S)
                wants.append(Want(held.quota, need, max(share, sums[id_] - held.left)))
        return wants

    async def _lease(self, wants: Sequence[Want]) -> None:
        for want, lease in zip(wants, await self.leases.lease_quotas(wants), strict=True):
            held = self._held.get(want.quota.id)
            if held is None or held.quota != want.quota:
                continue  # forgotten or changed meanwhile
            held.left += lease.granted
            held.closed_until = self.clock() + lease.wait_ms / 1000

    def _take(self, price: int, quotas: Sequence[Quota]) -> int | None:
        """Take the price from all, or from none and say for how long the longest waits."""
        met = [self._held.get(quota.id) for quota in quotas]
        helds = [held for held in met if held is not None]  # another lane's batch may have seen that one was lifted
        short = [held for held in helds if held.left < price]
        for held in helds if not short else ():
            held.left -= price
        if not short:
            return None
        return max(1, *(ceil((held.closed_until - self.clock()) * 1000) for held in short))
