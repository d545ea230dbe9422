"""The steps of `decide`, and that they come in their order."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.unit.chain.world import LIMITS, NOW, World
from worker.chain.conclude import conclude
from worker.chain.decide import is_answered, too_late
from worker.chain.plan import Plan, Refused, Reopen
from worker.chain.work import Wrapping
from worker.model.bodies import ClientListBody, KeyListBody, UnwrapBody, WrapBody, WrapItem
from worker.model.codes import Code
from worker.model.effects import LedgerEntry, Seen
from worker.model.hsm import Fault, HsmFault
from worker.model.operations import Operation
from worker.model.outcomes import Failed, Wrapped
from worker.model.requests import Request
from worker.model.rows import FLEET_TENANT, Client, RowRef, Table

WRAP = WrapBody(key="acme/eu/payments", items=[WrapItem()])
MINUTE = 60_000
DAY = 24 * 60 * MINUTE


def wrap(world: World, **changes: object) -> Request:
    return replace(world.request(Operation.WRAP, WRAP), **changes)  # type: ignore[arg-type]


def at(request: Request, appended_ms: int, time_ms: int, deadline_ms: int | None = None) -> Request:
    record = replace(request.record, appended_ms=appended_ms)
    return replace(request, record=record, time_ms=time_ms, deadline_ms=deadline_ms)


# 1. The client's row must be the one that verified the signature.


def test_a_request_rests_on_its_clients_row() -> None:
    world = World()
    plan = world.plan(wrap(world))
    assert plan.seen[0] == Seen(RowRef(Table.CLIENTS, "billing"), 1)
    assert isinstance(plan.steps[0], Wrapping)


def test_a_client_that_changed_or_vanished_since_is_opened_again() -> None:
    world = World()
    request = wrap(world)
    world.put(replace(world.client("billing"), revision=2))
    assert world.decide(request) == Reopen(request)
    del world.rows[RowRef(Client.TABLE, "billing")]
    assert world.decide(request) == Reopen(request)


def test_a_tampered_client_is_refused() -> None:
    world = World()
    request = wrap(world)
    world.tamper(RowRef(Client.TABLE, "billing"))
    assert world.decide(request) == Refused(request, Code.INTEGRITY)


# 2. It is live still, and may send this operation.


@pytest.mark.parametrize("change", [{"revoked": True}, {"not_after_ms": NOW}, {"not_after_ms": NOW - 1}])
def test_a_client_that_ended_is_refused(change: dict[str, int]) -> None:
    world = World()
    world.put(replace(world.client("billing"), **change))  # type: ignore[arg-type]
    assert world.refusal(wrap(world)) is Code.NOT_FOUND


def test_officers_do_not_touch_deks_and_services_do_not_command() -> None:
    world = World()
    listing = KeyListBody(tenant="acme")
    assert world.refusal(world.request(Operation.WRAP, WRAP, "ann")) is Code.NOT_FOUND
    assert world.refusal(world.request(Operation.KEY_LIST, listing, "billing")) is Code.NOT_FOUND
    world.plan(world.request(Operation.KEY_LIST, listing, "ann"))
    world.plan(world.request(Operation.CLIENT_LIST, ClientListBody(tenant=FLEET_TENANT), "ann"))


# 3. The ledger is asked before age and deadline.


def answered(world: World) -> Request:
    request = wrap(world)
    world.keep(world.run(request))
    return request


def still_open(world: World) -> Request:
    request = wrap(world)
    plan = world.plan(request)
    world.keep(conclude(plan, [HsmFault(Fault.UNAVAILABLE)], world.new_ids))
    return request


@pytest.mark.parametrize(
    "late",
    [
        lambda request: at(request, NOW - 30 * DAY, NOW - 30 * DAY),
        lambda request: at(request, NOW, NOW - 6 * MINUTE),
        lambda request: at(request, NOW, NOW, NOW - 1),
        lambda request: at(request, NOW, NOW, NOW + DAY),
    ],
)
def test_what_was_answered_is_answered_again_however_late(late: Callable[[Request], Request]) -> None:
    world = World()
    request = late(answered(world))
    (step,) = world.plan(request).steps
    assert isinstance(step, Wrapped)
    fresh = replace(request, key=replace(request.key, id="another"))
    assert isinstance(world.decide(fresh), Refused)


def test_an_entry_that_no_release_wrote_is_refused_alone() -> None:
    world = World()
    kept = answered(world)
    world.ledger[kept.key] = replace(world.ledger[kept.key], operation=None)
    assert world.refusal(kept) is Code.INTEGRITY


def test_another_body_under_the_same_id_is_refused_even_before_its_age() -> None:
    world = World()
    kept = answered(world)
    for request in (kept, at(kept, NOW - 30 * DAY, NOW - 30 * DAY)):
        assert world.refusal(replace(request, body_digest=b"another")) is Code.ID_REUSED
        other = replace(request, operation=Operation.UNWRAP, body=UnwrapBody.model_construct(items=[]))
        assert world.refusal(other) is Code.ID_REUSED


def test_the_same_id_of_another_client_source_or_tenant_is_another_request() -> None:
    world = World()
    request = answered(world)
    for changes in ({"source": "/others"}, {"id": "r2"}):
        other = replace(request, key=replace(request.key, **changes))
        assert isinstance(world.plan(other).steps[0], Wrapping)


def test_a_revoked_client_is_refused_before_the_ledger_is_asked() -> None:
    world = World()
    request = answered(world)
    world.put(replace(world.client("billing"), not_after_ms=NOW))
    assert world.refusal(request) is Code.NOT_FOUND


def test_an_entry_that_is_open_is_answered_only_when_nothing_is_missing() -> None:
    key = wrap(World()).key
    assert not is_answered(None)
    assert not is_answered(LedgerEntry(key, Operation.WRAP, b"d", (b"\x01POISON", None)))
    assert is_answered(LedgerEntry(key, Operation.WRAP, b"d", (b"\x01POISON",)))


# 4. What is too old, not fresh or past its deadline is not begun.


@pytest.mark.parametrize(
    ("appended", "time", "deadline", "code"),
    [
        (0, 0, None, None),
        (-13 * DAY, -13 * DAY, None, None),  # a backlog does not make requests stale
        (-14 * DAY, -14 * DAY, None, None),
        (-14 * DAY - 1, -14 * DAY - 1, None, Code.STALE),
        (0, -5 * MINUTE, None, None),
        (0, -5 * MINUTE - 1, None, Code.STALE),
        (0, 5 * MINUTE, None, None),
        (0, 5 * MINUTE + 1, None, Code.STALE),
        (-1000, 0, 0, None),
        (-1000, -1000, -1, Code.DEADLINE_EXCEEDED),
        (0, 0, 10 * MINUTE, None),
        (0, 0, 10 * MINUTE + 1, Code.DEADLINE_TOO_FAR),
        (0, 4 * MINUTE, 14 * MINUTE, None),  # counted from the signed time, not from now
        (-14 * DAY - 1, 0, DAY, Code.STALE),
    ],
)
def test_age_freshness_and_deadline(appended: int, time: int, deadline: int | None, code: Code | None) -> None:
    world = World()
    request = at(wrap(world), NOW + appended, NOW + time, None if deadline is None else NOW + deadline)
    assert too_late(request, NOW, LIMITS, known=False) is code
    decided = world.decide(request)
    assert isinstance(decided, Plan) if code is None else decided == Refused(request, code)


def test_what_is_open_in_the_ledger_was_fresh_once_but_keeps_its_deadline() -> None:
    world = World()
    request = still_open(world)
    assert isinstance(world.plan(at(request, NOW, NOW - DAY)).steps[0], Wrapping)
    assert world.refusal(at(request, NOW, NOW - MINUTE, NOW - 1)) is Code.DEADLINE_EXCEEDED


# 5. The operation's own rules.


def test_a_refused_item_is_no_refused_request() -> None:
    world = World()
    missing = WrapBody(key="acme/eu/nothing", items=[WrapItem(), WrapItem()])
    assert world.plan(world.request(Operation.WRAP, missing)).steps == (Failed(Code.NOT_FOUND),) * 2


def test_a_refusal_of_the_operations_own_passes() -> None:
    world = World()
    request = replace(
        world.request(Operation.WRAP, WrapBody(key="acme/eu/payments", items=[WrapItem()], return_dek=True)),
        recipient=None,
    )
    assert world.decide(request) == Refused(request, Code.RECIPIENT_REQUIRED)
