"""Planning a rewrap: to the current version, to another key, and what is current already."""

from dataclasses import replace

import pytest

from tests.unit.chain.token import answer
from tests.unit.chain.world import BOLT_LEDGER, CARDS, EU, PAYMENTS, ROOT, World, blob_of, chain_refs, seen_of, uid
from worker.chain import blob
from worker.chain.conclude import conclude, is_ledgered
from worker.chain.plan import Conclusion
from worker.chain.work import Rewrapping
from worker.model.bodies import RewrapBody, RewrapItem
from worker.model.codes import Code
from worker.model.effects import Count, MoveDek
from worker.model.hsm import Fault, HsmFault, RewrapDek, WrappedDek
from worker.model.ids import NO_ID
from worker.model.operations import Operation
from worker.model.outcomes import Failed, Rewrapped
from worker.model.requests import Request
from worker.model.rows import Client, Dek, RowRef, State

CLIENT = RowRef(Client.TABLE, "billing")
AWAY = HsmFault(Fault.UNAVAILABLE)


def ask(world: World, *items: RewrapItem, to: str | None = None, return_blob: bool = False) -> Request:
    return world.request(Operation.REWRAP, RewrapBody(items=list(items), to=to, return_blob=return_blob))


def rotated() -> tuple[World, Dek]:
    """A stored DEK under a version that is not current any more."""
    world = World()
    row = world.stored(1, PAYMENTS)
    world.rotate(PAYMENTS)
    return world, row


def codes(world: World, *items: RewrapItem, to: str | None = None) -> list[Code | None]:
    steps = world.plan(ask(world, *items, to=to)).steps
    return [step.code if isinstance(step, Failed) else None for step in steps]


def moves(done: Conclusion) -> list[MoveDek]:
    return [effect for effect in done.settlement.effects if isinstance(effect, MoveDek)]


def counts(done: Conclusion) -> set[Count]:
    found = [effect for effect in done.settlement.effects if isinstance(effect, Count)]
    assert len(set(found)) == len(found)
    return set(found)


def rewrapped(done: Conclusion, index: int = 0) -> Rewrapped:
    outcome = done.outcomes[index]
    assert isinstance(outcome, Rewrapped)
    return outcome


def test_a_stored_dek_moves_to_the_current_version_and_keeps_its_id() -> None:
    world, row = rotated()
    plan = world.plan(ask(world, RewrapItem(id=row.id)))
    (step,) = plan.steps
    assert isinstance(step, Rewrapping)
    before = blob.parse(row.blob)
    header = blob.header(PAYMENTS, 2, row.id)
    assert isinstance(step.op, RewrapDek)
    assert (step.op.source.version, step.op.target.version) == (1, 2)
    assert (step.op.source_aad, step.op.target_aad) == (blob.aad(before.header, "acme"), blob.aad(header, "acme"))
    assert (step.op.nonce, step.op.ciphertext) == (before.nonce, before.ciphertext)
    done = conclude(plan, [answer(step.op)], world.new_ids)
    moved = rewrapped(done)
    assert (moved.id, moved.key, moved.version, moved.unchanged) == (row.id, PAYMENTS, 2, False)
    assert moved.blob.startswith(header)
    assert moves(done) == [MoveDek(Dek(row.id, PAYMENTS, 2, moved.blob), row.blob)]
    assert counts(done) == {Count(PAYMENTS, 1, -1, 0), Count(PAYMENTS, 2, 1, 0)}
    assert plan.recipient is None
    both = chain_refs(ROOT, EU, PAYMENTS, version={PAYMENTS: 2})
    assert set(plan.seen) == seen_of(world, CLIENT, *chain_refs(ROOT, EU, PAYMENTS), *both)


def test_a_callers_blob_comes_back_under_no_id_and_counts_as_outside() -> None:
    world, row = rotated()
    done = world.run(ask(world, RewrapItem(blob=row.blob)))
    assert rewrapped(done).id == NO_ID
    assert blob.parse(rewrapped(done).blob).dek == NO_ID
    assert moves(done) == []
    assert counts(done) == {Count(PAYMENTS, 2, 0, 1)}
    assert done.settlement.ledger is None, "it made nothing that must not be made twice"


@pytest.mark.parametrize("return_blob", [True, False])
def test_what_is_current_comes_back_byte_identical(*, return_blob: bool) -> None:
    """No HSM operation; a stored one counts as outside only if its blob goes out."""
    world = World()
    rows, outside = [world.stored(number, PAYMENTS) for number in (1, 2)], blob_of(PAYMENTS, 1, uid(90))
    items = [*[RewrapItem(id=row.id) for row in rows], RewrapItem(blob=outside)]
    request = ask(world, *items, return_blob=return_blob)
    done = world.run(request)
    assert done.plan.ops == []
    assert done.outcomes == (
        *[Rewrapped(row.id, PAYMENTS, 1, row.blob, unchanged=True) for row in rows],
        Rewrapped(NO_ID, PAYMENTS, 1, outside, unchanged=True),
    )
    assert moves(done) == []
    assert counts(done) == ({Count(PAYMENTS, 1, 0, 2)} if return_blob else set())
    world.keep(done)
    assert counts(world.run(request)) == set(), "told again, it left already"


@pytest.mark.parametrize("return_blob", [True, False])
def test_a_moved_row_whose_blob_goes_out_counts_twice(*, return_blob: bool) -> None:
    world, row = rotated()
    done = world.run(ask(world, RewrapItem(id=row.id), return_blob=return_blob))
    assert counts(done) == {Count(PAYMENTS, 1, -1, 0), Count(PAYMENTS, 2, 1, int(return_blob))}


def test_one_dek_named_twice_moves_once() -> None:
    world, row = rotated()
    plan = world.plan(ask(world, RewrapItem(id=row.id), RewrapItem(id=row.id)))
    results = [WrappedDek(bytes([number]) * 12, b"r" * 81) for number in range(len(plan.ops))]
    done = conclude(plan, results, world.new_ids)
    last = rewrapped(done, 1)
    assert moves(done) == [MoveDek(Dek(row.id, PAYMENTS, 2, last.blob), row.blob)]
    assert counts(done) == {Count(PAYMENTS, 1, -1, 0), Count(PAYMENTS, 2, 1, 0)}


# To another key.


def test_to_another_key_with_its_context_unseen() -> None:
    world = World()
    row = world.stored(1, PAYMENTS)
    done = world.run(ask(world, RewrapItem(id=row.id), to="acme/eu/cards"))
    (op,) = done.plan.ops
    assert isinstance(op, RewrapDek)
    assert (op.source.key, op.target.key) == (PAYMENTS, CARDS)
    assert rewrapped(done).key == CARDS
    assert counts(done) == {Count(PAYMENTS, 1, -1, 0), Count(CARDS, 1, 1, 0)}


def test_to_the_key_under_which_it_is_current() -> None:
    world = World()
    row = world.stored(1, PAYMENTS)
    assert rewrapped(world.run(ask(world, RewrapItem(id=row.id), to=str(PAYMENTS)))).unchanged


@pytest.mark.parametrize(
    ("lacks", "to", "code"),
    [
        ("rewrap", None, Code.NOT_FOUND),
        ("rewrap-from", None, None),
        ("rewrap-to", None, None),
        ("rewrap", "acme/eu/cards", None),
        ("rewrap-from", "acme/eu/cards", Code.NOT_FOUND),
        ("rewrap-to", "acme/eu/cards", Code.NOT_FOUND),
        ("wrap", "acme/eu/cards", None),
        ("unwrap", "acme/eu/cards", None),
    ],
)
def test_rewrap_is_no_ladder(lacks: str, to: str | None, code: Code | None) -> None:
    """S11: away from a key and to another one are two permissions; neither wrap nor unwrap implies them."""
    world, row = rotated()
    have = tuple(each for each in world.client("billing").permissions if each != lacks)
    world.put(replace(world.client("billing"), permissions=have))
    assert codes(world, RewrapItem(id=row.id), to=to) == [code]


@pytest.mark.parametrize(
    ("to", "code"),
    [
        ("bolt/eu/ledger", Code.NOT_FOUND),
        (str(BOLT_LEDGER), Code.NOT_FOUND),
        ("acme/nothing", Code.NOT_FOUND),
        ("acme/eu", Code.WRONG_PURPOSE),
    ],
)
def test_a_target_that_will_not_do_fails_every_item(to: str, code: Code) -> None:
    world = World()
    row = world.stored(1, PAYMENTS)
    assert codes(world, RewrapItem(id=row.id), RewrapItem(blob=b"bad"), to=to) == [code] * 2


def test_a_pattern_holds_for_source_and_target() -> None:
    world = World()
    row = world.stored(1, PAYMENTS)
    for pattern in ("acme/eu/payments", "acme/eu/cards"):
        world.put(replace(world.client("billing"), pattern=pattern))
        assert codes(world, RewrapItem(id=row.id), to="acme/eu/cards") == [Code.NOT_FOUND]


# What can't be rewrapped.


@pytest.mark.parametrize("state", State)
def test_the_sources_state(state: State) -> None:
    world, row = rotated()
    world.set_state(PAYMENTS, state)
    allowed = state in {State.ACTIVE, State.DEACTIVATED}
    assert codes(world, RewrapItem(id=row.id)) == [None if allowed else Code.KEY_STATE]


@pytest.mark.parametrize("state", State)
def test_the_targets_state(state: State) -> None:
    world, row = rotated()
    world.set_state(PAYMENTS, state, 2)
    assert codes(world, RewrapItem(id=row.id)) == [None if state is State.ACTIVE else Code.KEY_STATE]


def test_each_item_has_its_own_fate() -> None:
    world, row = rotated()
    foreign = world.stored(2, BOLT_LEDGER)
    bad = world.stored(3, PAYMENTS)
    world.deks[bad.id] = replace(bad, blob=row.blob)
    items = (
        RewrapItem(id=row.id),
        RewrapItem(blob=b"bad"),
        RewrapItem(id=uid(99)),
        RewrapItem(id=foreign.id),
        RewrapItem(blob=blob_of(EU, 1, uid(7))),
        RewrapItem(id=bad.id),
        RewrapItem(blob=row.blob),
    )
    wrong = [Code.UNWRAP_FAILED, Code.NOT_FOUND, Code.NOT_FOUND, Code.WRONG_PURPOSE, Code.INTEGRITY]
    assert codes(world, *items) == [None, *wrong, None]


@pytest.mark.parametrize(
    ("fault", "code"), [(Fault.BAD_CIPHERTEXT, Code.UNWRAP_FAILED), (Fault.INTEGRITY, Code.INTEGRITY)]
)
def test_a_fault_moves_nothing(fault: Fault, code: Code) -> None:
    world, row = rotated()
    done = conclude(world.plan(ask(world, RewrapItem(id=row.id))), [HsmFault(fault)], world.new_ids)
    assert done.outcomes == (Failed(code),)
    assert (moves(done), counts(done)) == ([], set())


# The ledger.


@pytest.mark.parametrize(
    ("items", "kept"),
    [
        ((RewrapItem(blob=b"a"), RewrapItem(blob=b"b")), False),
        ((RewrapItem(blob=b"a"), RewrapItem(id=uid(1))), True),
        ((RewrapItem(id=uid(1)),), True),
    ],
)
def test_a_rewrap_is_ledgered_when_something_is_stored(items: tuple[RewrapItem, ...], *, kept: bool) -> None:
    assert is_ledgered(ask(World(), *items)) is kept


def test_a_replay_tells_what_was_done_and_moves_nothing_again() -> None:
    world, row = rotated()
    request = ask(world, RewrapItem(id=row.id))
    first = world.run(request)
    world.keep(first)
    world.deks[row.id] = Dek(row.id, PAYMENTS, 2, rewrapped(first).blob)
    again = world.run(request)
    assert again.outcomes == first.outcomes
    assert (again.plan.ops, moves(again), counts(again), again.settlement.ledger) == ([], [], set(), None)


def test_open_items_are_moved_when_the_request_comes_again() -> None:
    world, row = rotated()
    other = world.stored(2, PAYMENTS).id
    request = ask(world, RewrapItem(id=row.id), RewrapItem(id=other))
    plan = world.plan(request)
    first = conclude(plan, [answer(plan.ops[0]), AWAY], world.new_ids)
    world.keep(first)
    world.deks[row.id] = Dek(row.id, PAYMENTS, 2, rewrapped(first).blob)
    again = world.run(request)
    assert [move.dek.id for move in moves(again)] == [other]
    assert again.outcomes[0] == first.outcomes[0]
    assert rewrapped(again, 1).id == other


def test_blobs_of_one_version_go_one_way_and_each_answers_for_itself() -> None:
    world = World()
    blobs = [blob_of(PAYMENTS, 1, NO_ID), blob_of(PAYMENTS, 1, uid(77)), blob_of(CARDS, 1, NO_ID)]
    world.rotate(PAYMENTS)
    world.rotate(CARDS)
    short = blobs[0][: blob.SHORTEST - 1]
    items = [RewrapItem(blob=one) for one in (*blobs, short, *blobs)]
    steps = world.plan(ask(world, *items)).steps
    alone = [world.plan(ask(world, item)).steps[0] for item in items]
    assert list(steps) == alone
    assert steps[3] == Failed(Code.UNWRAP_FAILED)
    moved = [step for step in steps if isinstance(step, Rewrapping)]
    assert [step.op.source_aad for step in moved[:3]] == [blob.aad(one[: blob.HEADER_BYTES], "acme") for one in blobs]
    assert {step.id for step in moved} == {NO_ID}
