"""Wycheproof RSA-OAEP on both tokens through a raw session, and on the software path."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

from tests.vectors.raw_token import HASHES, VECTORS, Raw, raw_session, readable, wycheproof
from worker.edges.hsm.binding import oaep_parameters
from worker.edges.hsm.ck import (
    CKA_VALUE,
    CKG_MGF1_SHA1,
    CKG_MGF1_SHA256,
    CKM_RSA_PKCS_OAEP,
    CKM_SHA256,
    CKM_SHA_1,
    CkError,
)
from worker.local import Token

NAMES = sorted(file.name.removesuffix(".json") for file in VECTORS.iterdir() if file.name.startswith("rsa_oaep_"))
Kind = tuple[int, str, str, bool]
"""Key size in bits, hash, hash of the mask generation, whether there is a label."""
TRUNCATED = {"SHA-512/224", "SHA-512/256"}
"""PKCS#11 v2.40 names no mask generation function for them, and OpenSSL offers no OAEP with them."""
SOFTWARE: dict[str, type[hashes.HashAlgorithm]] = {
    "SHA-1": hashes.SHA1,
    "SHA-224": hashes.SHA224,
    "SHA-256": hashes.SHA256,
    "SHA-384": hashes.SHA384,
    "SHA-512": hashes.SHA512,
    "SHA-512/224": hashes.SHA512_224,
    "SHA-512/256": hashes.SHA512_256,
}


@pytest.fixture(scope="module")
def raw(token: Token) -> Iterator[Raw]:
    with raw_session(token) as session:
        yield session


def groups() -> Iterator[tuple[tuple[int, str, str], RSAPrivateKey, list[dict[str, Any]]]]:
    """Every group of every file."""
    for name in NAMES:
        for group in wycheproof(name):
            key = load_der_private_key(
                bytes.fromhex(group["privateKeyPkcs8"]), None, unsafe_skip_rsa_key_validation=True
            )
            yield (group["keySize"], group["sha"], group["mgfSha"]), cast("RSAPrivateKey", key), group["tests"]


def refused_by(decrypt: Callable[[RSAPrivateKey, Kind, dict[str, Any]], bytes | None]) -> set[Kind]:
    """Run every vector; the combinations of which something valid is refused. Whatever opens must be right."""
    refused = set()
    for (size, sha, mgf), key, tests in groups():
        for test in tests:
            kind = (size, sha, mgf, test["label"] != "")
            opened = decrypt(key, kind, test)
            if opened is not None:
                assert test["result"] != "invalid", (kind, test["tcId"])
                assert opened.hex() == test["msg"]
            elif test["result"] == "valid":
                refused.add(kind)
    return refused


def kinds() -> set[Kind]:
    """Every combination that has a valid vector."""
    return refused_by(lambda *_: None)


def test_what_a_token_refuses_is_known_and_the_rest_is_right(raw: Raw, token: Token) -> None:
    """No key size is refused (1024 to 8192 bits); S12 lives with the hashes that are."""

    def decrypt(key: RSAPrivateKey, kind: Kind, test: dict[str, Any]) -> bytes | None:
        _, sha, mgf, _ = kind
        if sha not in HASHES or mgf not in HASHES:
            return None
        with raw.private(key) as handle:
            try:
                return raw.oaep(handle, sha, mgf, bytes.fromhex(test["label"]), bytes.fromhex(test["ct"]))
            except CkError:
                return None

    if "SOFTHSM2_CONF" in token.env:
        known = {kind for kind in kinds() if kind[1:] != ("SHA-1", "SHA-1", False)}
    else:
        known = {kind for kind in kinds() if TRUNCATED & set(kind[1:3])}
    assert refused_by(decrypt) == known


def test_keys_unwrap_as_the_vectors_say(raw: Raw, token: Token) -> None:
    """The way of an import (S12), which decrypts nothing: C_UnwrapKey, without labels, one hash for both."""
    taken = {"SHA-1": (CKM_SHA_1, CKG_MGF1_SHA1), "SHA-256": (CKM_SHA256, CKG_MGF1_SHA256)}
    known = {"SHA-1"} if "SOFTHSM2_CONF" in token.env else set(taken)
    opened = set()
    for (_, sha, mgf), key, tests in groups():
        if sha != mgf or sha not in known:
            continue
        way = oaep_parameters(*taken[sha])
        with raw.private(key) as pair:
            for test in (one for one in tests if one["label"] == "" and one["msg"]):
                try:
                    ciphertext = bytes.fromhex(test["ct"])
                    made = raw.session.unwrap(CKM_RSA_PKCS_OAEP, pair, ciphertext, readable(), way)
                except CkError:
                    assert test["result"] != "valid", test["tcId"]
                    continue
                value = raw.session.attribute(made, CKA_VALUE)
                raw.session.destroy(made)
                assert test["result"] != "invalid", test["tcId"]
                assert value.hex() == test["msg"]
                opened.add(sha)
    assert opened == known


def test_the_software_path() -> None:
    def decrypt(key: RSAPrivateKey, kind: Kind, test: dict[str, Any]) -> bytes | None:
        _, sha, mgf, _ = kind
        label = bytes.fromhex(test["label"]) or None
        try:
            way = padding.OAEP(padding.MGF1(SOFTWARE[mgf]()), SOFTWARE[sha](), label)
            return key.decrypt(bytes.fromhex(test["ct"]), way)
        except (ValueError, UnsupportedAlgorithm):
            return None

    assert refused_by(decrypt) == {kind for kind in kinds() if TRUNCATED & set(kind[1:3])}
