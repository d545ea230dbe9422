"""Red button at layer 2: rehearsed, pressed, and lifted by two officers."""

import json

import pytest

from tests.fleet import Fleet, House
from worker.client import ItemError, Pending, RequestRefused, Unwrapped, WrappedDek
from worker.model.bodies import DekItem, KeyShowBody
from worker.model.control import KeyDisableBody, KeyEnableBody
from worker.model.operations import Operation
from worker.model.replies import ApprovalResult, DisableResult, KeyResult
from worker.model.rows import ApprovalState


async def made(house: House) -> list[DekItem]:
    found = await house.client.generate(house.key, 3)
    return [DekItem(id=one.id) for one in found if isinstance(one, WrappedDek)]


async def disabled(fleet: Fleet, house: House, key: str, *, dry_run: bool = False) -> DisableResult:
    body = KeyDisableBody(tenant=house.tenant, key=key, dry_run=dry_run, why="an intruder")
    result = await fleet.command(Operation.KEY_DISABLE, body)
    assert isinstance(result, DisableResult)
    return result


async def test_red_button_at_layer_2(fleet: Fleet, house: House) -> None:
    # Given three stored DEKs under a service key
    items = await made(house)
    # When the officer rehearses
    rehearsed = await disabled(fleet, house, house.upper, dry_run=True)
    # Then he is told what would stop and what to type, and nothing has changed
    assert [(one.layer, one.keys, one.deks) for one in rehearsed.blast.layers] == [(2, 1, 0), (3, 1, 3)]
    assert [(one.alias, one.deks) for one in rehearsed.blast.services] == [(house.key, 3)]
    assert rehearsed.press == f"keyriver key disable {house.upper} --tenant {house.tenant}"
    assert rehearsed.key.enabled
    assert all(isinstance(one, Unwrapped) for one in await house.client.unwrap(items))
    # When he presses it, then what is produced after his reply fails
    pressed = await disabled(fleet, house, house.upper)
    assert (pressed.key.enabled, pressed.blast, pressed.press) == (False, rehearsed.blast, None)
    assert [one.code for one in await house.client.unwrap(items) if isinstance(one, ItemError)] == ["KEY_DISABLED"] * 3
    # and pressing again is a disable of its own, which has to be lifted by its own revision
    again = await disabled(fleet, house, house.upper)
    assert again.key.disabled_revision == (pressed.key.disabled_revision or 0) + 1
    # When he wants it back, a second officer has to agree
    await enabled_by_two(fleet, house, again)
    assert all(isinstance(one, Unwrapped) for one in await house.client.unwrap(items))
    # and every step stands on the tenant's audit trail, the report included
    told = await told_leaves(fleet, house.tenant, "keyriver.key.disable.v1")
    assert [leaf["now"] for leaf in told] == ["disabled", "disabled"]
    assert told[0]["blast"] == pressed.blast.model_dump(mode="json")


async def enabled_by_two(fleet: Fleet, house: House, pressed: DisableResult) -> None:
    revision = pressed.key.disabled_revision or 0
    wrong = KeyEnableBody(tenant=house.tenant, key=house.upper, revision=revision + 1)
    with pytest.raises(RequestRefused, match="CONFLICT"):
        await (await fleet.officer()).command(Operation.KEY_ENABLE, wrong)
    body = KeyEnableBody(tenant=house.tenant, key=house.upper, revision=revision, why="false alarm")
    with pytest.raises(Pending) as waiting:
        await (await fleet.officer()).command(Operation.KEY_ENABLE, body)
    with pytest.raises(RequestRefused, match="SECOND_OFFICER"):
        await fleet.approve(waiting.value.approval, 0)
    forged = waiting.value.approval.model_copy(update={"digest": bytes(32)})
    with pytest.raises(RequestRefused, match="DIGEST_DIFFERS"):
        await fleet.approve(forged, 1)
    done = await fleet.approve(waiting.value.approval, 1)
    assert isinstance(done, ApprovalResult)
    assert (done.approval.state, done.approval.decided_by) == (ApprovalState.APPROVED, "bob")
    assert isinstance(done.result, KeyResult)
    assert done.result.key.enabled


async def test_a_layer_1_key_needs_two_even_to_stop_and_a_second_stop_voids_the_enable(
    fleet: Fleet, house: House
) -> None:
    body = KeyDisableBody(tenant=house.tenant, key=house.tenant)
    with pytest.raises(Pending) as waiting:
        await (await fleet.officer()).command(Operation.KEY_DISABLE, body)
    shown = await (await fleet.officer()).command(
        Operation.KEY_SHOW, KeyShowBody(tenant=house.tenant, key=house.tenant)
    )
    assert isinstance(shown, KeyResult)
    assert shown.key.enabled
    done = await fleet.approve(waiting.value.approval)
    assert isinstance(done.result, DisableResult)
    assert not done.result.key.enabled
    revision = done.result.key.disabled_revision or 0
    # Given two officers who both ask for the enable, when one is approved
    enable = KeyEnableBody(tenant=house.tenant, key=house.tenant, revision=revision)
    with pytest.raises(Pending) as first:
        await (await fleet.officer(0)).command(Operation.KEY_ENABLE, enable)
    with pytest.raises(Pending) as second:
        await (await fleet.officer(1)).command(Operation.KEY_ENABLE, enable)
    await fleet.approve(first.value.approval, 1)
    # Then the other one is void, for the key has moved since
    voided = await fleet.approve(second.value.approval, 0)
    assert (voided.approval.state, voided.result) == (ApprovalState.VOIDED, None)
    with pytest.raises(RequestRefused, match="CONFLICT"):
        await fleet.approve(second.value.approval, 0)


async def told_leaves(fleet: Fleet, tenant: str, type_: str) -> list[dict[str, object]]:
    rows = await fleet.pool.fetch("SELECT body FROM keyriver.leaves WHERE tenant = $1 ORDER BY number", tenant)
    leaves = [json.loads(row["body"]) for row in rows]
    return [leaf["told"] for leaf in leaves if leaf["type"] == type_ and "told" in leaf]
