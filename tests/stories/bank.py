"""What stories and attacks on imports share: tenants that bring their keys, and a customer's desk with openssl."""

import asyncio
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from tests.fleet import Fleet
from tests.stack import CHECKOUT
from worker.cli.importing import _write
from worker.client import KeyriverClient, RequestRefused
from worker.model.bodies import KeyCreateBody, KeyShowBody, TenantCreateBody
from worker.model.imported import ImportParametersResult
from worker.model.importing import KeyImportBody, KeyImportParametersBody
from worker.model.imports import ImportAlgorithm
from worker.model.operations import Operation
from worker.model.replies import KeyResult, KeyView
from worker.model.rows import Origin

SCRIPT = CHECKOUT / "schemas" / "examples" / "byok.sh"
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
        folder = self.desk / f"import-{told.parameters}"
        _write(folder, told, (await self.fleet.officer()).lineage)
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
        deadline = time.monotonic() + self.fleet.patience_s
        while (found := {one.number: bool(one.absent) for one in (await self.shown(tenant)).versions}) != state:
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.1)

    async def told(self, tenant: str) -> list[str]:
        rows = await self.fleet.pool.fetch(
            "SELECT type FROM keyriver.outbox WHERE tenant = $1 AND type <> 'keyriver.hint.v1' ORDER BY number", tenant
        )
        return [row["type"].removeprefix("keyriver.").removesuffix(".v1") for row in rows]

    async def until_told(self, tenant: str, event: str) -> None:
        deadline = time.monotonic() + self.fleet.patience_s
        while event not in (found := await self.told(tenant)):
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.1)

    def key_file(self) -> Path:
        """A place for a key of the customer's; the script makes one there."""
        return self.desk / f"{uuid4()}.key"

    async def pairs(self, tenant: str) -> int:
        """Import keys of this tenant that are in the token still, as far as the rows know."""
        count = await self.fleet.pool.fetchval(
            "SELECT count(*) FROM keyriver.imports WHERE tenant = $1 AND material IS NOT NULL", tenant
        )
        return int(count)
