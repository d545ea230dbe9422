"""Quotas in the river (D10): who is throttled, for how long, and what that costs everybody else: nothing."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from tests.unit.flow_river.parts import NOW
from tests.unit.flow_river.rig import PAYMENTS, Rig
from worker.chain.quotas import REPORTS_AT_ONCE, REPORTS_S
from worker.flow.quotas import QuotaLeases, Quotas
from worker.model.bodies import KeyCreateBody, TenantCreateBody, WrapBody, WrapItem
from worker.model.facts import StoredRow
from worker.model.operations import Operation
from worker.model.policies import PolicyListBody, QuotaListResult, TenantQuotaBody, TenantQuotasBody
from worker.model.quotas import Lease, Quota, Want, quota_ref
from worker.model.triggering import TriggerBody
from worker.model.triggers import TriggerEvent
from worker.ports import StoreUnavailable
from worker.seal.identity import Identity


def wraps(items: int) -> WrapBody:
    return WrapBody(key=PAYMENTS, items=[WrapItem()] * items)


@dataclass
class Counting:
    """Leases that say how often and for what they were asked."""

    behind: QuotaLeases
    asked: list[list[Want]] = field(default_factory=list)
    is_away: bool = False
    hook: Callable[[Sequence[Want]], Awaitable[list[Lease]]] | None = None

    async def lease_quotas(self, wants: Sequence[Want]) -> list[Lease]:
        if self.hook is not None:
            return await self.hook(wants)
        self.asked.append(list(wants))
        if self.is_away:
            raise StoreUnavailable
        return await self.behind.lease_quotas(wants)


async def made(per_second: int, burst: int, **words: object) -> tuple[Rig, Counting]:
    rig = await Rig.made()
    leases = Counting(rig.memory)
    rig.river = replace(rig.river, quotas=Quotas(leases, lambda: rig.clock.ms / 1000))
    await put(rig, per_second=per_second, burst=burst, **words)
    return rig, leases


async def put(rig: Rig, **words: object) -> None:
    body = TenantQuotaBody.model_validate({"tenant": "acme"} | words)
    await rig.command(Operation.TENANT_QUOTA, body)


async def code(rig: Rig, items: int = 1) -> str:
    return (await rig.ask(Operation.WRAP, wraps(items))).code


async def neighbour(rig: Rig, tenant: str) -> Identity:
    """Another tenant with a key of the same names, and its service."""
    await rig.command(Operation.TENANT_CREATE, TenantCreateBody(tenant=tenant))
    for parent, alias in ((tenant, f"{tenant}/eu"), (f"{tenant}/eu", f"{tenant}/eu/payments")):
        await rig.command(Operation.KEY_CREATE, KeyCreateBody(tenant=tenant, parent=parent, alias=alias))
    return await rig.add(f"{tenant}-billing", tenant=tenant)


async def test_what_is_beyond_the_burst_is_told_when_to_come_again_and_then_served() -> None:
    rig, _ = await made(10, 20)
    assert [await code(rig, 5) for _ in range(4)] == [""] * 4
    told = await rig.ask(Operation.WRAP, wraps(5))
    assert told.error is not None
    assert (told.code, told.error.retry, told.error.retry_after_ms) == ("THROTTLED", True, 100)
    rig.clock.ms += 100
    assert await code(rig, 5) == "", "there is something again, so the whole request is served, and paid for later"
    again = await rig.ask(Operation.WRAP, wraps(1))
    assert again.error is not None
    assert again.error.retry_after_ms == 500


async def test_on_average_it_is_what_was_agreed() -> None:
    rig, _ = await made(10, 10)
    served = 0
    for _ in range(2000):
        rig.clock.ms += 10
        served += 3 if await code(rig, 3) == "" else 0
    assert 200 <= served <= 10 + 200 + 3


async def test_a_throttled_request_may_come_again_and_takes_effect_once() -> None:
    rig, _ = await made(1, 2)
    await code(rig, 2)
    sent = rig.draft(Operation.WRAP, wraps(1))
    await rig.run(sent)
    assert rig.told(sent)[0].code == "THROTTLED"
    assert len(rig.memory.deks) == 2
    rig.clock.ms += 1000
    again = rig.again(sent)
    await rig.run(again)
    await rig.run(rig.again(sent))
    assert rig.told(again)[0].codes == [""]
    assert len(rig.memory.deks) == 3


async def test_what_was_answered_is_answered_again_for_nothing() -> None:
    rig, _ = await made(1, 2)
    sent = rig.draft(Operation.WRAP, wraps(2))
    await rig.run(sent)
    assert await code(rig) == "THROTTLED"
    again = rig.again(sent)
    await rig.run(again)
    assert rig.told(again)[0].codes == ["", ""]


async def test_officers_are_never_throttled() -> None:
    rig, _ = await made(1, 1)
    assert [await code(rig) for _ in range(2)] == ["", "THROTTLED"]
    for _ in range(20):
        await rig.command(Operation.POLICY_LIST, PolicyListBody(tenant="acme"))


async def test_a_clients_own_quota_counts_besides_the_tenants() -> None:
    rig, _ = await made(10, 10)
    await put(rig, client="billing", per_second=1, burst=3)
    other = await rig.add("other")
    assert [await code(rig) for _ in range(4)] == ["", "", "", "THROTTLED"]
    told = [(await rig.ask(Operation.WRAP, wraps(1), other)).code for _ in range(8)]
    assert told == [""] * 7 + ["THROTTLED"], "what the one was refused is not taken from the tenant's"


async def test_a_batch_with_a_throttled_tenant_costs_nobody_else_anything() -> None:
    rig, leases = await made(1, 5)
    free = await neighbour(rig, "bolt")
    await code(rig, 5)
    assert await code(rig) == "THROTTLED"
    before = len(leases.asked)
    crowd = [rig.draft(Operation.WRAP, wraps(1)) for _ in range(50)]
    theirs = rig.draft(Operation.WRAP, WrapBody(key="bolt/eu/payments", items=[WrapItem()]), free)
    await rig.run(*crowd[:25], theirs, *crowd[25:])
    assert rig.told(theirs)[0].codes == [""]
    assert {rig.told(one)[0].code for one in crowd} == {"THROTTLED"}
    assert len(leases.asked) == before, "that nothing is there is known from memory"


async def test_a_batch_waits_for_a_lease_only_when_a_quota_is_new() -> None:
    rig, leases = await made(1000, 1000)
    stages = rig.watch.stages
    for _ in range(300):
        assert await code(rig) == ""
    assert len(leases.asked) == 3, "a lease is a tenth of a second's share"
    assert [want.want for wants in leases.asked for want in wants] == [100, 100, 100]
    assert stages.count("know") >= 300


async def test_without_a_quota_nothing_is_leased() -> None:
    rig, leases = await made(1, 1)
    await put(rig)
    assert [await code(rig) for _ in range(5)] == [""] * 5
    assert leases.asked == []
    listed = await rig.command(Operation.TENANT_QUOTAS, TenantQuotasBody(tenant="acme"))
    assert isinstance(listed, QuotaListResult)
    assert [(one.per_second, one.burst) for one in listed.quotas] == [(None, None)]


async def test_a_quota_that_was_lifted_is_not_leased_any_more() -> None:
    rig, leases = await made(1, 1)
    assert [await code(rig) for _ in range(2)] == ["", "THROTTLED"]
    await put(rig)
    assert await code(rig) == ""
    before = len(leases.asked)
    rig.clock.ms += 60_000
    assert [await code(rig) for _ in range(5)] == [""] * 5
    assert len(leases.asked) == before


async def test_another_lane_sees_a_quota_lifted_while_this_one_leases() -> None:
    rig, leases = await made(1, 1)
    quotas = rig.river.quotas
    request = rig.draft(Operation.WRAP, wraps(1))

    async def lifted(wants: Sequence[Want]) -> list[Lease]:
        leases.hook = None
        await put(rig)
        assert await code(rig) == ""
        return await leases.lease_quotas(wants)

    leases.hook = lifted
    await rig.run(request)
    assert rig.river.quotas is quotas
    assert rig.told(request)[0].code == ""


async def test_a_quota_that_changed_counts_from_the_next_batch_on() -> None:
    rig, _ = await made(1, 1)
    assert [await code(rig) for _ in range(2)] == ["", "THROTTLED"]
    await put(rig, per_second=1000, burst=1000)
    rig.clock.ms += 100
    assert [await code(rig) for _ in range(5)] == [""] * 5


async def test_a_quota_that_somebody_changed_gives_nothing() -> None:
    rig, _ = await made(1, 1)
    stored = rig.memory.rows[quota_ref("acme")]
    assert isinstance(stored.row, Quota)
    rig.memory.rows[quota_ref("acme")] = StoredRow(
        replace(stored.row, per_second=10**6), stored.mac_version, stored.mac
    )
    assert await code(rig) == "INTEGRITY"


async def test_when_postgres_is_away_nothing_is_answered() -> None:
    rig, leases = await made(1, 1)
    leases.is_away = True
    with pytest.raises(StoreUnavailable):
        await code(rig)
    leases.is_away = False
    assert await code(rig) == ""
    leases.is_away = True
    rig.clock.ms = NOW + 10**6
    with pytest.raises(StoreUnavailable):  # beside the facts
        await code(rig)


async def test_two_in_a_batch_do_not_spend_the_same_lease() -> None:
    """What is left of a lease serves who costs no more than that; only the database lends beyond it."""
    rig, _ = await made(10, 10)
    await put(rig, client="billing", per_second=1, burst=7)
    first, second = (rig.draft(Operation.WRAP, wraps(6)) for _ in range(2))
    await rig.run(first, second)
    codes = sorted(rig.told(one)[0].code for one in (first, second))
    assert codes == ["", "THROTTLED"]
    assert len(rig.memory.deks) == 6


async def test_a_large_request_is_served_when_there_is_anything() -> None:
    rig, _ = await made(10, 10)
    assert await code(rig, 1) == ""
    assert await code(rig, 500) == ""
    told = await rig.ask(Operation.WRAP, wraps(1))
    assert told.error is not None
    assert told.error.retry_after_ms is not None
    assert 48_000 < told.error.retry_after_ms < 50_000


async def test_a_flood_of_reports_is_throttled_and_nothing_else_of_that_client() -> None:
    """Nobody has to have set a quota: whoever reports events without an end is bound by the fixed one (S18)."""
    rig, _ = await made(1, 1)
    await put(rig)
    body = TriggerBody(event=TriggerEvent.SCHEDULE_DUE, key=PAYMENTS, occurred_ms=NOW)
    flood = [rig.draft(Operation.TRIGGER, body) for _ in range(REPORTS_AT_ONCE + 30)]
    for start in range(0, len(flood), 50):
        await rig.run(*flood[start : start + 50])
    codes = [rig.told(one)[0].code or rig.told(one)[0].codes[0] for one in flood]
    assert codes.count("THROTTLED") == 30, set(codes)
    assert set(codes) == {"THROTTLED", "NOT_FOUND"}  # no rule answers it here
    assert await code(rig) == ""
    rig.clock.ms += 1000
    again = [rig.draft(Operation.TRIGGER, body) for _ in range(REPORTS_S)]
    await rig.run(*again)
    assert {rig.told(one)[0].codes[0] for one in again} == {"NOT_FOUND"}
