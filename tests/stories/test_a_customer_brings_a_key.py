"""A customer brings a key (BYOK, S12): from import parameters over openssl to its end, on the tokens that can do it."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.fleet import Fleet
from tests.stack import CHECKOUT, Services
from worker.cli.importing import _write
from worker.client import ItemError, KeyriverClient, RequestRefused, Unwrapped, WrappedDek
from worker.local import Token as LocalToken
from worker.local import kryoptic as kryoptic_part
from worker.local import softhsm as softhsm_part
from worker.model.bodies import DekItem, KeyCreateBody, KeyRotateBody, KeyShowBody, TenantCreateBody
from worker.model.control import KeyDestroyBody
from worker.model.imported import ImportParametersResult
from worker.model.importing import KeyImportBody, KeyImportParametersBody
from worker.model.imports import ImportAlgorithm
from worker.model.operations import Operation
from worker.model.replies import KeyResult, KeyView
from worker.model.rows import Origin, State

SCRIPT = CHECKOUT / "schemas" / "examples" / "byok.sh"
WAIT_S = 30.0
SHA_1 = '["RSAES_OAEP_SHA_1", "RSA_AES_KEY_WRAP_SHA_1"]'
SAFE = (ImportAlgorithm.RSA_AES_KEY_WRAP_SHA_256, ImportAlgorithm.RSAES_OAEP_SHA_256)
OLD = (ImportAlgorithm.RSA_AES_KEY_WRAP_SHA_1, ImportAlgorithm.RSAES_OAEP_SHA_1)


def by_openssl(folder: Path, key: Path, fleet: Path) -> None:
    """The customer's own work."""
    done = subprocess.run(["/bin/sh", SCRIPT, folder, key, fleet], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@dataclass
class Bank:
    """A fleet whose token can import with these algorithms, and a customer's desk: a folder of his."""

    fleet: Fleet
    desk: Path
    algorithms: tuple[ImportAlgorithm, ...]

    async def tenant(self) -> str:
        name = f"t{uuid4().hex[:10]}"
        body = TenantCreateBody(tenant=name, origin=Origin.IMPORTED)
        await self.fleet.command(Operation.TENANT_CREATE, body)
        return name

    async def parameters(self, tenant: str, algorithm: ImportAlgorithm | None = None) -> ImportParametersResult:
        body = KeyImportParametersBody(tenant=tenant, key=tenant, algorithm=algorithm or self.algorithms[0])
        told = await self.fleet.command(Operation.KEY_IMPORT_PARAMETERS, body)
        assert isinstance(told, ImportParametersResult)
        return told

    async def wrapped(self, told: ImportParametersResult, key: Path, **more: object) -> KeyImportBody:
        """What the customer does with openssl, and the officer with what comes back."""
        identity = self.fleet.officers[0]
        folder = self.desk / f"import-{told.parameters}"
        _write(folder, told, identity.fleet, identity.fleet_key)
        pem = self.desk / "fleet.pem"
        pem.write_bytes((folder / "fleet.pem").read_bytes())
        await asyncio.to_thread(by_openssl, folder, key, pem)
        words = {
            "tenant": told.tenant,
            "key": told.tenant,
            "parameters": told.parameters,
            "algorithm": told.algorithm,
            "blob": (folder / "key.blob").read_bytes(),
            "check_value": (folder / "check-value").read_text().strip(),
        }
        return KeyImportBody.model_validate(words | more)

    async def imports(self, body: KeyImportBody) -> KeyView:
        done = await self.fleet.command(Operation.KEY_IMPORT, body)
        assert isinstance(done, KeyResult)
        return done.key

    async def brought(self, tenant: str, key: Path, **more: object) -> KeyView:
        """Parameters, openssl, import."""
        return await self.imports(await self.wrapped(await self.parameters(tenant), key, **more))

    async def refused(self, body: KeyImportBody) -> str:
        with pytest.raises(RequestRefused) as refusal:
            await self.imports(body)
        return refusal.value.code

    async def service(self, tenant: str) -> tuple[str, KeyriverClient]:
        """Two layers below, and a client for them."""
        for parent, alias in ((tenant, f"{tenant}/eu"), (f"{tenant}/eu", f"{tenant}/eu/pay")):
            body = KeyCreateBody(tenant=tenant, parent=parent, alias=alias)
            await self.fleet.command(Operation.KEY_CREATE, body)
        return f"{tenant}/eu/pay", await self.fleet.client(await self.fleet.service(tenant))

    async def shown(self, tenant: str) -> KeyView:
        told = await self.fleet.command(Operation.KEY_SHOW, KeyShowBody(tenant=tenant, key=tenant))
        assert isinstance(told, KeyResult)
        return told.key

    async def until(self, tenant: str, state: Mapping[int, bool]) -> None:
        """Wait until these versions lack their material (True) or have it."""
        deadline = time.monotonic() + WAIT_S
        while (found := {one.number: bool(one.absent) for one in (await self.shown(tenant)).versions}) != state:
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.1)

    async def told(self, tenant: str) -> list[str]:
        rows = await self.fleet.pool.fetch(
            "SELECT type FROM keyriver.outbox WHERE tenant = $1 AND type <> 'keyriver.hint.v1' ORDER BY number", tenant
        )
        return [row["type"].removeprefix("keyriver.").removesuffix(".v1") for row in rows]

    async def until_told(self, tenant: str, event: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while event not in (found := await self.told(tenant)):
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.1)

    async def pairs(self, tenant: str) -> int:
        """Import keys of this tenant that are in the token still, as far as the rows know."""
        count = await self.fleet.pool.fetchval(
            "SELECT count(*) FROM keyriver.imports WHERE tenant = $1 AND material IS NOT NULL", tenant
        )
        return int(count)


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
    desk = folder / "desk"
    desk.mkdir()
    async with Fleet.founded(stack, folder, token, **settings) as founded:
        founded.start()
        await founded.at_work(1)
        yield Bank(founded, desk, algorithms)


async def test_from_parameters_to_the_end(bank: Bank) -> None:
    # Given a tenant whose master key waits for the customer's
    tenant, key = await bank.tenant(), bank.desk / f"{uuid4()}.key"
    before = await bank.shown(tenant)
    assert (before.origin, [one.state for one in before.versions]) == (Origin.IMPORTED, [State.PRE_ACTIVE])
    with pytest.raises(RequestRefused, match="KEY_STATE"):
        await bank.service(tenant)
    # When he wraps his key with openssl, for parameters that the fleet signed, and it is imported until soon
    parameters = await bank.parameters(tenant)
    not_after_ms = time.time_ns() // 1_000_000 + 4000
    order = await bank.wrapped(parameters, key, not_after_ms=not_after_ms, why="acme's own key")
    after = await bank.imports(order)
    # Then it is active, his services work under it, and the parameters are used up
    assert [(one.state, one.not_after_ms, one.absent) for one in after.versions] == [(State.ACTIVE, not_after_ms, None)]
    name, client = await bank.service(tenant)
    (made,) = await client.generate(name)
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
    other = await bank.wrapped(await bank.parameters(tenant), bank.desk / f"{uuid4()}.key")
    assert await bank.refused(other) == "IMPORT_REFUSED"
    assert (await bank.shown(tenant)).versions[0].absent
    # The same one, wrapped anew and by another way, brings everything back
    back = await bank.wrapped(await bank.parameters(tenant, bank.algorithms[1]), key)
    assert (await bank.imports(back)).versions[0].absent is None
    (opened,) = await client.unwrap([DekItem(id=made.id)])
    assert isinstance(opened, Unwrapped)
    assert opened.dek == made.dek
    # He brings a successor; what was wrapped before is still opened, what is new stands under the new one
    rotated = await bank.brought(tenant, bank.desk / f"{uuid4()}.key", rotate=True)
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
