"""`keyriver key import-parameters|import-script|import`: a customer brings a key of his own (BYOK)."""

import time
from base64 import b64encode
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Annotated
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cyclopts import Parameter

from worker.cli.body import body
from worker.cli.errors import Refused, Usage
from worker.cli.key import TenantOf, key, show_view, tenant_of
from worker.cli.lifecycle import Version, Why
from worker.cli.officer import As, Json, Officer, ask
from worker.cli.output import say, show, show_json
from worker.model.imported import ImportParametersResult
from worker.model.importing import MAX_BLOB, KeyImportBody, KeyImportParametersBody
from worker.model.imports import ImportAlgorithm
from worker.model.operations import Operation
from worker.model.replies import KeyResult
from worker.seal.errors import SealError
from worker.seal.importing import ImportStatement
from worker.seal.lineage import Lineage

__all__ = ["key"]
SCRIPT = "wrap.sh"
_SCALAR_BYTES = 32
_P256_SPKI = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
"""What stands before the point in a SubjectPublicKeyInfo of P-256 (RFC 5480)."""


@key.command(name="import-parameters")
async def import_parameters(
    name: str,
    /,
    *,
    out: Path,
    algorithm: ImportAlgorithm = ImportAlgorithm.RSA_AES_KEY_WRAP_SHA_256,
    bits: int = 3072,
    why: Why = "",
    tenant: TenantOf = None,
    signs: As = None,
    json: Json = False,
) -> None:
    """Get an RSA key of the token, for which the customer wraps his key: for one import, within 24 hours.

    ```
    keyriver tenant create acme --origin imported     # a master key that waits for the customer's
    keyriver key import-parameters acme --out acme-import
    sh acme-import/wrap.sh acme-import acme.key fleet.pem    # the customer, on a machine of his own
    keyriver key import acme --parameters acme-import --check-value a1b2c3
    ```

    The folder holds public.der, statement.txt with the fleet's signature over it (statement.sig), the fleet's key as
    this officer knows it (fleet.pem; the customer gets it from elsewhere), and the script. Nothing in it is secret.
    The import key needs no backup: what is not imported in time is wrapped again for a new one.

    Args:
        name: The master key's alias or id.
        out: A new folder to write them to.
        algorithm: How the key is wrapped; SHA-1 only where the fleet's setting import_algorithms names it.
        bits: Of the RSA key: 3072 or 4096.
    """
    _is_new(out)
    words = {"algorithm": algorithm, "bits": bits, "why": why}
    asked = body(KeyImportParametersBody, tenant=tenant_of(name, tenant), key=name, **words)
    async with Officer(signs) as asking:
        told = await asking.ask(Operation.KEY_IMPORT_PARAMETERS, asked, ImportParametersResult)
        _write(out, told, asking.lineage)
    if json:
        show_json(told)
        return
    show(f"{out}: import parameters {told.parameters} for {name}, {told.algorithm}, token {told.serial}")
    say(f"The customer:\n  sh {out / SCRIPT} {out} KEY FLEET.pem\nand then:\n  keyriver key import {name} …")


@key.command(name="import-script")
def import_script() -> None:
    """Print the shell script with which a customer wraps his key, using openssl alone. It explains itself.

    ```
    keyriver key import-script > wrap.sh
    ```
    """
    show(_script().rstrip("\n"))


@key.command(name="import")
async def import_key(
    name: str,
    /,
    *,
    parameters: Path,
    check_value: str,
    blob: Path | None = None,
    version: Version = None,
    rotate: Annotated[bool, Parameter(name="--rotate", negative="")] = False,
    not_after: datetime | None = None,
    why: Why = "",
    tenant: TenantOf = None,
    signs: As = None,
    json: Json = False,
) -> None:
    """Import a wrapped AES-256 key as the material of a master key. It never leaves the token again.

    ```
    keyriver key import acme --parameters acme-import --check-value a1b2c3
    keyriver key import acme --parameters acme-import --check-value a1b2c3 --not-after 2027-06-30T00:00:00+00:00
    keyriver key import acme --parameters acme-import-2 --check-value d4e5f6 --rotate    # a new version
    ```

    What was imported before and has expired comes back only as the same key. Five refused imports burn the parameters.

    Args:
        name: The master key's alias or id.
        parameters: The folder of `import-parameters`.
        check_value: Of the key: six hex digits, the first bytes of a zero block under it (AES-256 in ECB).
        blob: The wrapped key; else key.blob in that folder.
        rotate: Import it as a new version, which becomes the active one.
        not_after: When the material is deleted from the token, with a zone; what hangs on it then waits for it.
    """
    if not_after is not None and not_after.tzinfo is None:
        raise Usage("--not-after: a time with its zone, as in 2027-06-30T00:00:00+00:00")
    id_, algorithm = _stated(parameters)
    asked = body(
        KeyImportBody,
        tenant=tenant_of(name, tenant),
        key=name,
        parameters=id_,
        algorithm=algorithm,
        blob=b64encode(_read(blob or parameters / "key.blob")).decode(),
        check_value=check_value,
        version=version,
        rotate=rotate,
        not_after_ms=None if not_after is None else round(not_after.timestamp() * 1000),
        why=why,
    )
    show_view((await ask(signs, Operation.KEY_IMPORT, asked, KeyResult)).key, json=json)


def _write(out: Path, told: ImportParametersResult, fleet: Lineage) -> None:
    """The folder, once the fleet's signature was verified. Raises `Refused`."""
    names = ("fleet", "tenant", "key", "parameters", "algorithm", "public_key", "serial", "expires_ms")
    statement = ImportStatement(**{name: getattr(told, name) for name in names})
    try:
        statement.check(fleet.fleet, fleet, told.signature, time.time_ns() // 1_000_000)
    except SealError as error:
        raise Refused(str(error)) from None
    r, s = told.signature[:_SCALAR_BYTES], told.signature[_SCALAR_BYTES:]
    der = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
    spki = b64encode(_P256_SPKI + fleet.newest).decode()
    pem = "\n".join(("-----BEGIN PUBLIC KEY-----", spki[:64], spki[64:], "-----END PUBLIC KEY-----", ""))
    out.mkdir(mode=0o700)
    (out / "public.der").write_bytes(told.public_key)
    (out / "statement.txt").write_bytes(statement.payload())
    (out / "statement.sig").write_bytes(der)
    (out / "fleet.pem").write_text(pem)
    (out / SCRIPT).write_text(_script())


def _is_new(out: Path) -> None:
    if out.exists():
        raise Usage(f"--out: {out} is there already")


def _script() -> str:
    return files("worker.cli").joinpath("byok.sh").read_text(encoding="utf-8")


def _stated(folder: Path) -> tuple[UUID, ImportAlgorithm]:
    """Which parameters, and how the key is wrapped for them. Raises `Usage`."""
    lines = _read(folder / "statement.txt").decode(errors="replace").splitlines()
    said = dict(line.split(": ", 1) for line in lines if ": " in line)
    try:
        return UUID(said["parameters"]), ImportAlgorithm(said["algorithm"])
    except (KeyError, ValueError):
        raise Usage(f"--parameters: {folder / 'statement.txt'} is no statement about import parameters") from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4 * MAX_BLOB)
    except OSError as error:
        raise Usage(f"{path}: {error.strerror}") from None
