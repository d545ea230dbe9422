"""Every state × every operation, each with its outcome, written out by hand: nothing here is computed from the code.

-           refused (KEY_STATE)      ok      done                 ok+     done, and the blob comes back under v2
same        allowed, changes nothing of this version               else    the state that this version has afterwards
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.unit.chain.world import EU, NOW, PAYMENTS, ROOT, World, blob_of, uid
from worker.chain.lifecycle import Use, Who, allows
from worker.chain.plan import Conclusion, Limits, Plan
from worker.chain.work import Commanding
from worker.model.bodies import (
    AnyBody,
    DekItem,
    KeyCreateBody,
    KeyListBody,
    KeyRotateBody,
    KeyShowBody,
    RewrapBody,
    RewrapItem,
    UnwrapBody,
    WrapBody,
    WrapItem,
)
from worker.model.codes import Code
from worker.model.control import (
    KeyActivateBody,
    KeyCancelDestroyBody,
    KeyCompromiseBody,
    KeyDeactivateBody,
    KeyDestroyBody,
    KeyDisableBody,
    KeyEnableBody,
    KeyResumeBody,
    KeySuspendBody,
)
from worker.model.effects import PutRow
from worker.model.fields import Reason
from worker.model.importing import KeyImportBody, KeyImportParametersBody
from worker.model.imports import Import, ImportAlgorithm, ImportState
from worker.model.operations import Operation
from worker.model.outcomes import Failed, Rewrapped, Unwrapped
from worker.model.rows import Origin, State, Version

NAME, ABOVE = "acme/eu/payments", "acme/eu"
OLD = blob_of(PAYMENTS, 1, uid(7))
OFFER = Import(
    id=uid(800),
    tenant="acme",
    key=ROOT,
    algorithm=ImportAlgorithm.RSA_AES_KEY_WRAP_SHA_256,
    bits=3072,
    public_key=b"public",
    material=uid(801),
    serial="token-1",
    expires_ms=NOW + 1,
    failures=0,
    state=ImportState.OPEN,
    revision=1,
)
STATES = (
    State.PRE_ACTIVE,
    State.ACTIVE,
    State.SUSPENDED,
    State.DEACTIVATED,
    State.COMPROMISED,
    State.DESTROY_SCHEDULED,
    State.DESTROYED,
)

# The version is its key's active one, of a key that wraps DEKs.
ITSELF = """
                     pre-active   active       suspended    deactivated  compromised        scheduled    destroyed
wrap                 -            ok           -            -            -                  -            -
unwrap               -            ok           ok           ok           -                  -            -
unwrap with rewrap   -            ok           ok           ok           -                  -            -
rewrap               -            same         -            -            -                  -            -
activate             active       -            -            -            -                  -            -
suspend              -            suspended    same         -            -                  -            -
resume               -            -            active       -            -                  -            -
deactivate           -            deactivated  deactivated  same         -                  -            -
compromise           compromised  compromised  compromised  compromised  same               -            -
destroy              destroy-scheduled  -      -            destroy-scheduled  destroy-scheduled  -      -
cancel-destroy       -            -            -            -            -                  compromised  -
rotate               same         deactivated  deactivated  same         same               same         same
rotate compromised   compromised  compromised  compromised  compromised  same               same         same
rotate pre-active    same         same         same         same         same               same         same
disable              same         same         same         same         same               same         same
show                 same         same         same         same         same               same         same
list                 same         same         same         same         same               same         same
"""

# A newer version is active.
OLDER = """
                     pre-active   active       suspended    deactivated  compromised        scheduled    destroyed
unwrap               -            ok           ok           ok           -                  -            -
unwrap with rewrap   -            ok+          ok           ok+          -                  -            -
rewrap               -            ok           -            ok           -                  -            -
activate             -            -            -            -            -                  -            -
resume               -            -            -            -            -                  -            -
rotate               same         same         same         same         same               same         same
"""

# It wraps the key that is asked for: what an ancestor's state lets through.
ANCESTOR = """
                     pre-active   active       suspended    deactivated  compromised        scheduled    destroyed
wrap                 -            ok           ok           ok           -                  -            -
unwrap               -            ok           ok           ok           -                  -            -
rewrap               -            same         same         same         -                  -            -
create below         -            ok           -            -            -                  -            -
rotate below         -            ok           -            -            -                  -            -
"""

# An imported L1 whose material was deleted when its time was over: bringing the same back changes no state.
ABSENT = """
                     pre-active   active       suspended    deactivated  compromised        scheduled    destroyed
import               pre-active   active       suspended    deactivated  compromised        -            -
import parameters    same         same         same         same         same               same         same
"""

# What campaigns may do with a version.
CAMPAIGNS = """
                     pre-active   active       suspended    deactivated  compromised        scheduled    destroyed
wrap                 -            ok           -            -            -                  -            -
unwrap               -            ok           ok           ok           ok                 -            -
rewrap from          -            ok           -            ok           ok                 -            -
open                 -            ok           ok           ok           ok                 -            -
"""
USES = {"wrap": Use.WRAP, "unwrap": Use.UNWRAP, "rewrap from": Use.REWRAP_FROM, "open": Use.OPEN}

ASKED: dict[str, tuple[Operation, AnyBody]] = {
    "wrap": (Operation.WRAP, WrapBody(key=NAME, items=[WrapItem()])),
    "unwrap": (Operation.UNWRAP, UnwrapBody(items=[DekItem(blob=OLD)])),
    "unwrap with rewrap": (Operation.UNWRAP, UnwrapBody(items=[DekItem(blob=OLD)], rewrap=True)),
    "rewrap": (Operation.REWRAP, RewrapBody(items=[RewrapItem(blob=OLD)])),
    "activate": (Operation.KEY_ACTIVATE, KeyActivateBody(tenant="acme", key=NAME, version=1)),
    "suspend": (Operation.KEY_SUSPEND, KeySuspendBody(tenant="acme", key=NAME, version=1)),
    "resume": (Operation.KEY_RESUME, KeyResumeBody(tenant="acme", key=NAME, version=1)),
    "deactivate": (Operation.KEY_DEACTIVATE, KeyDeactivateBody(tenant="acme", key=NAME, version=1)),
    "compromise": (Operation.KEY_COMPROMISE, KeyCompromiseBody(tenant="acme", key=NAME, version=1)),
    "destroy": (Operation.KEY_DESTROY, KeyDestroyBody(tenant="acme", key=NAME, version=1)),
    "cancel-destroy": (Operation.KEY_CANCEL_DESTROY, KeyCancelDestroyBody(tenant="acme", key=NAME, version=1)),
    "rotate": (Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key=NAME)),
    "rotate compromised": (
        Operation.KEY_ROTATE,
        KeyRotateBody(tenant="acme", key=NAME, reason=Reason.COMPROMISE),
    ),
    "rotate pre-active": (Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key=NAME, pre_active=True)),
    "disable": (Operation.KEY_DISABLE, KeyDisableBody(tenant="acme", key=NAME)),
    "enable": (Operation.KEY_ENABLE, KeyEnableBody(tenant="acme", key=NAME, revision=1)),
    "show": (Operation.KEY_SHOW, KeyShowBody(tenant="acme", key=NAME)),
    "list": (Operation.KEY_LIST, KeyListBody(tenant="acme")),
    "import": (
        Operation.KEY_IMPORT,
        KeyImportBody(
            tenant="acme",
            key="acme",
            parameters=OFFER.id,
            algorithm=OFFER.algorithm,
            blob=bytes(OFFER.algorithm.blob_bytes(OFFER.bits)),
            check_value="000000",
            version=1,
        ),
    ),
    "import parameters": (Operation.KEY_IMPORT_PARAMETERS, KeyImportParametersBody(tenant="acme", key="acme")),
    "create below": (Operation.KEY_CREATE, KeyCreateBody(tenant="acme", parent=ABOVE, alias="acme/eu/new")),
    "rotate below": (Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key=NAME)),
}
DATA = {Operation.WRAP, Operation.UNWRAP, Operation.REWRAP}


def read(table: str) -> dict[tuple[str, State], str]:
    """The cells of a table above."""
    found: dict[tuple[str, State], str] = {}
    for line in table.strip("\n").splitlines()[1:]:
        cells = line[21:].split()
        assert len(cells) == len(STATES), line
        found |= {(line[:21].strip(), state): cell for state, cell in zip(STATES, cells, strict=True)}
    return found


def cases(table: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return pytest.mark.parametrize(
        ("operation", "state", "expected"), [(*place, cell) for place, cell in read(table).items()]
    )


def in_state(state: State) -> World:
    world = World(limits=Limits(recoverable_ms=1))
    version = replace(world.version(PAYMENTS), state=state)
    if state is State.DESTROY_SCHEDULED:
        version = replace(version, due_ms=NOW + 1, prior=State.COMPROMISED)
    world.put(version)
    return world


def outcome(world: World, operation: str) -> str:
    """What became of it, in the words of the tables."""
    asked, body = ASKED[operation]
    request = world.request(asked, body, "billing" if asked in DATA else "ann")
    plan = world.decide(request)
    assert isinstance(plan, Plan), plan
    (step,) = plan.steps
    waits = isinstance(step, Commanding) and step.event == "keyriver.approval.requested.v1"
    return words(world.approved(request) if waits else world.run(request), asked)


def words(done: Conclusion, asked: Operation) -> str:
    (found,) = done.outcomes
    if isinstance(found, Failed):
        return "-" if found.code is Code.KEY_STATE else found.code.value
    if isinstance(found, Unwrapped):
        return "ok+" if found.blob else "ok"
    if isinstance(found, Rewrapped):
        return "same" if found.unchanged else "ok"
    if asked in DATA:
        return "ok"
    rows = [effect.row for effect in done.settlement.effects if isinstance(effect, PutRow)]
    return next((row.state.value for row in rows if isinstance(row, Version) and row.number == 1), "same")


@cases(ITSELF)
def test_a_version_itself(operation: str, state: State, expected: str) -> None:
    assert outcome(in_state(state), operation) == expected


@cases(OLDER)
def test_a_version_that_a_newer_one_replaced(operation: str, state: State, expected: str) -> None:
    world = in_state(state)
    kept = world.version(PAYMENTS)
    world.rotate(PAYMENTS)
    world.put(kept)
    assert outcome(world, operation) == expected


@cases(ANCESTOR)
def test_a_version_above(operation: str, state: State, expected: str) -> None:
    world = World()
    world.set_state(EU, state)
    found = outcome(world, operation)
    assert ("ok" if operation.endswith("below") and found in {"active", "deactivated"} else found) == expected


@cases(ABSENT)
def test_a_version_without_its_material(operation: str, state: State, expected: str) -> None:
    world = World()
    deleted = replace(world.version(ROOT), material=None, absent=True, canary=b"canary", state=state)
    world.put(replace(world.key(ROOT), origin=Origin.IMPORTED), deleted, OFFER)
    assert outcome(world, operation) == expected


@cases(CAMPAIGNS)
def test_campaigns(operation: str, state: State, expected: str) -> None:
    assert allows(state, USES[operation], Who.CAMPAIGN) is (expected == "ok")


@pytest.mark.parametrize("key", [PAYMENTS, EU], ids=["itself", "above"])
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("operation", ["wrap", "unwrap", "unwrap with rewrap", "rewrap", "rotate"])
def test_under_a_key_that_is_off_nothing_works_whatever_the_state(operation: str, state: State, key: object) -> None:
    world = in_state(state)
    world.disable(key)  # type: ignore[arg-type]
    found = outcome(world, operation)
    by_state = state not in {State.ACTIVE, State.SUSPENDED, State.DEACTIVATED}
    assert found == "KEY_DISABLED" or (found == "-" and key is EU and (by_state or operation in {"wrap", "rewrap"}))


@pytest.mark.parametrize("state", STATES)
def test_a_switch_that_is_on_is_not_lifted_whatever_the_state(state: State) -> None:
    assert outcome(in_state(state), "enable") == "CONFLICT"


def test_no_operation_and_no_state_is_left_out() -> None:
    assert set(STATES) == set(State)
    assert set(USES.values()) == set(Use)
    on_keys = {one for one in Operation if one.value.startswith("key.")} | DATA
    assert {operation for operation, _ in ASKED.values()} == on_keys
    tested = {operation for table in (ITSELF, OLDER, ANCESTOR, ABSENT) for operation, _ in read(table)}
    assert tested | {"enable"} == set(ASKED)
