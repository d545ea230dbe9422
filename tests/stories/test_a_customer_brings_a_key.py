"""A customer brings a key (BYOK, S12): from import parameters over openssl to its end, on the tokens that can do it."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fleet import Fleet
from tests.stack import Services
from tests.stories.bank import OLD, SAFE, SHA_1, Bank
from worker.client import ItemError, RequestRefused, Unwrapped, WrappedDek
from worker.local import Token as LocalToken
from worker.local import kryoptic as kryoptic_part
from worker.local import softhsm as softhsm_part
from worker.model.bodies import DekItem, KeyRotateBody
from worker.model.control import KeyDestroyBody
from worker.model.importing import KeyImportBody
from worker.model.operations import Operation
from worker.model.rows import Origin, State


@pytest.fixture(scope="module", params=["kryoptic", "softhsm"])
async def bank(
    request: pytest.FixtureRequest, stack: Services, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Bank]:
    folder = tmp_path_factory.mktemp(f"byok-{request.param}")
    settings: dict[str, Any] = {"destroy_grace_s": 0, "recoverable_days": 30}
    token: LocalToken
    if request.param == "kryoptic":
        module = kryoptic_part.module()
        assert module is not None, "kryoptic is needed: `keyriver local up` says how to have it"
        token, algorithms = kryoptic_part.token(folder / "token", module), SAFE
    else:
        token, algorithms = softhsm_part.token(folder / "token"), OLD
        settings["import_algorithms"] = SHA_1
    desk = tmp_path_factory.mktemp("desk")
    async with Fleet.founded(stack, folder, token, **settings) as founded:
        founded.start()
        await founded.at_work(1)
        yield Bank(founded, desk, algorithms)


async def test_from_parameters_to_the_end(bank: Bank) -> None:
    await life(bank, lasts_ms=4000)


async def imported(bank: Bank, lasts_ms: int) -> tuple[str, Path, KeyImportBody]:
    """A tenant, the customer's key, and the import of it."""
    # Given a tenant whose master key waits for the customer's
    tenant, key = await bank.tenant(), bank.key_file()
    before = await bank.shown(tenant)
    assert (before.origin, [one.state for one in before.versions]) == (Origin.IMPORTED, [State.PRE_ACTIVE])
    with pytest.raises(RequestRefused, match="KEY_STATE"):
        await bank.service(tenant)
    # When he wraps his key with openssl, for parameters that the fleet signed, and it is imported until soon
    order = await bank.wrapped(await bank.parameters(tenant), key, why="acme's own key")
    not_after_ms = time.time_ns() // 1_000_000 + lasts_ms
    order = order.model_copy(update={"not_after_ms": not_after_ms})
    after = await bank.imports(order)
    # Then it is active
    assert [(one.state, one.not_after_ms, one.absent) for one in after.versions] == [(State.ACTIVE, not_after_ms, None)]
    return tenant, key, order


async def life(bank: Bank, lasts_ms: int) -> None:
    """The whole of it; `lasts_ms` is how long the material stays at first."""
    # Given a tenant whose master key is the customer's, for a while, and something that was wrapped meanwhile
    for times in (1, 4, 16):  # on a busy machine the while may be over too soon
        tenant, key, order = await imported(bank, lasts_ms * times)
        try:
            name, client = await bank.service(tenant)
            (made,) = await client.generate(name)
        except RequestRefused as refusal:
            assert refusal.code == "KEY_STATE"  # noqa: PT017
            continue
        if isinstance(made, WrappedDek):
            break
    assert isinstance(made, WrappedDek)
    again = order.model_copy(update={"check_value": "000000"})
    assert await bank.refused(again) == "IMPORT_USED"
    # When its time is over, then nothing works, and the token's object goes
    await bank.until(tenant, {1: True})
    (refused,) = await client.unwrap([DekItem(id=made.id)])
    assert isinstance(refused, ItemError)
    assert refused.code == "KEY_STATE"
    await bank.until_told(tenant, "key.material.deleted")
    # Another key does not come in its place
    other = await bank.wrapped(await bank.parameters(tenant), bank.key_file())
    assert await bank.refused(other) == "IMPORT_REFUSED"
    assert (await bank.shown(tenant)).versions[0].absent
    # The same one, wrapped anew and by another way, brings everything back
    back = await bank.wrapped(await bank.parameters(tenant, bank.algorithms[1]), key)
    assert (await bank.imports(back)).versions[0].absent is None
    (opened,) = await client.unwrap([DekItem(id=made.id)])
    assert isinstance(opened, Unwrapped)
    assert opened.dek == made.dek
    # He brings a successor; what was wrapped before is still opened, what is new stands under the new one
    rotated = await bank.brought(tenant, bank.key_file(), rotate=True)
    assert {one.number: one.state for one in rotated.versions} == {1: State.DEACTIVATED, 2: State.ACTIVE}
    with pytest.raises(RequestRefused, match="WRONG_ORIGIN"):
        await bank.fleet.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=tenant, key=tenant))
    assert isinstance((await client.unwrap([DekItem(id=made.id)]))[0], Unwrapped)
    await bank.fleet.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=tenant, key=f"{tenant}/eu"))
    await bank.fleet.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=tenant, key=name))
    # and at last the first is destroyed by two officers, with all that hangs on it
    destroy = KeyDestroyBody(tenant=tenant, key=tenant, version=1, force=tenant)
    await bank.fleet.command(Operation.KEY_DESTROY, destroy)
    await bank.until_told(tenant, "key.destroyed")
    (gone,) = await client.unwrap([DekItem(id=made.id)])
    assert isinstance(gone, ItemError)
    assert isinstance((await client.generate(name))[0], WrappedDek)
    events = await bank.told(tenant)
    wanted = ["tenant.created", "import.offered", "key.imported", "key.material.expired", "key.material.deleted"]
    assert [one for one in events if one in wanted][:5] == wanted
    assert events.count("import.refused") == 1
