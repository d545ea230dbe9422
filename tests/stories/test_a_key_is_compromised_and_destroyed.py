"""Compromise of a layer 3 key with emergency rotation; destruction by two officers, voided when the key has moved."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest

from tests.fleet import Fleet, House
from tests.stack import Services
from worker.client import ItemError, Pending, RequestRefused, Unwrapped, WrappedDek
from worker.local import softhsm
from worker.model.bodies import DekItem, KeyRotateBody, KeyShowBody
from worker.model.control import KeyActivateBody, KeyCancelDestroyBody, KeyDeactivateBody, KeyDestroyBody
from worker.model.fields import Reason
from worker.model.operations import Operation
from worker.model.replies import DestroyResult, KeyResult
from worker.model.rows import ApprovalState, State

WAIT_S = 60.0


@pytest.fixture(scope="module")
async def quick(stack: Services, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A development fleet whose destructions have no grace to speak of."""
    folder = tmp_path_factory.mktemp("quick")
    settings = {"destroy_grace_s": 0, "recoverable_days": 30}
    async with Fleet.founded(stack, folder, softhsm.token(folder / "token"), **settings) as founded:
        founded.start()
        await founded.at_work(1)
        yield founded


async def shown(fleet: Fleet, tenant: str, key: str) -> dict[int, State]:
    result = await fleet.command(Operation.KEY_SHOW, KeyShowBody(tenant=tenant, key=key))
    assert isinstance(result, KeyResult)
    return {version.number: version.state for version in result.key.versions}


async def until(fleet: Fleet, tenant: str, key: str, wanted: dict[int, State]) -> None:
    deadline = time.monotonic() + WAIT_S
    while (found := await shown(fleet, tenant, key)) != wanted:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)


async def told(fleet: Fleet, tenant: str) -> list[str]:
    rows = await fleet.pool.fetch("SELECT type FROM keyriver.outbox WHERE tenant = $1 ORDER BY number", tenant)
    return [row["type"] for row in rows]


async def test_a_compromise_is_refused_at_once_and_the_key_goes_on(quick: Fleet) -> None:
    # Given a DEK under version 1
    house = await quick.tenant()
    (old,) = await house.client.generate(house.key)
    assert isinstance(old, WrappedDek)
    # When an officer rotates in an emergency
    body = KeyRotateBody(tenant=house.tenant, key=house.key, reason=Reason.COMPROMISE, why="seen in a log")
    await quick.command(Operation.KEY_ROTATE, body)
    assert await shown(quick, house.tenant, house.key) == {1: State.COMPROMISED, 2: State.ACTIVE}
    # Then what it wrapped is refused, and new DEKs are made under version 2
    (refused,) = await house.client.unwrap([DekItem(id=old.id)])
    assert isinstance(refused, ItemError)
    assert refused.code == "KEY_STATE"
    (new,) = await house.client.generate(house.key)
    assert isinstance(new, WrappedDek)
    assert new.version == 2
    assert isinstance((await house.client.unwrap([DekItem(id=new.id)]))[0], Unwrapped)
    # and it is not destroyed while a row needs it
    with pytest.raises(RequestRefused, match="STILL_NEEDED"):
        await quick.command(Operation.KEY_DESTROY, KeyDestroyBody(tenant=house.tenant, key=house.key, version=1))
    facts = await quick.pool.fetch(
        "SELECT body FROM keyriver.outbox WHERE tenant = $1 AND type = 'keyriver.key.compromised.v1'", house.tenant
    )
    (fact,) = [json.loads(row["body"]) for row in facts]
    assert (fact["who"], fact["why"], fact["reason"]) == ("alice", "seen in a log", "compromise")


async def test_a_destruction_of_two_officers(quick: Fleet) -> None:
    house = await quick.tenant()
    await quick.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.key))
    destroy = KeyDestroyBody(tenant=house.tenant, key=house.key, version=1, grace_s=3600)
    # Given a destruction that waits, when the version moves meanwhile, then it is void
    with pytest.raises(Pending) as first:
        await (await quick.officer()).command(Operation.KEY_DESTROY, destroy)
    result = await quick.command(Operation.KEY_DESTROY, destroy)
    assert isinstance(result, DestroyResult)
    assert result.destruction.recoverable_until_ms - result.destruction.due_ms == 30 * 24 * 3_600_000
    assert (await quick.approve(first.value.approval)).approval.state is ApprovalState.VOIDED
    # It can be called off by two, and scheduled again
    cancel = KeyCancelDestroyBody(tenant=house.tenant, key=house.key, version=1)
    await quick.command(Operation.KEY_CANCEL_DESTROY, cancel)
    assert await shown(quick, house.tenant, house.key) == {1: State.DEACTIVATED, 2: State.ACTIVE}
    # and is carried out when it is due
    await quick.command(Operation.KEY_DESTROY, destroy.model_copy(update={"grace_s": None}))
    await until(quick, house.tenant, house.key, {1: State.DESTROYED, 2: State.ACTIVE})
    row = await quick.pool.fetchrow(
        "SELECT v.wrapped FROM keyriver.versions AS v JOIN keyriver.aliases AS a ON a.key = v.key "
        "WHERE a.name = $1 AND v.number = 1",
        house.key,
    )
    assert row is not None
    assert row["wrapped"] == b""
    assert (await told(quick, house.tenant)).count("keyriver.key.destroyed.v1") == 1


async def test_a_layer_1_version_goes_from_the_token(quick: Fleet) -> None:
    house = await quick.tenant()
    await quick.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.tenant))
    await quick.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.upper))
    # L2's version 1 still stands under L1's version 1, and L3's under L2's
    destroy = KeyDestroyBody(tenant=house.tenant, key=house.tenant, version=1)
    with pytest.raises(RequestRefused, match="STILL_NEEDED"):
        await quick.command(Operation.KEY_DESTROY, destroy)
    forced = destroy.model_copy(update={"force": house.tenant})
    await quick.command(Operation.KEY_DESTROY, forced)
    await until(quick, house.tenant, house.tenant, {1: State.DESTROYED, 2: State.ACTIVE})
    deadline = time.monotonic() + WAIT_S
    while "keyriver.key.destroyed.v1" not in await told(quick, house.tenant):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    # What hung on it is gone; what hangs on version 2 works
    (refused,) = await house.client.generate(house.key)
    assert isinstance(refused, ItemError)
    await quick.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.key))
    assert isinstance((await house.client.generate(house.key))[0], WrappedDek)


async def test_an_activation_at_a_time(quick: Fleet) -> None:
    house: House = await quick.tenant()
    await quick.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.key, pre_active=True))
    later = KeyActivateBody(tenant=house.tenant, key=house.key, at_ms=time.time_ns() // 1_000_000 + 3_600_000)
    await quick.command(Operation.KEY_ACTIVATE, later)
    assert await shown(quick, house.tenant, house.key) == {1: State.ACTIVE, 2: State.PRE_ACTIVE}
    at_ms = time.time_ns() // 1_000_000 + 1500
    await quick.command(Operation.KEY_ACTIVATE, later.model_copy(update={"at_ms": at_ms}))
    await until(quick, house.tenant, house.key, {1: State.DEACTIVATED, 2: State.ACTIVE})
    assert time.time_ns() // 1_000_000 >= at_ms


async def test_without_a_word_on_backups_nothing_is_destroyed(fleet: Fleet, house: House) -> None:
    await fleet.command(Operation.KEY_DEACTIVATE, KeyDeactivateBody(tenant=house.tenant, key=house.key))
    with pytest.raises(RequestRefused, match="recoverable_days"):
        await fleet.command(Operation.KEY_DESTROY, KeyDestroyBody(tenant=house.tenant, key=house.key, version=1))
