"""Planning a wrap: generated DEKs and the caller's, stored or not, and a request that comes again."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.unit.chain.world import (
    CARDS,
    EU,
    NONCE,
    PAYMENTS,
    RECIPIENT,
    ROOT,
    World,
    answer,
    chain_refs,
    seen_of,
)
from worker.chain import blob, context
from worker.chain.conclude import conclude
from worker.chain.lifecycle import Use
from worker.chain.plan import Conclusion
from worker.chain.resolve import Usable
from worker.chain.work import Replaying, Wrapping
from worker.model.bodies import SealedDeks, WrapBody, WrapItem
from worker.model.codes import Code
from worker.model.effects import Count, LedgerEntry, StoreDeks
from worker.model.hsm import Fault, HsmFault, HsmResult, Purpose, UnwrapDek, WrapDek
from worker.model.ids import NO_ID
from worker.model.operations import Operation
from worker.model.outcomes import Failed, Wrapped
from worker.model.requests import Recipient, Request
from worker.model.rows import Client, Dek, RowRef, State, Suite, Tenant
from worker.seal.hpke import load_keypair

KEY = "acme/eu/payments"
SEALED = SealedDeks(sequence=1, ciphertext=b"sealed")
WRAP_CHAIN = (RowRef(Client.TABLE, "billing"), *chain_refs(ROOT, EU, PAYMENTS))
AWAY = HsmFault(Fault.UNAVAILABLE)


def ask(world: World, items: int = 1, **body: object) -> Request:
    made = {"key": KEY, "items": [WrapItem() for _ in range(items)], **body}
    return world.request(Operation.WRAP, WrapBody.model_validate(made))


def finished(world: World, request: Request, results: Sequence[HsmResult | None] | None = None) -> Conclusion:
    """Decide, conclude and keep; None in `results` is a healthy answer."""
    plan = world.plan(request)
    pairs = zip(plan.ops, [None] * len(plan.ops) if results is None else results, strict=True)
    done = conclude(plan, [answer(op) if result is None else result for op, result in pairs], world.new_ids)
    if done.settlement.ledger is not None:
        world.keep(done)
    return done


def wrapped(done: Conclusion) -> list[Wrapped]:
    found = [outcome for outcome in done.outcomes if isinstance(outcome, Wrapped)]
    assert len(found) == len(done.outcomes)
    return found


def counts(done: Conclusion) -> list[Count]:
    return [effect for effect in done.settlement.effects if isinstance(effect, Count)]


def stored(done: Conclusion) -> list[Dek]:
    return [dek for effect in done.settlement.effects if isinstance(effect, StoreDeks) for dek in effect.deks]


def test_generated_deks_are_bound_to_their_id_key_tenant_and_context() -> None:
    world = World()
    items = [WrapItem(bits=128, context={"b": "2", "a": "1"}), WrapItem(bits=192), WrapItem()]
    plan = world.plan(world.request(Operation.WRAP, WrapBody(key=KEY, items=items)))
    usable = world.chains().usable(world.key(PAYMENTS), 1, Use.WRAP)
    assert isinstance(usable, Usable)
    ids = []
    for item, step, size in zip(items, plan.steps, (16, 24, 32), strict=True):
        assert isinstance(step, Wrapping)
        header = blob.header(PAYMENTS, 1, step.id)
        assert step.header == header
        assert step.op == WrapDek(usable.kek, blob.aad(header, "acme"), context.digest(item.context), size)
        ids.append(step.id)
    assert len({*ids, NO_ID}) == 4
    assert set(plan.seen) == seen_of(world, *WRAP_CHAIN)
    assert len(plan.seen) == len(WRAP_CHAIN), "each row once, however many items rest on it"
    assert plan.recipient is None


def test_what_was_wrapped_is_stored_once_and_counted() -> None:
    done = finished(world := World(), ask(world, 2))
    outcomes = wrapped(done)
    assert stored(done) == [Dek(one.id, PAYMENTS, 1, one.blob) for one in outcomes]
    assert counts(done) == [Count(PAYMENTS, 1, stored=2, issued_outside=0)]
    for one in outcomes:
        parsed = blob.parse(one.blob)
        assert (parsed.key, parsed.version, parsed.dek, parsed.nonce) == (PAYMENTS, 1, one.id, NONCE)


@pytest.mark.parametrize(
    ("store", "return_blob", "inside", "outside"),
    [(True, False, 2, 0), (True, True, 2, 2), (False, False, 0, 2), (False, True, 0, 2)],
)
def test_every_blob_that_leaves_is_counted(*, store: bool, return_blob: bool, inside: int, outside: int) -> None:
    done = finished(world := World(), ask(world, 2, store=store, return_blob=return_blob))
    assert counts(done) == [Count(PAYMENTS, 1, inside, outside)]
    assert len(stored(done)) == inside
    for one in wrapped(done):
        assert (one.id == NO_ID) is not store
        assert blob.parse(one.blob).dek == one.id
    assert done.settlement.ledger is not None, "a DEK that is not stored was made all the same"


def test_the_callers_deks_are_wrapped_as_they_came() -> None:
    world = World()
    deks = (bytes(range(16)), bytes(range(64)))
    plan = world.plan(ask(world, 2, sealed=SEALED), deks)
    ops = [op for op in plan.ops if isinstance(op, WrapDek)]
    assert [(op.dek, op.size) for op in ops] == [(deks[0], 16), (deks[1], 64)]
    assert deks[0].hex() not in repr(plan)


@pytest.mark.parametrize("size", [0, 1, 15, 65, 255])
def test_a_dek_of_another_length_fails_alone(size: int) -> None:
    world = World()
    plan = world.plan(ask(world, 3, sealed=SEALED), (b"a" * 32, b"b" * size, b"c" * 32))
    assert plan.steps[1] == Failed(Code.DEK_LENGTH)
    assert [op.dek for op in plan.ops if isinstance(op, WrapDek)] == [b"a" * 32, b"c" * 32]
    done = finished(world := World(), ask(world, 1))
    assert len(wrapped(done)) == 1


@pytest.mark.parametrize("code", [Code.INTAKE_KEY_UNKNOWN, Code.SEALED_UNREADABLE, Code.DEFERRED, Code.SUITE_TOO_WEAK])
def test_deks_that_can_not_be_had_refuse_the_request(code: Code) -> None:
    world = World()
    assert world.refusal(ask(world, sealed=SEALED), code) is code


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("acme/eu", Code.WRONG_PURPOSE),
        ("acme", Code.WRONG_PURPOSE),
        ("acme/nothing", Code.NOT_FOUND),
        ("bolt/eu/ledger", Code.NOT_FOUND),
    ],
)
def test_a_key_that_will_not_do_fails_every_item(name: str, code: Code) -> None:
    world = World()
    plan = world.plan(ask(world, 2, key=name))
    assert plan.steps == (Failed(code),) * 2
    assert plan.seen == tuple(seen_of(world, RowRef(Client.TABLE, "billing")))


def test_a_key_can_be_named_by_its_id() -> None:
    world = World()
    assert isinstance(world.plan(ask(world, key=str(PAYMENTS))).steps[0], Wrapping)


# Who may read the plaintext.


def test_plaintext_goes_to_the_key_in_the_request_else_to_the_registered_one() -> None:
    world = World()
    request = ask(world, return_dek=True)
    assert world.plan(request).recipient == RECIPIENT
    registered = load_keypair(Suite.P256, b"\x05" * 32).public
    bare = replace(request, recipient=None)
    assert world.refusal(bare) is Code.RECIPIENT_REQUIRED
    world.put(replace(world.client("billing"), recipient_suite=Suite.P256, recipient_key=registered))
    assert world.plan(bare).recipient == Recipient(Suite.P256, registered)
    assert world.plan(request).recipient == RECIPIENT


@pytest.mark.parametrize(
    ("minimum", "fits"), [(Suite.P256, True), (Suite.X25519, True), (Suite.MLKEM768_X25519, False)]
)
def test_the_tenants_minimum_suite(minimum: Suite, *, fits: bool) -> None:
    world = World()
    world.put(replace(world.tenant(), minimum_suite=minimum))
    request = ask(world, return_dek=True)
    if fits:
        assert world.plan(request).recipient == RECIPIENT
    else:
        assert world.refusal(request) is Code.SUITE_TOO_WEAK
        world.plan(ask(world))


@pytest.mark.parametrize("key", [b"", b"short", bytes(32), b"\x01" + bytes(31)])
def test_a_recipient_key_that_nothing_can_be_sealed_to(key: bytes) -> None:
    """A point of small order, too: whatever is sealed to it anybody can open."""
    world = World()
    request = replace(ask(world, return_dek=True), recipient=Recipient(Suite.X25519, key))
    assert world.refusal(request) is Code.MALFORMED


def test_a_tenant_that_is_gone_is_an_integrity_error() -> None:
    world = World()
    del world.rows[RowRef(Tenant.TABLE, "acme")]
    assert world.refusal(ask(world, return_dek=True)) is Code.INTEGRITY


# A request that comes again.


def test_a_replay_without_plaintext_asks_the_hsm_nothing_and_writes_nothing() -> None:
    world = World()
    first = finished(world, ask(world, 2))
    again = finished(world, ask(world, 2), [])
    assert again.plan.ops == []
    assert again.outcomes == tuple(replace(one, dek=b"") for one in wrapped(first))
    assert again.settlement.ledger is None
    assert (counts(again), stored(again)) == ([], [])
    assert again.settlement.seen == tuple(seen_of(world, RowRef(Client.TABLE, "billing")))


def test_a_replay_gives_the_same_dek_again_by_unwrapping_it() -> None:
    world = World()
    request = ask(world, 1, return_dek=True)
    (first,) = wrapped(finished(world, request))
    world.rotate(PAYMENTS)
    plan = world.plan(request)
    (step,) = plan.steps
    assert isinstance(step, Replaying)
    parsed = blob.parse(first.blob)
    assert isinstance(step.op, UnwrapDek)
    assert (step.op.kek.version, step.op.aad) == (1, blob.aad(parsed.header, "acme"))
    assert (step.op.nonce, step.op.ciphertext) == (parsed.nonce, parsed.ciphertext)
    again = finished(world, request)
    assert wrapped(again) == [replace(first, dek=b"d" * 32)]
    assert again.settlement.ledger is None
    assert (counts(again), stored(again)) == ([], [])
    assert set(plan.seen) == seen_of(world, *WRAP_CHAIN)


def test_a_replay_is_refused_what_is_not_allowed_any_more() -> None:
    world = World()
    request = ask(world, 1, return_dek=True)
    kept = finished(world, request).settlement.ledger
    world.set_state(PAYMENTS, State.COMPROMISED)
    again = finished(world, request)
    assert again.outcomes == (Failed(Code.KEY_STATE),)
    assert again.settlement.ledger is None, "the ledger keeps what was done"
    assert list(world.ledger.values()) == [kept]
    world.set_state(PAYMENTS, State.SUSPENDED)
    assert len(wrapped(finished(world, request))) == 1


def test_a_replay_that_the_hsm_can_not_do_now_leaves_the_ledger_alone() -> None:
    world = World()
    request = ask(world, 1, return_dek=True)
    finished(world, request)
    again = finished(world, request, [AWAY])
    assert again.outcomes == (Failed(Code.DEFERRED),)
    assert again.settlement.ledger is None


def test_open_items_are_done_and_kept_ones_told() -> None:
    world = World()
    request = ask(world, 4)
    first = finished(world, request, [None, AWAY, HsmFault(Fault.UNSUPPORTED), AWAY])
    assert [type(outcome) for outcome in first.outcomes] == [Wrapped, Failed, Failed, Failed]
    entry = world.ledger[request.key]
    assert [outcome is None for outcome in entry.outcomes] == [False, True, False, True]
    assert first.settlement.opened is None
    second = finished(world, request, [None, AWAY])
    assert second.settlement.opened == entry
    assert len(second.plan.ops) == 2
    assert second.outcomes[0] == replace(wrapped_of(first, 0), dek=b"")
    assert second.outcomes[2] == Failed(Code.UNSUPPORTED)
    assert isinstance(second.outcomes[1], Wrapped)
    assert second.outcomes[3] == Failed(Code.DEFERRED)
    assert stored(second) == [Dek(second.outcomes[1].id, PAYMENTS, 1, second.outcomes[1].blob)]
    assert counts(second) == [Count(PAYMENTS, 1, 1, 0)]
    after = world.ledger[request.key].outcomes
    assert after[0] == entry.outcomes[0]
    assert after[2] == entry.outcomes[2]
    assert (after[1] is None, after[3] is None) == (False, True)
    third = finished(world, request, [AWAY])
    assert third.settlement.ledger is None, "nothing new became final"
    assert third.outcomes[3] == Failed(Code.DEFERRED)


def test_open_items_of_the_callers_use_their_own_dek() -> None:
    world = World()
    request = ask(world, 3, sealed=SEALED)
    deks = (b"a" * 32, b"b" * 32, b"c" * 32)
    plan = world.plan(request, deks)
    world.keep(conclude(plan, [answer(plan.ops[0]), AWAY, answer(plan.ops[2])], world.new_ids))
    (op,) = world.plan(request, deks).ops
    assert isinstance(op, WrapDek)
    assert op.dek == b"b" * 32


def test_what_was_open_under_the_old_version_is_done_under_the_new_one() -> None:
    world = World()
    request = ask(world, 2)
    finished(world, request, [None, AWAY])
    world.rotate(PAYMENTS)
    again = finished(world, request)
    assert [one.version for one in wrapped(again)] == [1, 2]
    assert counts(again) == [Count(PAYMENTS, 2, 1, 0)]


def test_a_request_with_nothing_done_stands_in_the_ledger_as_open() -> None:
    world = World()
    request = ask(world, 2)
    finished(world, request, [AWAY, AWAY])
    assert world.ledger[request.key] == LedgerEntry(request.key, Operation.WRAP, request.body_digest, (None, None))


def test_every_item_under_a_key_with_another_purpose_is_refused_even_if_its_layer_fits() -> None:
    world = World()
    world.put(replace(world.key(CARDS), purpose=Purpose.WRAPS_KEYS))
    assert world.plan(ask(world, key="acme/eu/cards")).steps == (Failed(Code.WRONG_PURPOSE),)


def wrapped_of(done: Conclusion, index: int) -> Wrapped:
    outcome = done.outcomes[index]
    assert isinstance(outcome, Wrapped)
    return outcome
