"""A wrap that comes again: what was done is told, what is open is done, and an edited ledger tells nothing."""

from dataclasses import replace

import pytest

from tests.unit.chain.token import answer
from tests.unit.chain.world import CARDS, PAYMENTS, World, seen_of
from tests.unit.chain.wraps import AWAY, SEALED, WRAP_CHAIN, ask, counts, finished, stored, wrapped, wrapped_of
from worker.chain import blob, context
from worker.chain.conclude import conclude
from worker.chain.outcomes import encode
from worker.chain.work import Replaying
from worker.model.codes import Code
from worker.model.effects import Count, LedgerEntry
from worker.model.hsm import Fault, HsmFault, Purpose, UnwrapDek, UnwrappedDek, WrapDek
from worker.model.operations import Operation
from worker.model.outcomes import Failed, Outcome, Rewrapped, Wrapped
from worker.model.requests import Request
from worker.model.rows import Client, Dek, RowRef, State

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


def test_open_items_whose_deks_can_not_be_had_now_fail_alone() -> None:
    """The intake key is forgotten: what was done is told all the same."""
    world = World()
    request = ask(world, 2, sealed=SEALED)
    plan = world.plan(request, (b"a" * 32, b"b" * 32))
    first = conclude(plan, [answer(plan.ops[0]), AWAY], world.new_ids)
    world.keep(first)
    steps = world.plan(request, Code.INTAKE_KEY_UNKNOWN).steps
    assert steps == (replace(wrapped_of(first, 0), dek=b""), Failed(Code.INTAKE_KEY_UNKNOWN))


# The ledger carries no MAC: who edits it gets nothing told and nothing unwrapped.


def edited(world: World, request: Request, *outcomes: Outcome | bytes) -> None:
    raw = tuple(one if isinstance(one, bytes) else encode(one) for one in outcomes)
    world.ledger[request.key] = LedgerEntry(request.key, request.operation, request.body_digest, raw)


@pytest.mark.parametrize(
    "outcomes",
    [
        (b"",),
        (b"\x01NO_SUCH_CODE",),
        (b"\x02short",),
        (Failed(Code.NOT_FOUND), Failed(Code.NOT_FOUND)),
        (),
        (Rewrapped(CARDS, CARDS, 1, b"blob", unchanged=False),),
        (Wrapped(CARDS, PAYMENTS, 1, b"no blob"),),
    ],
)
def test_what_no_release_ever_wrote_is_an_integrity_error(outcomes: tuple[Outcome | bytes, ...]) -> None:
    world = World()
    request = ask(world, 1, return_dek=True)
    edited(world, request, *outcomes)
    assert world.refusal(request) is Code.INTEGRITY


@pytest.mark.parametrize("what", ["id", "key", "version", "another item's", "another request's"])
def test_the_blob_of_something_else_is_not_unwrapped(what: str) -> None:
    world = World()
    world.rotate(PAYMENTS)
    world.rotate(CARDS)
    request = ask(world, 2, return_dek=True)
    first, second = wrapped(finished(world, request))
    (foreign,) = wrapped(finished(world, world.request(Operation.WRAP, request.body, id_="r2")))[:1]
    changed = {
        "id": replace(first, id=second.id),
        "key": replace(first, key=CARDS),
        "version": replace(first, version=1),
        "another item's": second,
        "another request's": foreign,
    }[what]
    edited(world, request, changed, second)
    steps = world.plan(request).steps
    assert steps[0] == Failed(Code.INTEGRITY)
    assert isinstance(steps[1], Replaying)


def test_the_blob_of_another_context_gives_no_plaintext() -> None:
    """Of a DEK that is not stored only the context can tell."""
    world = World()
    request = ask(world, 1, store=False, return_dek=True)
    finished(world, request)
    again = finished(world, request, [UnwrappedDek(b"d" * 32, context.digest({"who": "else"}))])
    assert again.outcomes == (Failed(Code.INTEGRITY),)
    assert len(wrapped(finished(world, request))) == 1


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
