"""A dump of the database from before a change, put back row by row, is refused (S7): each row's own MAC still holds.

The worker needs a moment to read what was told of a change; from then on no row of before is believed, by no worker.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from uuid import UUID

import pytest

from tests.fleet import Fleet, House
from tests.hostile.rollback import Rollback
from tests.processes import POLL_S
from tests.scribe import Draft, Scribe
from worker.client.errors import ClientError, Pending, RequestRefused
from worker.client.results import ItemError, WrappedDek
from worker.model.bodies import (
    ClientAddBody,
    ClientRevokeBody,
    DekItem,
    KeyCreateBody,
    KeyRotateBody,
    WrapBody,
    WrapItem,
)
from worker.model.control import (
    ApprovalApproveBody,
    ApprovalRejectBody,
    KeyCompromiseBody,
    KeyDisableBody,
    KeyEnableBody,
)
from worker.model.fleet import FleetKeyResult, FleetKind, FleetRotateBody, FleetShowBody
from worker.model.operations import Operation, Permission
from worker.model.policies import PolicyCheckBody
from worker.model.replies import ApprovalView, DisableResult
from worker.model.words import RowRef, Table
from worker.seal.identity import generate_private_key_pem

WAIT_S = 60.0
Ask = Callable[[], Awaitable[str]]


async def until_refused(ask: Ask, what: object) -> None:
    """INTEGRITY, as soon as the worker has read what was told."""
    deadline = time.monotonic() + WAIT_S
    while (code := await ask()) != "INTEGRITY":
        assert time.monotonic() < deadline, f"{what}: {code or 'served'}"
        await asyncio.sleep(POLL_S)


class Victim:
    """A tenant whose keys, clients and approvals were changed after the dump."""

    def __init__(self, fleet: Fleet, house: House) -> None:
        self.fleet, self.house = fleet, house
        self.second, self.branch = f"{house.upper}/second", f"{house.tenant}/us"
        self.approval: ApprovalView
        self.dek: WrappedDek
        self.other: WrappedDek
        self.new = ""

    async def before(self) -> None:
        """What stands there when the dump is made."""
        tenant, command = self.house.tenant, self.fleet.command
        await command(Operation.KEY_CREATE, KeyCreateBody(tenant=tenant, parent=self.house.upper, alias=self.second))
        await command(Operation.KEY_CREATE, KeyCreateBody(tenant=tenant, parent=tenant, alias=self.branch))
        self.service = await self.fleet.service(tenant)
        made = [(await self.house.client.generate(key))[0] for key in (self.house.key, self.second)]
        self.dek, self.other = (one for one in made if isinstance(one, WrappedDek))
        with pytest.raises(Pending) as told:
            await (await self.fleet.officer()).command(Operation.CLIENT_ADD, self._another("waiting"))
        self.approval = told.value.approval

    async def after(self) -> None:
        """Every kind of change: rotate, compromise, disable, enable, revoke, reject, and rows that are new."""
        tenant, command = self.house.tenant, self.fleet.command
        await command(Operation.KEY_ROTATE, KeyRotateBody(tenant=tenant, key=self.house.key))
        await command(Operation.KEY_COMPROMISE, KeyCompromiseBody(tenant=tenant, key=self.second))
        off = await command(Operation.KEY_DISABLE, KeyDisableBody(tenant=tenant, key=self.house.upper))
        assert isinstance(off, DisableResult)
        assert off.key.disabled_revision is not None
        enabling = KeyEnableBody(tenant=tenant, key=self.house.upper, revision=off.key.disabled_revision)
        await command(Operation.KEY_ENABLE, enabling)
        await command(Operation.KEY_DISABLE, KeyDisableBody(tenant=tenant, key=self.branch))
        await command(Operation.CLIENT_REVOKE, ClientRevokeBody(tenant=tenant, client=self.service.client))
        await command(Operation.APPROVAL_REJECT, ApprovalRejectBody(tenant=tenant, approval=self.approval.id))
        self.new = (await self.fleet.service(tenant)).client

    def _another(self, name: str) -> ClientAddBody:
        signer = replace(self.house.identity, private_key=generate_private_key_pem(self.house.identity.algorithm))
        return ClientAddBody(
            tenant=self.house.tenant,
            client=f"{self.house.tenant}-{name}",
            public_key=signer.signer().public_key,
            permissions=[],
            reply_topics=[self.house.identity.reply_topic],
            not_after_ms=2**52,
        )

    def question(self, ref: RowRef) -> Ask:
        """Something that rests on this row, and changes nothing."""
        match ref.table:
            case Table.CLIENTS:
                checking = PolicyCheckBody(
                    tenant=self.house.tenant, client=ref.key, permission=Permission.UNWRAP, key=self.house.key
                )
                return lambda: self.command(Operation.POLICY_CHECK, checking)
            case Table.APPROVALS:
                approving = ApprovalApproveBody(tenant=self.house.tenant, approval=UUID(ref.key), digest=b"another")
                return lambda: self.command(Operation.APPROVAL_APPROVE, approving)
            case Table.VERSIONS:
                old = {f"{dek.key}/{dek.version}": dek for dek in (self.dek, self.other)}
                return (lambda: self.unwrap(old[ref.key])) if ref.key in old else (lambda: _code(self.house))
            case _:
                body = KeyDisableBody(tenant=self.house.tenant, key=ref.key, dry_run=True)
                return lambda: self.command(Operation.KEY_DISABLE, body)

    async def unwrap(self, dek: WrappedDek) -> str:
        """A DEK from before."""
        assert dek.id is not None
        (back,) = await self.house.client.unwrap([DekItem(id=dek.id)])
        return back.code if isinstance(back, ItemError) else ""

    async def command(self, operation: Operation, body: object) -> str:
        try:
            await (await self.fleet.officer()).command(operation, body)  # type: ignore[arg-type]
        except RequestRefused as refused:
            return refused.code
        except (ClientError, Pending) as other:
            return type(other).__name__
        return ""


async def test_a_dump_from_before_replayed_row_by_row_is_refused(fleet: Fleet, house: House) -> None:
    # Given a dump of everything, and then changes of every kind
    victim = Victim(fleet, house)
    await victim.before()
    rollback = await Rollback.begin(fleet.pool)
    await victim.after()
    mine = [ref for ref in await rollback.changed() if await _is_of(fleet, ref, victim)]
    assert {ref.table for ref in mine} >= {Table.KEYS, Table.VERSIONS, Table.CLIENTS, Table.APPROVALS}
    # When its rows are put back one by one, Then what rests on each is refused, and nothing else
    for ref in mine:
        async with rollback.put_back(ref):
            await until_refused(victim.question(ref), ref)
        assert await _code(victim.house) == "", ref
    # And each of them stands in the fleet's own audit log
    deadline = time.monotonic() + WAIT_S
    while not {f"{ref.table}/{ref.key}" for ref in mine} <= await _written(fleet):
        assert time.monotonic() < deadline
        await asyncio.sleep(POLL_S)
    # And so it is by a worker that was not there when they changed
    for member in fleet.members:
        await member.terminated()
    fleet.members.clear()
    async with rollback.put_back(RowRef(Table.VERSIONS, f"{victim.dek.key}/1")):
        fleet.start()
        await fleet.at_work(1)
        assert await victim.unwrap(victim.dek) == "INTEGRITY"
    assert await victim.unwrap(victim.dek) == ""


async def test_a_revoked_client_whose_row_is_put_back_is_not_heard(fleet: Fleet, house: House) -> None:
    identity = await fleet.service(house.tenant)
    assert not isinstance((await (await fleet.client(identity)).generate(house.key))[0], ItemError)
    rollback = await Rollback.begin(fleet.pool)
    await fleet.command(Operation.CLIENT_REVOKE, ClientRevokeBody(tenant=house.tenant, client=identity.client))
    deadline = time.monotonic() + WAIT_S
    async with rollback.put_back(RowRef(Table.CLIENTS, identity.client)), Scribe(fleet, identity) as scribe:
        body = WrapBody(key=house.key, items=[WrapItem()]).model_dump_json().encode()
        while await is_heard(fleet, scribe, scribe.draft(Operation.WRAP, body)):
            assert time.monotonic() < deadline
    assert await _code(house) == ""


async def is_heard(fleet: Fleet, scribe: Scribe, draft: Draft) -> bool:
    """Whether it was served, once the fleet has done with it."""
    await scribe.send(draft)
    await fleet.caught_up()
    answers = await scribe.so_far(draft.id)
    return any(not answer.code for answer in answers)


async def test_a_rotation_of_a_fleet_key_is_not_undone(fleet: Fleet, house: House) -> None:
    """Its row put back, or taken away, is noticed by whoever looks; and no version that was in use is made anew."""
    before = await Rollback.begin(fleet.pool)
    rotating = FleetRotateBody(kind=FleetKind.INTAKE_WRAP)
    assert isinstance(await fleet.command(Operation.FLEET_ROTATE, rotating), FleetKeyResult)
    between = await Rollback.begin(fleet.pool)
    assert isinstance(await fleet.command(Operation.FLEET_ROTATE, rotating), FleetKeyResult)
    victim = Victim(fleet, house)
    second = RowRef(Table.FLEET_KEYS, "intake-wrap/2")
    async with between.put_back(second):
        await until_refused(lambda: victim.command(Operation.FLEET_SHOW, FleetShowBody()), second)
    third = RowRef(Table.FLEET_KEYS, "intake-wrap/3")
    async with before.put_back(third):
        await until_refused(lambda: victim.command(Operation.FLEET_SHOW, FleetShowBody()), third)
    assert await victim.command(Operation.FLEET_SHOW, FleetShowBody()) == ""


async def _written(fleet: Fleet) -> set[str]:
    rows = await fleet.pool.fetch("SELECT body FROM keyriver.leaves WHERE tenant = 'fleet'")
    leaves = [json.loads(row["body"]) for row in rows]
    return {leaf["request"] for leaf in leaves if leaf["type"] == "keyriver.row.reverted.v1"}


async def _is_of(fleet: Fleet, ref: RowRef, victim: Victim) -> bool:
    """Whether it is the victim's; other tests' rows may change meanwhile."""
    if ref.table is Table.CLIENTS:
        return ref.key in (victim.service.client, victim.new)
    if ref.table is Table.APPROVALS:
        return ref.key == str(victim.approval.id)
    if ref.table in (Table.KEYS, Table.VERSIONS):
        key = UUID(ref.key.partition("/")[0])
        return bool(
            await fleet.pool.fetchval(
                "SELECT count(*) FROM keyriver.keys WHERE id = $1 AND tenant = $2", key, victim.house.tenant
            )
        )
    return False


async def _code(house: House) -> str:
    (made,) = await house.client.generate(house.key)
    return made.code if isinstance(made, ItemError) else ""
