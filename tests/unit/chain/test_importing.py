"""Bringing a key: what each step writes, and what is refused before the token decrypts anything."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from tests.unit.chain.imports import (
    ASK,
    BLOB,
    PARAMETERS,
    WAY,
    asked,
    code,
    done,
    expired,
    facts,
    leaf,
    order,
    parameters,
    row_of,
    waiting,
)
from tests.unit.chain.orders import puts, result
from tests.unit.chain.world import BOLT_ROOT, EU, NOW, ROOT, World, uid, version_ref
from worker.model.bodies import TenantCreateBody
from worker.model.codes import Code
from worker.model.hsm import Fault, HsmFault
from worker.model.import_ops import CreateImportPair, ImportMaster
from worker.model.imported import ImportParametersResult
from worker.model.importing import KeyImportParametersBody
from worker.model.imports import Import, ImportAlgorithm, ImportState
from worker.model.operations import Operation
from worker.model.outcomes import Failed
from worker.model.replies import KeyResult
from worker.model.rows import Key, Origin, RowRef, State, Table, Tenant, Version

# A tenant that brings its key.


def test_a_tenant_may_wait_for_its_key() -> None:
    world = World()
    body = TenantCreateBody(tenant="nord", origin=Origin.IMPORTED)
    concluded = world.run(world.request(Operation.TENANT_CREATE, body, "ann"))
    assert concluded.plan.ops == []
    rows = {type(row): row for row in puts(concluded)}
    key, version = rows[Key], rows[Version]
    assert isinstance(key, Key)
    assert isinstance(version, Version)
    assert key.origin is Origin.IMPORTED
    assert (version.state, version.material, version.absent) == (State.PRE_ACTIVE, None, True)


# Parameters.


def test_parameters_name_a_pair_of_their_own_that_the_token_and_the_fleet_fill_in() -> None:
    world = waiting()
    concluded = done(world, ASK)
    (row,) = puts(concluded)
    assert isinstance(row, Import)
    (op,) = concluded.plan.ops
    assert op == CreateImportPair(row.material or UUID(int=0), WAY, 3072)
    assert (row.public_key, row.serial, row.state, row.failures) == (b"public", "token-9", ImportState.OPEN, 0)
    assert (row.tenant, row.key, row.expires_ms - NOW) == ("acme", ROOT, 24 * 3_600_000)
    told = result(concluded)
    assert isinstance(told, ImportParametersResult)
    assert (told.parameters, told.public_key, told.fleet) == (row.id, b"public", "dev-test")
    assert (told.serial, told.signature, told.expires_ms) == ("token-9", b"s" * 64, row.expires_ms)
    ((event, said),) = facts(concluded)
    assert (event, said["parameters"], said["state"]) == ("keyriver.import.offered.v1", str(row.id), "open")
    assert leaf(concluded)["told"] == said


def test_sent_again_at_another_time_it_asks_for_the_same_pair() -> None:
    world = waiting()
    first = world.plan(asked(world, ASK)).ops
    later = replace(asked(world, ASK), time_ms=NOW + 5)
    assert world.plan(later).ops == first
    assert world.plan(asked(world, ASK, "r2")).ops != first


def test_a_pair_that_is_being_made_leaves_no_row() -> None:
    concluded = done(waiting(), ASK, HsmFault(Fault.UNAVAILABLE))
    assert concluded.outcomes == (Failed(Code.DEFERRED),)
    assert (puts(concluded), facts(concluded), "told" in leaf(concluded)) == ([], [], False)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (KeyImportParametersBody(tenant="acme", key="acme/eu"), Code.WRONG_LAYER),
        (KeyImportParametersBody(tenant="acme", key="acme/x"), Code.NOT_FOUND),
        (KeyImportParametersBody(tenant="acme", key=str(BOLT_ROOT)), Code.NOT_FOUND),
        (
            KeyImportParametersBody(tenant="acme", key="acme", algorithm=ImportAlgorithm.RSAES_OAEP_SHA_1),
            Code.IMPORT_ALGORITHM,
        ),
    ],
)
def test_parameters_are_refused(body: KeyImportParametersBody, expected: Code) -> None:
    assert code(waiting(), body) is expected


def test_a_setting_allows_sha_1_by_name() -> None:
    world = waiting()
    world.limits = replace(world.limits, import_algorithms=frozenset({ImportAlgorithm.RSAES_OAEP_SHA_1}))
    body = KeyImportParametersBody(tenant="acme", key="acme", algorithm=ImportAlgorithm.RSAES_OAEP_SHA_1)
    assert puts(done(world, body))
    assert code(world, ASK) is Code.IMPORT_ALGORITHM


def test_neither_works_while_something_is_off_or_outside() -> None:
    for body in (ASK, order()):
        off, tenant, outside, lost = waiting(), waiting(), waiting(), waiting()
        off.disable(ROOT)
        assert code(off, body) is Code.KEY_DISABLED
        tenant.put(replace(tenant.tenant(), enabled=False))
        assert code(tenant, body) is Code.KEY_DISABLED
        outside.put(replace(outside.key(ROOT), origin=Origin.EXTERNAL))
        assert code(outside, body) is Code.LINKED
        lost.tamper(RowRef(Tenant.TABLE, "acme"))
        assert code(lost, body) is Code.INTEGRITY


# Imports.


def test_the_first_import_brings_the_version_to_life() -> None:
    world = waiting()
    concluded = done(world, order(not_after_ms=NOW + 9))
    (op,) = concluded.plan.ops
    version = world.version(ROOT)
    assert isinstance(op, ImportMaster)
    assert (op.key, op.version, op.material, op.canary) == (ROOT, 1, version.material, b"")
    assert (op.pair, op.public_key, op.algorithm, op.blob) == (uid(701), b"pub", WAY, BLOB)
    assert (op.check_value, op.serial) == (b"\xa1\xb2\xc3", "token-1")
    assert (version.state, version.absent, version.not_after_ms) == (State.ACTIVE, False, NOW + 9)
    assert (version.serial, version.canary, version.revision) == ("token-9", b"canary", 2)
    assert (row_of(world).state, row_of(world).failures) == (ImportState.USED, 0)
    assert set(concluded.settlement.changes) == {RowRef(Table.IMPORTS, str(PARAMETERS)), version_ref(ROOT)}
    ((event, said),) = facts(concluded)
    assert (event, said["was"], said["now"]) == (
        "keyriver.key.imported.v1",
        "pre-active, without material",
        "active",
    )
    assert leaf(concluded)["told"] == said
    assert (leaf(concluded)["key"], leaf(concluded)["version"]) == (str(ROOT), 1)
    told = result(concluded)
    assert isinstance(told, KeyResult)
    assert [(one.absent, one.not_after_ms) for one in told.key.versions] == [(None, NOW + 9)]


def test_its_label_is_that_of_this_very_request() -> None:
    world = waiting()
    (first,) = world.plan(asked(world, order())).ops
    (again,) = world.plan(replace(asked(world, order()), time_ms=NOW + 5)).ops
    (other,) = world.plan(asked(world, order(blob=b"c" * len(BLOB)))).ops
    assert isinstance(first, ImportMaster)
    assert isinstance(other, ImportMaster)
    assert again == first
    assert other.material != first.material


@pytest.mark.parametrize("state", [State.ACTIVE, State.SUSPENDED, State.DEACTIVATED, State.COMPROMISED])
def test_a_later_import_leaves_the_state_as_it_is_and_must_be_the_same(state: State) -> None:
    world = expired()
    world.put(replace(world.version(ROOT), state=state))
    concluded = done(world, order(version=1))
    (op,) = concluded.plan.ops
    assert isinstance(op, ImportMaster)
    assert op.canary == b"canary-of-old"
    version = world.version(ROOT)
    assert (version.state, version.absent, version.not_after_ms) == (state, False, 0)
    assert version.canary == b"canary-of-old"


def test_the_parameters_are_looked_at_first() -> None:
    for changes, expected in (
        ({"state": ImportState.USED}, Code.IMPORT_USED),
        ({"state": ImportState.BURNED}, Code.IMPORT_BURNED),
        ({"state": ImportState.EXPIRED}, Code.IMPORT_EXPIRED),
        ({"expires_ms": NOW}, Code.IMPORT_EXPIRED),
        ({"tenant": "bolt"}, Code.NOT_FOUND),
        ({"key": EU}, Code.NOT_FOUND),
        ({"material": None}, Code.INTEGRITY),
    ):
        world = waiting()
        world.put(parameters(**changes))
        assert code(world, order()) is expected
    world = waiting()
    world.tamper(RowRef(Table.IMPORTS, str(PARAMETERS)))
    assert code(world, order()) is Code.INTEGRITY
    assert code(World(), order()) is Code.NOT_FOUND


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"algorithm": ImportAlgorithm.RSAES_OAEP_SHA_256}, Code.IMPORT_ALGORITHM),
        ({"blob": BLOB[:-1]}, Code.IMPORT_LENGTH),
        ({"blob": BLOB + b"b"}, Code.IMPORT_LENGTH),
        ({"blob": b""}, Code.IMPORT_LENGTH),
        ({"not_after_ms": NOW}, Code.MALFORMED),
        ({"version": 2}, Code.NOT_FOUND),
        ({"rotate": True, "version": 1}, Code.MALFORMED),
        ({"key": "acme/eu"}, Code.WRONG_LAYER),
    ],
)
def test_exact_refusals_before_anything_is_decrypted(changes: dict[str, Any], expected: Code) -> None:
    world = waiting()
    concluded = world.run(asked(world, order(**changes)))
    assert concluded.outcomes == (Failed(expected),)
    assert (concluded.plan.ops, puts(concluded)) == ([], []), "nothing reaches the token, and nothing is counted"


def test_an_algorithm_that_is_no_longer_allowed() -> None:
    world = waiting()
    world.limits = replace(world.limits, import_algorithms=frozenset())
    assert code(world, order()) is Code.IMPORT_ALGORITHM


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"state": State.DESTROYED}, Code.KEY_STATE),
        ({"state": State.DESTROY_SCHEDULED, "canary": b"c"}, Code.KEY_STATE),
        ({"state": State.COMPROMISED}, Code.KEY_STATE),
        ({"state": State.ACTIVE, "canary": b"c", "absent": False}, Code.EXISTS),
        ({"state": State.ACTIVE, "canary": b"c", "material": uid(9)}, Code.EXISTS),
        ({"absent": False}, Code.EXISTS),
    ],
)
def test_versions_that_take_no_material(changes: dict[str, Any], expected: Code) -> None:
    assert code(waiting(**changes), order()) is expected


def test_a_first_import_only_fills_the_active_version() -> None:
    world = waiting()
    world.put(replace(world.key(ROOT), active_version=2, latest_version=2))
    assert code(world, order(version=1)) is Code.KEY_STATE
    assert code(world, order()) is Code.INTEGRITY, "a version that is counted and not there"
    world.tampered.add(version_ref(ROOT, 3))
    assert code(world, order(version=3)) is Code.INTEGRITY
