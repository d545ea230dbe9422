"""The fleet's own keys: one more version per rotation, by two officers, and what rests on each."""

import json
from dataclasses import replace

import pytest

from tests.unit.chain.test_life_commands import events, puts, world
from tests.unit.chain.world import NOW, World
from worker.chain import fleet
from worker.chain.conclude import conclude
from worker.chain.plan import Conclusion
from worker.model.codes import Code
from worker.model.effects import Leaf, Seen
from worker.model.fleet import (
    FleetKey,
    FleetKeyResult,
    FleetKeyState,
    FleetKind,
    FleetRetireBody,
    FleetRotateBody,
    FleetShowBody,
    FleetShowResult,
    fleet_key_ref,
)
from worker.model.hsm import CreateFleetKey, Fault, HsmFault
from worker.model.operations import Operation
from worker.model.outcomes import Commanded, Failed
from worker.model.replies import ApprovalResult

SECOND = FleetKey("signing/2", FleetKind.SIGNING, 2, FleetKeyState.ACTIVE, NOW - 9, 1, "fleet", b"two", b"one")


def rotated(where: World, kind: FleetKind = FleetKind.ROW_MAC, id_: str = "r1") -> Conclusion:
    body = FleetRotateBody(kind=kind, why="yearly")
    return where.approved(where.request(Operation.FLEET_ROTATE, body, "ann", id_))


def rows(done: Conclusion) -> list[FleetKey]:
    return [row for row in puts(done) if isinstance(row, FleetKey)]


def code(done: Conclusion) -> Code:
    (outcome,) = done.outcomes
    assert isinstance(outcome, Failed), outcome
    return outcome.code


def test_one_officer_alone_rotates_nothing() -> None:
    where = world()
    asked = where.run(where.request(Operation.FLEET_ROTATE, FleetRotateBody(kind=FleetKind.SIGNING), "ann"))
    assert rows(asked) == []
    assert events(asked) == ["approval.requested"]


def test_the_first_rotation_makes_version_two_and_writes_down_version_one() -> None:
    where = world()
    done = rotated(where)
    old, new = rows(done)
    assert (old.ref, old.state, old.since_ms) == (
        fleet_key_ref(FleetKind.ROW_MAC, 1),
        FleetKeyState.VERIFY_ONLY,
        0,
    )
    assert (new.id, new.number, new.state, new.since_ms) == ("row-mac/2", 2, FleetKeyState.ACTIVE, NOW)
    assert done.plan.ops == [CreateFleetKey(FleetKind.ROW_MAC, 2, NOW)]
    assert events(done) == ["fleet.rotated", "approval.approved"]
    (outcome,) = done.outcomes
    assert isinstance(outcome, Commanded)
    assert isinstance(outcome.result, ApprovalResult)
    told = outcome.result.result
    assert isinstance(told, FleetKeyResult)
    assert (told.key.number, told.who, told.approved_by, told.why) == (2, "ann", "ben", "yearly")
    (leaf,) = [json.loads(effect.body) for effect in done.settlement.effects if isinstance(effect, Leaf)]
    assert (leaf["tenant"], leaf["told"]["key"]["kind"], leaf["told"]["who"]) == ("fleet", "row-mac", "ann")


def test_a_signing_key_is_kept_with_both_signatures_and_follows_the_one_before() -> None:
    where = world()
    where.put(SECOND)
    done = rotated(where, FleetKind.SIGNING)
    old, new = rows(done)
    assert old == replace(SECOND, state=FleetKeyState.VERIFY_ONLY, revision=2)
    assert done.plan.ops == [CreateFleetKey(FleetKind.SIGNING, 3, NOW, b"two")]
    assert (new.id, new.public_key, new.predecessor) == ("signing/3", b"new", b"old")
    assert (new.by_predecessor, new.by_itself) == (b"by old", b"by new")
    assert Seen(SECOND.ref, 1) in done.settlement.seen
    assert SECOND.ref in done.settlement.changes


def test_a_token_that_does_not_make_it_leaves_everything_as_it_was() -> None:
    where = world()
    waiting = where.request(Operation.FLEET_ROTATE, FleetRotateBody(kind=FleetKind.ROW_MAC), "ann")
    done = where.approved(waiting)
    failed = conclude(done.plan, [HsmFault(Fault.UNAVAILABLE)], where.new_ids)
    assert code(failed) is Code.DEFERRED
    assert puts(failed) == []


@pytest.mark.parametrize("body", [FleetRotateBody(kind=FleetKind.ROW_MAC), FleetShowBody()])
def test_on_a_row_that_somebody_changed_nothing_is_built(body: FleetRotateBody | FleetShowBody) -> None:
    where = world()
    where.tampered.add(fleet_key_ref(FleetKind.ROW_MAC, 2))
    operation = Operation.FLEET_SHOW if isinstance(body, FleetShowBody) else Operation.FLEET_ROTATE
    assert code(where.run(where.request(operation, body, "ann"))) is Code.INTEGRITY


def test_there_is_an_end_to_rotations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "MOST", 1)
    where = world()
    where.put(SECOND)
    body = FleetRotateBody(kind=FleetKind.SIGNING)
    assert code(where.run(where.request(Operation.FLEET_ROTATE, body, "ann"))) is Code.CONFLICT


def test_every_version_is_shown_with_what_rests_on_it() -> None:
    where = world()
    where.put(SECOND)
    where.rests = {(FleetKind.ROW_MAC, 1): 12}
    done = where.run(where.request(Operation.FLEET_SHOW, FleetShowBody(), "ann"))
    (outcome,) = done.outcomes
    assert isinstance(outcome, Commanded)
    assert isinstance(outcome.result, FleetShowResult)
    shown = [(one.kind, one.number, one.rests, one.public_key) for one in outcome.result.keys]
    assert shown == [
        (FleetKind.ROW_MAC, 1, 12, None),
        (FleetKind.INTAKE_WRAP, 1, 0, None),
        (FleetKind.SIGNING, 1, None, None),
        (FleetKind.SIGNING, 2, None, b"two"),
    ]


OLD = FleetKey("row-mac/1", FleetKind.ROW_MAC, 1, FleetKeyState.VERIFY_ONLY, 0, 2, "fleet")
NEW = FleetKey("row-mac/2", FleetKind.ROW_MAC, 2, FleetKeyState.ACTIVE, NOW - 9, 1, "fleet")


def retired(where: World, **words: object) -> Conclusion:
    body = FleetRetireBody.model_validate({"kind": FleetKind.ROW_MAC, "number": 1} | words)
    return where.run(where.request(Operation.FLEET_RETIRE, body, "ann"))


def test_a_version_on_which_nothing_rests_is_retired_by_two() -> None:
    where = world()
    where.put(OLD, NEW)
    asked = retired(where)
    assert rows(asked) == []
    assert events(asked) == ["approval.requested"]
    body = FleetRetireBody(kind=FleetKind.ROW_MAC, number=1, why="it leaked")
    done = where.approved(where.request(Operation.FLEET_RETIRE, body, "ann", "r2"))
    assert rows(done) == [replace(OLD, state=FleetKeyState.RETIRED, revision=3)]
    assert done.plan.ops == []
    assert Seen(OLD.ref, 2) in done.settlement.seen
    assert events(done) == ["fleet.retired", "approval.approved"]


def test_while_anything_rests_on_it_only_what_is_named_may_stay() -> None:
    where = world()
    where.put(OLD, NEW)
    where.rests = {(FleetKind.ROW_MAC, 1): 3}
    assert code(retired(where)) is Code.STILL_NEEDED
    assert code(retired(where, leaving=2)) is Code.STILL_NEEDED
    assert events(retired(where, leaving=3)) == ["approval.requested"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"number": 2}, Code.CONFLICT),
        ({"number": 3}, Code.NOT_FOUND),
        ({"kind": FleetKind.SIGNING}, Code.UNSUPPORTED),
        ({"kind": FleetKind.INTAKE_WRAP}, Code.UNSUPPORTED),
    ],
)
def test_the_active_version_and_other_kinds_stay(words: dict[str, object], why: Code) -> None:
    where = world()
    where.put(OLD, NEW)
    assert code(retired(where, **words)) is why


def test_nothing_is_retired_twice_or_beside_a_row_that_somebody_changed() -> None:
    where = world()
    where.put(replace(OLD, state=FleetKeyState.RETIRED), NEW)
    assert code(retired(where)) is Code.CONFLICT
    where.tampered.add(NEW.ref)
    assert code(retired(where)) is Code.INTEGRITY
