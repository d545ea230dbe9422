"""Wrapped DEKs: every released byte by hand from the ABNF, and decrypted here with AES-GCM alone."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from worker.chain import blob, context, payload

HERE = Path(__file__).parent


def read(name: str) -> Any:  # noqa: ANN401 - any JSON
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))


KEK = bytes.fromhex(read("keys")["kek"])


@pytest.mark.parametrize("case", read("context")["cases"])
def test_context(case: dict[str, Any]) -> None:
    assert context.canonical(case["context"]).hex() == case["canonical"]
    assert context.digest(case["context"]).hex() == case["digest"]
    assert context.digest(dict(reversed(case["context"].items()))).hex() == case["digest"]
    assert sha256(bytes.fromhex(case["canonical"])).hexdigest() == case["digest"]


def test_keys_are_sorted_by_utf8_not_by_utf16() -> None:
    """U+FFEE stands before U+10000 in UTF-8 and after it in UTF-16, as Java and JavaScript would sort."""
    last = read("context")["cases"][-1]
    assert bytes.fromhex(last["canonical"]).index("\uffee".encode()) < bytes.fromhex(last["canonical"]).index(
        "\U00010000".encode()
    )


@pytest.mark.parametrize("case", read("blob")["cases"], ids=lambda case: case["name"])
def test_blob(case: dict[str, Any]) -> None:
    key, dek_id = UUID(case["key"]), UUID(case["dek_id"])
    header = b"KR\x01\x01" + key.bytes + case["version"].to_bytes(4, "big") + dek_id.bytes + b"\x0c"
    assert header.hex() == case["header"] == blob.header(key, case["version"], dek_id).hex()
    aad = header + b"\x00\x04" + case["tenant"].encode()
    assert aad.hex() == case["aad"] == blob.aad(header, case["tenant"]).hex()
    dek, digest = bytes.fromhex(case["dek"]), context.digest(case["context"])
    plain = bytes((len(dek),)) + dek + digest
    assert plain.hex() == case["payload"] == payload.pack(dek, digest).hex()
    raw, nonce = bytes.fromhex(case["blob"]), bytes.fromhex(case["nonce"])
    assert raw == header + nonce + AESGCM(KEK).encrypt(nonce, plain, aad)
    parsed = blob.parse(raw)
    assert (parsed.header, parsed.key, parsed.version, parsed.dek, parsed.nonce) == (
        header,
        key,
        case["version"],
        dek_id,
        nonce,
    )
    assert payload.unpack(AESGCM(KEK).decrypt(parsed.nonce, parsed.ciphertext, aad)) == (dek, digest)
