"""Planning a wrap: generated DEKs and the caller's, stored or not, and who may read the plaintext."""

from dataclasses import replace

import pytest

from tests.unit.chain.token import NONCE
from tests.unit.chain.world import PAYMENTS, RECIPIENT, World, seen_of
from tests.unit.chain.wraps import KEY, SEALED, WRAP_CHAIN, ask, counts, finished, stored, wrapped
from worker.chain import blob, context
from worker.chain.lifecycle import Use
from worker.chain.resolve import Usable
from worker.chain.work import Wrapping
from worker.model.bodies import WrapBody, WrapItem
from worker.model.codes import Code
from worker.model.effects import Count
from worker.model.hsm import WrapDek
from worker.model.ids import NO_ID
from worker.model.operations import Operation
from worker.model.outcomes import Failed
from worker.model.requests import Recipient
from worker.model.rows import Client, Dek, RowRef, Suite, Tenant
from worker.seal.hpke import load_keypair


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
