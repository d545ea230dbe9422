"""What a concluded request leaves behind beside its rows: audit leaves and events."""

import json
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from tests.unit.chain.token import answer
from tests.unit.chain.world import BOLT_LEDGER, CARDS, EU, NOW, PAYMENTS, World, blob_of, uid
from worker.chain.conclude import conclude, leaf_body, refuse
from worker.chain.plan import Conclusion
from worker.model.bodies import (
    ClientRevokeBody,
    DekItem,
    KeyListBody,
    KeyRotateBody,
    RewrapBody,
    RewrapItem,
    UnwrapBody,
    WrapBody,
    WrapItem,
)
from worker.model.codes import Code
from worker.model.effects import Announce, Leaf, Settlement
from worker.model.hsm import Fault, HsmFault
from worker.model.operations import Operation
from worker.model.outcomes import Commanded, Failed
from worker.model.requests import Envelope, Request

WRAP = WrapBody(key="acme/eu/payments", items=[WrapItem(), WrapItem(), WrapItem()])
BAD = HsmFault(Fault.BAD_CIPHERTEXT)
AWAY = HsmFault(Fault.UNAVAILABLE)


def leaves(concluded: Conclusion) -> dict[tuple[str, int] | None, dict[str, int]]:
    """Counts by key version; there is one leaf for each, all in one log."""
    found: dict[tuple[str, int] | None, dict[str, int]] = {}
    ids = set()
    for effect in concluded.settlement.effects:
        if isinstance(effect, Leaf):
            said = json.loads(effect.body)
            place = None if said["key"] is None else (said["key"], said["version"])
            assert place not in found
            found[place] = said["counts"]
            assert (effect.tenant, said["tenant"]) == ("acme", "acme")
            ids.add(effect.id)
    assert len(ids) == len(found)
    return found


def events(concluded: Conclusion) -> list[Announce]:
    return [effect for effect in concluded.settlement.effects if isinstance(effect, Announce)]


def at(key: UUID, version: int = 1) -> tuple[str, int]:
    return str(key), version


def test_a_leaf_says_who_did_what_with_which_key_and_holds_no_secret() -> None:
    world = World()
    request = world.request(Operation.WRAP, replace_context(WRAP))
    concluded = world.run(request)
    (leaf,) = [effect for effect in concluded.settlement.effects if isinstance(effect, Leaf)]
    assert leaf.body == leaf_body(request, "acme", (PAYMENTS, 1), {"OK": 3})
    said: dict[str, Any] = json.loads(leaf.body)
    assert list(said) == sorted(said)
    assert leaf.body == json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()
    assert said | {"items": 0, "signed": 0, "correlation": 0} == {
        "algorithm": "AES-256-GCM",
        "appended_ms": NOW - 1000,
        "client": "billing",
        "correlation": 0,
        "counts": {"OK": 3},
        "form": 1,
        "items": 0,
        "key": str(PAYMENTS),
        "request": "r1",
        "signed": 0,
        "source": "/tests",
        "tenant": "acme",
        "time_ms": NOW - 1000,
        "type": "keyriver.wrap.v1",
        "version": 1,
    }
    assert (said["items"], said["signed"]) == (request.body_digest.hex(), request.signed_digest.hex())
    for secret in (b"d" * 32, b"customer-42", blob_of(PAYMENTS, 1, uid(1))[:20]):
        assert secret not in leaf.body


def replace_context(body: WrapBody) -> WrapBody:
    return body.model_copy(update={"items": [WrapItem(context={"who": "customer-42"}) for _ in body.items]})


def test_one_leaf_for_each_key_version_and_one_for_items_that_touched_none() -> None:
    world = World()
    world.rotate(PAYMENTS)
    items = [
        DekItem(blob=blob_of(PAYMENTS, 1, uid(1))),
        DekItem(blob=blob_of(PAYMENTS, 2, uid(2))),
        DekItem(blob=blob_of(PAYMENTS, 1, uid(3))),
        DekItem(blob=blob_of(CARDS, 1, uid(4))),
        DekItem(blob=b"bad"),
        DekItem(id=uid(99)),
    ]
    plan = world.plan(world.request(Operation.UNWRAP, UnwrapBody(items=items)))
    results = [answer(plan.ops[0]), answer(plan.ops[1]), BAD, AWAY]
    assert leaves(conclude(plan, results, world.new_ids)) == {
        at(PAYMENTS): {"OK": 1, "UNWRAP_FAILED: bad-ciphertext": 1},
        at(PAYMENTS, 2): {"OK": 1},
        at(CARDS): {"DEFERRED": 1},
        None: {"NOT_FOUND: unknown DEK": 1, "UNWRAP_FAILED: form": 1},
    }


def test_a_rewrap_is_noted_where_it_went_and_a_failed_one_where_it_stood() -> None:
    world = World()
    rows = [world.stored(number, PAYMENTS) for number in range(3)]
    world.rotate(PAYMENTS)
    current = world.stored(9, PAYMENTS, 2)
    body = RewrapBody(items=[RewrapItem(id=row.id) for row in (*rows, current)])
    request = world.request(Operation.REWRAP, body)
    plan = world.plan(request)
    concluded = conclude(plan, [answer(plan.ops[0]), BAD, AWAY], world.new_ids)
    assert leaves(concluded) == {
        at(PAYMENTS, 2): {"OK": 1, "UNCHANGED": 1},
        at(PAYMENTS): {"DEFERRED": 1, "UNWRAP_FAILED: bad-ciphertext": 1},
    }
    world.keep(concluded)
    plan = world.plan(request)
    assert leaves(conclude(plan, [answer(plan.ops[0])], world.new_ids)) == {
        at(PAYMENTS, 2): {"OK": 1, "REPEATED": 2},
        None: {"UNWRAP_FAILED": 1},
    }


@pytest.mark.parametrize("return_dek", [True, False])
def test_what_is_told_again_is_noted_as_repeated(*, return_dek: bool) -> None:
    world = World()
    request = world.request(Operation.WRAP, WRAP.model_copy(update={"return_dek": return_dek}))
    plan = world.plan(request)
    first = conclude(plan, [answer(plan.ops[0]), answer(plan.ops[1]), AWAY], world.new_ids)
    assert leaves(first) == {at(PAYMENTS): {"OK": 2, "DEFERRED": 1}}
    world.keep(first)
    assert leaves(world.run(request)) == {at(PAYMENTS): {"OK": 1, "REPEATED": 2}}


def test_plaintext_that_could_not_be_told_again_is_noted_under_its_key() -> None:
    world = World()
    request = world.request(Operation.WRAP, WRAP.model_copy(update={"return_dek": True}))
    world.keep(world.run(request))
    plan = world.plan(request)
    concluded = conclude(plan, [answer(plan.ops[0]), BAD, AWAY], world.new_ids)
    assert leaves(concluded) == {at(PAYMENTS): {"REPEATED": 1, "UNWRAP_FAILED: bad-ciphertext": 1, "DEFERRED": 1}}


# Commands.


def test_a_command_stands_in_the_affected_tenants_log_and_is_announced_once() -> None:
    world = World()
    request = world.request(Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key="acme/eu"), "ann")
    concluded = world.run(request)
    assert leaves(concluded) == {at(EU, 2): {"OK": 1}}
    event, retired, hint = events(concluded)
    assert (retired.type, hint.type) == ("keyriver.key.deactivated.v1", "keyriver.hint.v1")
    (outcome,) = concluded.outcomes
    assert isinstance(outcome, Commanded)
    assert (event.type, event.tenant) == ("keyriver.key.rotated.v1", "acme")
    assert json.loads(event.body)["key"]["active_version"] == 2
    assert b"wrapped" not in event.body
    world.keep(concluded)
    again = world.run(request)
    assert (events(again), leaves(again)) == ([], {None: {"REPEATED": 1}})


def test_a_command_without_a_key_and_a_read_touch_no_version() -> None:
    world = World()
    revoke = world.run(world.request(Operation.CLIENT_REVOKE, ClientRevokeBody(tenant="acme", client="billing"), "ann"))
    assert (leaves(revoke), [event.type for event in events(revoke)]) == (
        {None: {"OK": 1}},
        ["keyriver.client.revoked.v1"],
    )
    listing = world.run(world.request(Operation.KEY_LIST, KeyListBody(tenant="acme"), "ann"))
    assert (leaves(listing), events(listing)) == ({None: {"OK": 1}}, [])


def test_a_command_that_the_token_refused_is_noted_and_not_announced() -> None:
    world = World()
    plan = world.plan(world.request(Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key="acme/eu"), "ann"))
    concluded = conclude(plan, [AWAY], world.new_ids)
    assert (leaves(concluded), events(concluded)) == ({at(EU, 2): {"DEFERRED": 1}}, [])


# Refusals.


def bare(request: Request) -> Envelope:
    """The same before its body was read."""
    names = Envelope.__dataclass_fields__
    return Envelope(**{name: getattr(request, name) for name in names})


def test_a_refused_request_leaves_its_leaf_and_nothing_else() -> None:
    world = World()
    request = world.request(Operation.WRAP, WRAP)
    for envelope in (request, bare(request)):
        settlement = refuse(envelope, Code.STALE, world.new_ids)
        (leaf,) = settlement.effects
        assert isinstance(leaf, Leaf)
        assert leaf.body == leaf_body(request, "acme", None, {"STALE": 1})
        assert settlement == Settlement(None, None, (), (), (leaf,))


def test_an_officers_refusal_stands_in_the_affected_tenants_log_if_it_is_known() -> None:
    world = World()
    request = world.request(Operation.KEY_LIST, KeyListBody(tenant="acme"), "ann")
    tenants = []
    for envelope in (request, bare(request)):
        (leaf,) = refuse(envelope, Code.STALE, world.new_ids).effects
        assert isinstance(leaf, Leaf)
        tenants.append(leaf.tenant)
    assert tenants == ["acme", "fleet"]


def test_a_service_writes_into_its_own_log_only() -> None:
    """Even where it names another tenant in a command that it may not send."""
    world = World()
    request = world.request(Operation.KEY_LIST, KeyListBody(tenant="bolt"), "billing")
    (leaf,) = refuse(replace(request), Code.NOT_FOUND, world.new_ids).effects
    assert isinstance(leaf, Leaf)
    assert leaf.tenant == "acme"


def test_only_the_trail_tells_why_a_key_was_not_found_and_which() -> None:
    world = World()
    world.put(replace(world.client("billing"), pattern="acme/eu/payments"))
    asked = ("acme/eu/nothing", "bolt/eu/ledger", str(uid(77)), str(BOLT_LEDGER), "acme/eu/cards")
    words = []
    for name in asked:
        concluded = world.run(world.request(Operation.WRAP, WRAP.model_copy(update={"key": name})))
        assert set(concluded.outcomes) == {Failed(Code.NOT_FOUND)}
        ((place, counts),) = leaves(concluded).items()
        words.append((place, *counts))
    assert words == [
        (None, "NOT_FOUND: unknown"),
        (None, "NOT_FOUND: foreign"),
        ((str(uid(77)), None), "NOT_FOUND: unknown"),
        ((str(BOLT_LEDGER), None), "NOT_FOUND: foreign"),
        ((str(CARDS), None), "NOT_FOUND: forbidden"),
    ]
