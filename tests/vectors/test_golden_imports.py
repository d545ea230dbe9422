"""Import parameters as the fleet signs them, and wrapped keys that must import for ever."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

from worker.edges.hsm.fake import FakeToken
from worker.model.hsm import (
    Fault,
    HsmFault,
)
from worker.model.import_ops import (
    ImportedMaster,
    ImportMaster,
)
from worker.model.imports import ImportAlgorithm
from worker.seal.errors import BadCertificate
from worker.seal.importing import ImportStatement, check_value

HERE = Path(__file__).parent
VECTOR: dict[str, Any] = json.loads((HERE / "imports.json").read_text(encoding="utf-8"))
FLEET = bytes.fromhex(json.loads((HERE / "keys.json").read_text(encoding="utf-8"))["signers"]["fleet"]["public"])
PUBLIC = bytes.fromhex(VECTOR["statement"]["public_key"])
SIGNATURE = bytes.fromhex(VECTOR["signature"])


def statement() -> ImportStatement:
    said = VECTOR["statement"]
    return ImportStatement(
        said["fleet"],
        said["tenant"],
        UUID(said["key"]),
        UUID(said["parameters"]),
        ImportAlgorithm(said["algorithm"]),
        PUBLIC,
        said["serial"],
        said["expires_ms"],
    )


def test_the_statement_is_the_text_and_the_fleet_signed_it() -> None:
    assert statement().payload().decode() == VECTOR["payload"]
    statement().check("dev-example", FLEET, SIGNATURE, statement().expires_ms - 1)


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": "bolt"},
        {"key": uuid4()},
        {"parameters": uuid4()},
        {"algorithm": ImportAlgorithm.RSAES_OAEP_SHA_1},
        {"public_key": b"no key"},
        {"serial": "another"},
        {"serial": "5f1e2d3c4b5a6978'\nexpires-ms: 0"},
        {"expires_ms": 1_795_644_000_001},
        {"fleet": "dev-other"},
    ],
)
def test_another_statement_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadCertificate):
        replace(statement(), **change).check("dev-example", FLEET, SIGNATURE, 0)


def test_one_that_is_over_is_refused() -> None:
    with pytest.raises(BadCertificate, match="expired"):
        statement().check("dev-example", FLEET, SIGNATURE, statement().expires_ms)


@pytest.mark.parametrize("algorithm", ImportAlgorithm)
async def test_the_blobs_import(algorithm: ImportAlgorithm) -> None:
    private = load_der_private_key(bytes.fromhex(VECTOR["private_pkcs8"]), None)
    assert isinstance(private, RSAPrivateKey)
    token, label = FakeToken(), uuid4()
    token.imports.pairs[label] = private
    blob, expected = bytes.fromhex(VECTOR["blobs"][algorithm]), bytes.fromhex(VECTOR["check_value"])
    assert len(blob) == algorithm.blob_bytes(3072)
    assert check_value(bytes.fromhex(VECTOR["key"])) == expected
    op = ImportMaster(uuid4(), 1, uuid4(), label, PUBLIC, algorithm, blob, expected, token.serial)
    (done,) = await token.hsm.run([op], 1)
    assert isinstance(done, ImportedMaster)
    assert token.masters[op.material][0].hex() == VECTOR["key"]
    (refused,) = await token.hsm.run([replace(op, check_value=b"\0\0\0")], 1)
    assert isinstance(refused, HsmFault)
    assert refused.fault is Fault.BAD_CIPHERTEXT
