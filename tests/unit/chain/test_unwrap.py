"""Planning an unwrap: by blob and by id, each item with a fate of its own."""

from dataclasses import replace
from hashlib import sha256

import pytest

from tests.unit.chain.token import answer
from tests.unit.chain.world import (
    BOLT_LEDGER,
    CARDS,
    EU,
    PAYMENTS,
    RECIPIENT,
    ROOT,
    World,
    blob_of,
    chain_refs,
    seen_of,
    uid,
)
from worker.chain import blob, context
from worker.chain.conclude import conclude
from worker.chain.work import Unwrapping
from worker.model.bodies import DekItem, UnwrapBody, WrapBody, WrapItem
from worker.model.codes import Code
from worker.model.effects import Leaf
from worker.model.hsm import Fault, HsmFault, HsmResult, UnwrapDek, UnwrappedDek
from worker.model.operations import Operation
from worker.model.outcomes import Failed, Outcome, Unwrapped
from worker.model.requests import Request
from worker.model.rows import Client, RowRef, State

BOUND = {"customer": "42"}


def ask(world: World, *items: DekItem) -> Request:
    return world.request(Operation.UNWRAP, UnwrapBody(items=list(items)))


def by_blob(raw: bytes, **context: str) -> DekItem:
    return DekItem(blob=raw, context=context)


def codes(world: World, *items: DekItem) -> list[Code | None]:
    steps = world.plan(ask(world, *items)).steps
    return [step.code if isinstance(step, Failed) else None for step in steps]


def outcome(world: World, item: DekItem, result: HsmResult) -> Outcome:
    return conclude(world.plan(ask(world, item)), [result], world.new_ids).outcomes[0]


def test_a_blob_is_unwrapped_under_the_version_that_its_header_names() -> None:
    world = World()
    world.rotate(PAYMENTS)
    raw = blob_of(PAYMENTS, 1, uid(77))
    plan = world.plan(ask(world, by_blob(raw, **BOUND)))
    (step,) = plan.steps
    parsed = blob.parse(raw)
    assert isinstance(step, Unwrapping)
    assert isinstance(step.op, UnwrapDek)
    assert (step.op.kek.key, step.op.kek.version) == (PAYMENTS, 1)
    assert (step.op.aad, step.op.nonce) == (blob.aad(parsed.header, "acme"), parsed.nonce)
    assert step.op.ciphertext == parsed.ciphertext
    assert step.context_digest == context.digest(BOUND)
    assert plan.recipient == RECIPIENT
    assert set(plan.seen) == seen_of(world, RowRef(Client.TABLE, "billing"), *chain_refs(ROOT, EU, PAYMENTS))


def test_a_stored_dek_is_unwrapped_by_its_id() -> None:
    world = World()
    row = world.stored(1, CARDS)
    (step,) = world.plan(ask(world, DekItem(id=row.id))).steps
    assert isinstance(step, Unwrapping)
    assert step.op.kek.key == CARDS
    assert step.context_digest == context.EMPTY


@pytest.mark.parametrize(
    "raw",
    [b"", b"KR", b"x" * 100, blob_of(PAYMENTS, 1, uid(7))[:-70], b"KR\x02" + blob_of(PAYMENTS, 1, uid(7))[3:]],
)
def test_what_is_no_blob_does_not_unwrap(raw: bytes) -> None:
    assert codes(World(), by_blob(raw)) == [Code.UNWRAP_FAILED]


def test_unknown_foreign_and_forbidden_are_one_code() -> None:
    world = World()
    world.put(replace(world.client("billing"), pattern="acme/eu/payments"))
    items = (
        by_blob(blob_of(uid(99), 1, uid(7))),
        by_blob(blob_of(BOLT_LEDGER, 1, uid(7))),
        by_blob(blob_of(CARDS, 1, uid(7))),
        by_blob(blob_of(PAYMENTS, 2, uid(7))),
        DekItem(id=uid(98)),
        DekItem(id=world.stored(1, BOLT_LEDGER).id),
        DekItem(id=world.stored(2, CARDS).id),
    )
    assert codes(world, *items) == [Code.NOT_FOUND] * len(items)


def test_neighbours_are_not_harmed() -> None:
    world = World()
    good = world.stored(1, PAYMENTS)
    assert codes(world, by_blob(b"bad"), DekItem(id=good.id), DekItem(id=uid(98)), by_blob(good.blob)) == [
        Code.UNWRAP_FAILED,
        None,
        Code.NOT_FOUND,
        None,
    ]


@pytest.mark.parametrize("state", State)
def test_states(state: State) -> None:
    world = World()
    world.set_state(PAYMENTS, state)
    opens = state in {State.ACTIVE, State.SUSPENDED, State.DEACTIVATED}
    assert codes(world, by_blob(blob_of(PAYMENTS, 1, uid(7)))) == [None if opens else Code.KEY_STATE]


def test_a_key_that_wraps_keys_unwraps_no_dek() -> None:
    assert codes(World(), by_blob(blob_of(EU, 1, uid(7)))) == [Code.WRONG_PURPOSE]


@pytest.mark.parametrize("change", ["key", "version", "id", "unreadable"])
def test_a_row_that_disagrees_with_its_blob_is_an_integrity_error(change: str) -> None:
    """The blob of another row, copied over: the AAD would fit, the row does not."""
    world = World()
    world.rotate(PAYMENTS)
    row = world.stored(1, PAYMENTS)
    changed = {
        "key": replace(row, key=CARDS),
        "version": replace(row, version=2),
        "id": replace(row, blob=world.stored(2, PAYMENTS).blob),
        "unreadable": replace(row, blob=b"x"),
    }[change]
    world.deks[row.id] = changed
    assert codes(world, DekItem(id=row.id)) == [Code.INTEGRITY]


def test_the_context_must_be_the_one_that_it_was_wrapped_with() -> None:
    world = World()
    item = by_blob(blob_of(PAYMENTS, 1, uid(7)), **BOUND)
    good = UnwrappedDek(b"d" * 32, context.digest(BOUND))
    assert outcome(world, item, good) == Unwrapped(PAYMENTS, 1, b"d" * 32)
    for digest in (context.EMPTY, context.digest({"customer": "43"}), sha256(b"x").digest(), b""):
        assert outcome(world, item, UnwrappedDek(b"d" * 32, digest)) == Failed(Code.UNWRAP_FAILED)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault.BAD_CIPHERTEXT, Code.UNWRAP_FAILED),
        (Fault.UNSUPPORTED, Code.UNSUPPORTED),
        (Fault.INTEGRITY, Code.INTEGRITY),
        (Fault.UNAVAILABLE, Code.DEFERRED),
    ],
)
def test_faults_of_the_token_have_their_codes(fault: Fault, code: Code) -> None:
    world = World()
    assert outcome(world, by_blob(blob_of(PAYMENTS, 1, uid(7))), HsmFault(fault)) == Failed(code)


def test_nothing_is_kept_but_a_leaf() -> None:
    world = World()
    done = world.run(ask(world, by_blob(blob_of(PAYMENTS, 1, uid(7)))))
    assert isinstance(done.outcomes[0], Unwrapped)
    assert (done.settlement.ledger, done.settlement.changes) == (None, ())
    assert [type(effect) for effect in done.settlement.effects] == [Leaf]


def test_without_a_recipient_nothing_is_unwrapped() -> None:
    world = World()
    request = replace(ask(world, by_blob(blob_of(PAYMENTS, 1, uid(7)))), recipient=None)
    assert world.refusal(request) is Code.RECIPIENT_REQUIRED


def test_results_are_given_to_their_items_in_order() -> None:
    world = World()
    rows = [world.stored(number, PAYMENTS) for number in range(4)]
    plan = world.plan(ask(world, DekItem(id=rows[0].id), by_blob(b"x"), DekItem(id=rows[1].id), DekItem(id=rows[2].id)))
    results = [UnwrappedDek(bytes([number]) * 16, context.EMPTY) for number in range(3)]
    done = conclude(plan, results, world.new_ids)
    assert [one.dek[0] if isinstance(one, Unwrapped) else None for one in done.outcomes] == [0, None, 1, 2]


def test_an_answer_to_another_kind_of_operation_is_a_fault_of_ours() -> None:
    world = World()
    plan = world.plan(ask(world, by_blob(blob_of(PAYMENTS, 1, uid(7)))))
    wrapping = world.plan(world.request(Operation.WRAP, WrapBody(key="acme/eu/payments", items=[WrapItem()])))
    with pytest.raises(TypeError, match="another kind of operation"):
        conclude(plan, [answer(wrapping.ops[0])], world.new_ids)
