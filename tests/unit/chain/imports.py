"""Imports in the small world: parameters, orders, and what became of them."""

import json
from dataclasses import replace
from typing import Any

from tests.unit.chain.orders import puts
from tests.unit.chain.world import NOW, ROOT, World, uid
from worker.chain.conclude import conclude
from worker.chain.plan import Conclusion
from worker.model.codes import Code
from worker.model.effects import Announce, Leaf
from worker.model.hsm import Fault, HsmFault, HsmResult
from worker.model.importing import KeyImportBody, KeyImportParametersBody
from worker.model.imports import Import, ImportAlgorithm, ImportState
from worker.model.operations import Operation
from worker.model.outcomes import Failed
from worker.model.requests import Request
from worker.model.rows import Origin, RowRef, State, Table

WAY = ImportAlgorithm.RSA_AES_KEY_WRAP_SHA_256
PARAMETERS = uid(700)
BLOB = b"b" * (3072 // 8 + 40)
REFUSED = HsmFault(Fault.BAD_CIPHERTEXT)
ASK = KeyImportParametersBody(tenant="acme", key="acme")


def parameters(**changes: Any) -> Import:  # noqa: ANN401 - any column
    row = Import(PARAMETERS, "acme", ROOT, WAY, 3072, b"pub", uid(701), "token-1", NOW + 1, 0, ImportState.OPEN, 1)
    return replace(row, **changes)


def order(**changes: Any) -> KeyImportBody:  # noqa: ANN401 - any column
    words = {"tenant": "acme", "key": "acme", "parameters": PARAMETERS, "algorithm": WAY, "blob": BLOB}
    return KeyImportBody.model_validate(words | {"check_value": "a1b2c3"} | changes)


def waiting(**changes: Any) -> World:  # noqa: ANN401 - any column
    """Acme waits for its key."""
    world = World()
    awaited = replace(world.version(ROOT), state=State.PRE_ACTIVE, material=None, serial="", absent=True)
    world.put(replace(world.key(ROOT), origin=Origin.IMPORTED), replace(awaited, **changes), parameters())
    return world


def expired() -> World:
    """Acme's key was there, and its time is over."""
    return waiting(state=State.ACTIVE, canary=b"canary-of-old")


def asked(world: World, body: KeyImportBody | KeyImportParametersBody, id_: str = "r1") -> Request:
    kind = Operation.KEY_IMPORT if isinstance(body, KeyImportBody) else Operation.KEY_IMPORT_PARAMETERS
    return world.request(kind, body, "ann", id_)


def done(world: World, body: KeyImportBody | KeyImportParametersBody, *answers: HsmResult) -> Conclusion:
    """Carried out, with this answer of the token or a good one, and written."""
    plan = world.plan(asked(world, body))
    concluded = conclude(plan, answers, world.new_ids) if answers else world.run(asked(world, body))
    world.put(*puts(concluded))
    return concluded


def code(world: World, body: KeyImportBody | KeyImportParametersBody) -> Code:
    (outcome,) = world.run(asked(world, body)).outcomes
    assert isinstance(outcome, Failed), outcome
    return outcome.code


def leaf(concluded: Conclusion) -> dict[str, Any]:
    (found,) = [effect for effect in concluded.settlement.effects if isinstance(effect, Leaf)]
    read: dict[str, Any] = json.loads(found.body)
    return read


def facts(concluded: Conclusion) -> list[tuple[str, dict[str, Any]]]:
    said = [effect for effect in concluded.settlement.effects if isinstance(effect, Announce)]
    return [(one.type, json.loads(one.body)) for one in said if one.type != "keyriver.hint.v1"]


def row_of(world: World) -> Import:
    row = world.rows[RowRef(Table.IMPORTS, str(PARAMETERS))]
    assert isinstance(row, Import)
    return row
