"""Commands on the registry of signers."""

from dataclasses import replace

import pytest

from tests.unit.chain.world import NOW, World, officer, seen_of, service
from worker.chain.plan import Conclusion
from worker.chain.work import Commanding
from worker.model.bodies import (
    AnyBody,
    ClientAddBody,
    ClientListBody,
    ClientRevokeBody,
    ClientRotateBody,
    WrapBody,
    WrapItem,
)
from worker.model.codes import Code
from worker.model.effects import Announce, PutRow
from worker.model.facts import Paging
from worker.model.operations import Operation, Permission
from worker.model.outcomes import Commanded, Failed
from worker.model.replies import ApprovalResult, ClientListResult, ClientResult
from worker.model.requests import Request
from worker.model.rows import FLEET_TENANT, Algorithm, Client, Role, RowRef, Suite, Table
from worker.seal.hpke import load_keypair

POINT = load_keypair(Suite.P256, b"\x05" * 32).public
ADD = ClientAddBody(
    tenant="acme",
    client="cards",
    public_key=b"k" * 32,
    permissions=[Permission.WRAP, Permission.UNWRAP, Permission.WRAP],
    pattern="acme/eu/*",
    reply_topics=["t1", "t2", "t1"],
    not_after_ms=NOW + 5,
)
OPERATIONS: dict[type[AnyBody], Operation] = {
    ClientAddBody: Operation.CLIENT_ADD,
    ClientRotateBody: Operation.CLIENT_ROTATE,
    ClientRevokeBody: Operation.CLIENT_REVOKE,
    ClientListBody: Operation.CLIENT_LIST,
}


def ask(world: World, body: AnyBody, signer: str = "ann") -> Request:
    return world.request(OPERATIONS[type(body)], body, signer)


def code(world: World, body: AnyBody, signer: str = "ann") -> Code:
    (step,) = world.plan(ask(world, body, signer)).steps
    assert isinstance(step, Failed), step
    return step.code


def put(concluded: Conclusion) -> Client:
    """The client's row that is written, whatever approval is written with it."""
    rows = [effect.row for effect in concluded.settlement.effects if isinstance(effect, PutRow)]
    (row,) = [row for row in rows if isinstance(row, Client)]
    return row


def add(**changes: object) -> ClientAddBody:
    return ClientAddBody.model_validate(ADD.model_dump() | changes)


def test_a_service_is_registered_by_two_officers() -> None:
    world = World()
    concluded = world.approved(ask(world, ADD))
    row = put(concluded)
    assert row == Client(
        id="cards",
        tenant="acme",
        role=Role.SERVICE,
        algorithm=Algorithm.ED25519,
        public_key=b"k" * 32,
        permissions=("wrap", "unwrap"),
        pattern="acme/eu/*",
        reply_topics=("t1", "t2"),
        recipient_suite=None,
        recipient_key=b"",
        not_after_ms=NOW + 5,
        revoked=False,
        enrolled_by="ann+ben",
        revision=1,
    )
    (outcome,) = concluded.outcomes
    assert isinstance(outcome, Commanded)
    assert isinstance(outcome.result, ApprovalResult)
    assert isinstance(outcome.result.result, ClientResult)
    assert outcome.result.result.client.permissions == ["wrap", "unwrap"]
    assert not {"public_key", "recipient_key"} & outcome.result.result.client.model_dump().keys()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tenant": "fleet"}, Code.MALFORMED),  # an officer has no permissions
        ({"tenant": "nord"}, Code.NOT_FOUND),
        ({"client": "billing"}, Code.EXISTS),
        ({"client": "ledger"}, Code.EXISTS),  # ids are the fleet's, not the tenant's
        ({"client": "ann"}, Code.EXISTS),
        ({"public_key": b"k" * 31}, Code.MALFORMED),
        ({"public_key": b"k" * 65}, Code.MALFORMED),
        ({"algorithm": Algorithm.ES256}, Code.MALFORMED),
        ({"algorithm": Algorithm.ES256, "public_key": b"\x04" + b"k" * 64}, Code.MALFORMED),  # no point of the curve
        ({"recipient_suite": Suite.X25519}, Code.MALFORMED),
        ({"recipient_key": b"r" * 32}, Code.MALFORMED),
        ({"recipient_suite": Suite.X25519, "recipient_key": bytes(32)}, Code.MALFORMED),  # opens for anybody
        ({"recipient_suite": Suite.P256, "recipient_key": b"r" * 32}, Code.MALFORMED),
    ],
)
def test_who_can_not_be_registered(changes: dict[str, object], expected: Code) -> None:
    assert code(World(), add(**changes)) is expected


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": Algorithm.ES256, "public_key": POINT},
        {"recipient_suite": Suite.P256, "recipient_key": POINT},
        {"recipient_suite": Suite.X25519, "recipient_key": b"r" * 32},
    ],
)
def test_who_can_be_registered(changes: dict[str, object]) -> None:
    world = World()
    row = put(world.approved(ask(world, add(**changes))))
    assert {name: getattr(row, name) for name in changes} == changes


def test_a_tampered_row_takes_its_name() -> None:
    world = World()
    world.tampered.add(RowRef(Table.CLIENTS, "cards"))
    assert code(world, ADD) is Code.EXISTS


def rotate(client: str = "billing", tenant: str = "acme", key: bytes = b"n" * 32) -> ClientRotateBody:
    return ClientRotateBody(tenant=tenant, client=client, public_key=key)


def test_a_new_signing_key_and_nothing_else() -> None:
    world = World()
    before = world.client("billing")
    concluded = world.approved(ask(world, rotate()))
    assert put(concluded) == replace(before, public_key=b"n" * 32, revision=2, enrolled_by="ann+ben")
    assert before.ref in concluded.settlement.changes
    assert seen_of(world, before.ref) <= set(concluded.settlement.seen)


def test_a_rotation_to_another_algorithm() -> None:
    world = World()
    body = ClientRotateBody(tenant="acme", client="billing", algorithm=Algorithm.ES256, public_key=POINT)
    assert put(world.approved(ask(world, body))).algorithm is Algorithm.ES256
    assert code(world, rotate(key=POINT)) is Code.MALFORMED


@pytest.mark.parametrize(
    "body",
    [
        rotate("nobody"),
        rotate("ledger"),
        rotate("billing", "bolt"),
        ClientRevokeBody(tenant="acme", client="nobody"),
        ClientRevokeBody(tenant="bolt", client="billing"),
        ClientRevokeBody(tenant="acme", client="ann"),
    ],
)
def test_a_client_is_named_with_its_tenant(body: AnyBody) -> None:
    assert code(World(), body) is Code.NOT_FOUND


@pytest.mark.parametrize("body", [rotate(), ClientRevokeBody(tenant="acme", client="billing")])
def test_a_tampered_client_is_an_integrity_error(body: AnyBody) -> None:
    world = World()
    world.tamper(RowRef(Table.CLIENTS, "billing"))
    assert code(world, body) is Code.INTEGRITY


def test_an_officer_gives_himself_a_new_key_and_nobody_else_does() -> None:
    """S14: who could replace another officer's key would be two officers."""
    world = World()
    assert code(world, rotate("ben", FLEET_TENANT)) is Code.NOT_FOUND
    concluded = world.approved(ask(world, rotate("ben", FLEET_TENANT), "ben"))
    assert put(concluded) == replace(officer("ben"), public_key=b"n" * 32, revision=2, enrolled_by="ben+ann")


def test_revoking_is_one_officers_and_is_for_ever() -> None:
    world = World()
    body = ClientRevokeBody(tenant="acme", client="billing")
    concluded = world.run(ask(world, body))
    row = put(concluded)
    assert row == replace(service(), revoked=True, revision=2)
    assert concluded.settlement.changes == (row.ref,)
    world.put(row)
    again = world.run(ask(world, body))
    assert [type(effect) for effect in again.settlement.effects if isinstance(effect, PutRow | Announce)] == []
    (outcome,) = again.outcomes
    assert isinstance(outcome, Commanded)
    assert isinstance(outcome.result, ClientResult)
    assert outcome.result.client.revoked
    assert put(world.approved(ask(world, rotate()))).revoked, "a new key revives nobody"


def test_pages_of_clients() -> None:
    world = World()

    def listed(body: ClientListBody, *page: str) -> ClientListResult:
        world.client_pages = {Paging(body.tenant, body.after, body.limit + 1): page}
        (outcome,) = world.run(ask(world, body)).outcomes
        assert isinstance(outcome, Commanded)
        assert isinstance(outcome.result, ClientListResult)
        return outcome.result

    officers = listed(ClientListBody(tenant=FLEET_TENANT, limit=1), "ann", "ben")
    assert ([view.id for view in officers.clients], officers.more) == (["ann"], True)
    rest = listed(ClientListBody(tenant=FLEET_TENANT, limit=1, after="ann"), "ben")
    assert ([view.role for view in rest.clients], rest.more) == ([Role.OFFICER], False)
    assert [view.id for view in listed(ClientListBody(tenant="acme"), "billing", "gone").clients] == ["billing"]
    assert code(world, ClientListBody(tenant="nord")) is Code.NOT_FOUND


def test_a_body_that_is_no_command_is_malformed() -> None:
    world = World()
    odd = replace(ask(world, ADD), body=WrapBody(key="k", items=[WrapItem()]))
    assert world.plan(odd).steps == (Failed(Code.MALFORMED),)


def test_commands_have_no_hsm_operation() -> None:
    world = World()
    (step,) = world.plan(ask(world, ADD)).steps
    assert isinstance(step, Commanding)
    assert (step.op, step.version) == (None, None)
