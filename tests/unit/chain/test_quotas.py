"""What a request costs, which quotas bound it, and the command that sets them."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from tests.unit.chain.world import World, seen_of
from worker.chain import quotas
from worker.chain.decide import decide
from worker.chain.plan import Conclusion, Plan, Refused
from worker.chain.resolve import Chains
from worker.model.bodies import AnyBody, DekItem, RewrapBody, RewrapItem, UnwrapBody, WrapBody, WrapItem
from worker.model.codes import Code
from worker.model.effects import Announce, PutRow
from worker.model.fields import ClientName
from worker.model.ids import NO_ID
from worker.model.operations import Operation
from worker.model.outcomes import Commanded, Failed
from worker.model.policies import PolicyChange, QuotaListResult, QuotaResult, TenantQuotaBody, TenantQuotasBody
from worker.model.quotas import Quota, quota_ref
from worker.model.requests import Request
from worker.model.triggering import TriggerBody
from worker.model.triggers import TriggerEvent

KEY = "acme/eu/payments"
OF_TENANT = Quota("acme", "acme", "", 10, 20, "", "ann", 1)
OF_CLIENT = Quota("acme/billing", "acme", "billing", 5, 5, "", "ann", 1)
WRAP = WrapBody(key=KEY, items=[WrapItem()] * 3)


def data(world: World, operation: Operation, body: AnyBody) -> Request:
    return world.request(operation, body)


def command(world: World, operation: Operation, body: AnyBody) -> Conclusion:
    return world.run(world.request(operation, body, "ann"))


def code(world: World, **words: Any) -> Code:  # noqa: ANN401 - fields of the body
    body = TenantQuotaBody.model_validate({"tenant": "acme"} | words)
    (step,) = world.plan(world.request(Operation.TENANT_QUOTA, body, "ann")).steps
    assert isinstance(step, Failed), step
    return step.code


def put(done: Conclusion) -> Quota:
    (row,) = [effect.row for effect in done.settlement.effects if isinstance(effect, PutRow)]
    assert isinstance(row, Quota)
    return row


@pytest.mark.parametrize(
    ("operation", "body", "cost"),
    [
        (Operation.WRAP, WRAP, 3),
        (Operation.UNWRAP, UnwrapBody(items=[DekItem(id=NO_ID)] * 4), 4),
        (Operation.UNWRAP, UnwrapBody(items=[DekItem(blob=b"b")] * 4, rewrap=True), 8),
        (Operation.REWRAP, RewrapBody(items=[RewrapItem(id=NO_ID)] * 4), 8),
    ],
)
def test_a_request_costs_its_items_by_what_the_token_does(operation: Operation, body: AnyBody, cost: int) -> None:
    request = data(World(), operation, body)
    assert quotas.cost(request) == cost
    assert quotas.asked_of(request) == ("acme", "acme/billing")


def test_officers_commands_cost_nothing_and_count_for_no_quota() -> None:
    request = World().request(Operation.TENANT_QUOTAS, TenantQuotasBody(tenant="acme"), "ann")
    assert quotas.cost(request) == 0
    assert quotas.asked_of(request) == ()


def test_a_report_of_an_event_costs_one_and_has_a_bound_of_its_own() -> None:
    world = World()
    request = data(world, Operation.TRIGGER, TriggerBody(event=TriggerEvent.SCHEDULE_DUE, key=KEY, occurred_ms=1))
    assert quotas.cost(request) == 1
    assert quotas.asked_of(request) == ("acme", "acme/billing")
    (fixed,) = quotas.bounds(request, replace(world.facts(), rows={}))
    assert (fixed.per_second, fixed.burst) == (quotas.REPORTS_S, quotas.REPORTS_AT_ONCE)
    assert quotas.met_by(request) == ("acme", "acme/billing", fixed.id)
    with pytest.raises(ValidationError):  # no client can be called so
        TypeAdapter(ClientName).validate_python(fixed.id.removeprefix("acme/"))
    world.put(OF_TENANT, OF_CLIENT)
    assert quotas.bounds(request, world.facts()) == (OF_TENANT, OF_CLIENT, fixed)


def test_a_tenants_and_a_clients_quota_bound_a_request() -> None:
    world = World()
    request = data(world, Operation.WRAP, WRAP)
    assert quotas.bounds(request, world.facts()) == quotas.bounds(request, replace(world.facts(), rows={})) == ()
    world.put(OF_TENANT, OF_CLIENT, Quota("acme/cards", "acme", "cards", 1, 1, "", "ann", 1))
    assert quotas.bounds(request, world.facts()) == (OF_TENANT, OF_CLIENT)
    world.put(Quota("acme", "acme", "", 0, 0, "", "ann", 2))
    assert quotas.bounds(request, world.facts()) == (OF_CLIENT,)


def test_a_request_without_quota_is_refused_whole_and_may_come_again() -> None:
    world = World()
    request = data(world, Operation.WRAP, WRAP)
    facts = world.facts()
    refused = decide(request, facts, Chains(facts), None, world.limits, 250)
    assert refused == Refused(request, Code.THROTTLED, 250)
    assert isinstance(world.decide(request), Plan)


def test_what_was_answered_is_answered_again_without_quota() -> None:
    world = World()
    request = data(world, Operation.WRAP, WRAP)
    world.keep(world.run(request))
    facts = world.facts()
    assert isinstance(decide(request, facts, Chains(facts), None, world.limits, None), Plan)


@pytest.mark.parametrize(("name", "refused"), [("acme", True), ("acme/billing", True), ("bolt", False)])
def test_nothing_is_given_out_of_a_quota_that_somebody_changed(name: str, *, refused: bool) -> None:
    world = World()
    world.tampered.add(quota_ref(name))
    decided = world.decide(data(world, Operation.WRAP, WRAP))
    assert isinstance(decided, Refused) is refused
    if isinstance(decided, Refused):
        assert decided.code is Code.INTEGRITY


def test_an_officer_sets_changes_and_lifts_a_quota() -> None:
    world = World()
    done = command(world, Operation.TENANT_QUOTA, TenantQuotaBody(tenant="acme", per_second=10, why="agreed"))
    assert put(done) == Quota("acme", "acme", "", 10, 10, "agreed", "ann", 1)
    (outcome,) = done.outcomes
    assert isinstance(outcome, Commanded)
    assert isinstance(outcome.result, QuotaResult)
    assert outcome.result.quota.client is None
    (event,) = [effect for effect in done.settlement.effects if isinstance(effect, Announce)]
    said = PolicyChange.model_validate_json(event.body)
    assert (event.type, said.who, said.why, said.revision) == ("keyriver.quota.set.v1", "ann", "agreed", 1)
    world.put(put(done))
    changed = command(world, Operation.TENANT_QUOTA, TenantQuotaBody(tenant="acme", per_second=20, burst=90))
    assert put(changed) == Quota("acme", "acme", "", 20, 90, "", "ann", 2)
    assert seen_of(world, quota_ref("acme")) < set(changed.settlement.seen)
    lifted = command(world, Operation.TENANT_QUOTA, TenantQuotaBody(tenant="acme", burst=90))
    assert put(lifted) == Quota("acme", "acme", "", 0, 0, "", "ann", 2)


def test_a_client_has_a_quota_of_its_own() -> None:
    body = TenantQuotaBody(tenant="acme", client="billing", per_second=10)
    assert quotas.quota_id(body) == "acme/billing"
    assert put(command(World(), Operation.TENANT_QUOTA, body)).client == "billing"


@pytest.mark.parametrize(
    "words", [{"tenant": "fleet"}, {"tenant": "nobody"}, {"client": "nobody"}, {"client": "ledger"}]
)
def test_a_quota_of_nobody_is_not_set(words: dict[str, Any]) -> None:
    assert code(World(), per_second=1, **words) is Code.NOT_FOUND


def test_a_quota_that_somebody_changed_is_not_built_upon() -> None:
    world = World()
    world.tampered.add(quota_ref("acme"))
    assert code(world, per_second=1) is Code.INTEGRITY


def test_a_tenants_quotas_are_listed() -> None:
    world = World()
    world.put(OF_TENANT, OF_CLIENT)
    body = TenantQuotasBody(tenant="acme", limit=1)
    world.pages[quotas.quota_paging(body)] = (OF_TENANT.ref, OF_CLIENT.ref)
    (outcome,) = command(world, Operation.TENANT_QUOTAS, body).outcomes
    assert isinstance(outcome, Commanded)
    assert isinstance(outcome.result, QuotaListResult)
    assert [one.per_second for one in outcome.result.quotas] == [10]
    assert outcome.result.more
    gone = world.plan(world.request(Operation.TENANT_QUOTAS, TenantQuotasBody(tenant="nobody"), "ann"))
    assert gone.steps == (Failed(Code.NOT_FOUND),)
