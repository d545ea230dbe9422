"""Commands of an officer in the small world: asked, carried out, and what they wrote."""

from tests.unit.chain.world import (
    World,
)
from worker.chain.plan import Conclusion
from worker.chain.work import Commanding
from worker.model.bodies import AnyBody, KeyCreateBody, KeyListBody, KeyRotateBody, KeyShowBody, TenantCreateBody
from worker.model.codes import Code
from worker.model.effects import PutRow
from worker.model.operations import Operation
from worker.model.outcomes import Commanded, Failed
from worker.model.requests import Request
from worker.model.rows import Client, Row, RowRef, Suite, Tenant

ANN = RowRef(Client.TABLE, "ann")
TENANT = RowRef(Tenant.TABLE, "acme")
NEW = TenantCreateBody(tenant="nord", layers=2, minimum_suite=Suite.X25519)
CREATE = KeyCreateBody(tenant="acme", parent="acme/eu", alias="acme/eu/new")
OPERATIONS: dict[type[AnyBody], Operation] = {
    TenantCreateBody: Operation.TENANT_CREATE,
    KeyCreateBody: Operation.KEY_CREATE,
    KeyRotateBody: Operation.KEY_ROTATE,
    KeyShowBody: Operation.KEY_SHOW,
    KeyListBody: Operation.KEY_LIST,
}


def ask(world: World, body: AnyBody, id_: str = "r1") -> Request:
    return world.request(OPERATIONS[type(body)], body, "ann", id_)


def code(world: World, body: AnyBody) -> Code:
    (step,) = world.plan(ask(world, body)).steps
    assert isinstance(step, Failed), step
    return step.code


def step_of(world: World, body: AnyBody) -> Commanding:
    (step,) = world.plan(ask(world, body)).steps
    assert isinstance(step, Commanding), step
    return step


def done(world: World, body: AnyBody, id_: str = "r1") -> Conclusion:
    """Carry it out and write its rows."""
    concluded = world.run(ask(world, body, id_))
    world.put(*puts(concluded))
    return concluded


def puts(concluded: Conclusion) -> list[Row]:
    return [effect.row for effect in concluded.settlement.effects if isinstance(effect, PutRow)]


def result(concluded: Conclusion) -> object:
    (outcome,) = concluded.outcomes
    assert isinstance(outcome, Commanded), outcome
    return outcome.result


def replace_body(body: KeyCreateBody, **changes: str) -> KeyCreateBody:
    return KeyCreateBody.model_validate(body.model_dump() | changes)
