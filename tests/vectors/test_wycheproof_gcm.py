"""Wycheproof AES-GCM on both tokens through a raw session, and on the software path."""

from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.vectors.raw_token import CRYPT, Raw, raw_session, wycheproof
from worker.edges.hsm.ck import CkError
from worker.local import Token

GROUPS = wycheproof("aes_gcm_test")
SOFTWARE_REFUSES = {8, 16, 32, 48, 2056}
"""Nonce bits."""
EDGE = [g for g in GROUPS if (g["ivSize"], g["tagSize"], g["keySize"]) == (96, 128, 256)]


@pytest.fixture(scope="module")
def raw(token: Token) -> Iterator[Raw]:
    with raw_session(token) as session:
        yield session


def parts(test: dict[str, Any]) -> tuple[bytes, ...]:
    """Key, nonce, AAD, plaintext, ciphertext with tag."""
    key, iv, aad, msg, ct, tag = (bytes.fromhex(test[name]) for name in ("key", "iv", "aad", "msg", "ct", "tag"))
    return key, iv, aad, msg, ct + tag


def verdict(raw: Raw, group: dict[str, Any], test: dict[str, Any]) -> str:
    """What the token says of one vector. Whatever it opens and seals must be right."""
    key, iv, aad, msg, sealed = parts(test)
    with raw.secret(key, *CRYPT) as handle:
        try:
            opened = raw.gcm("Decrypt", handle, iv, aad, group["tagSize"], sealed)
        except CkError:
            return "invalid"
        assert opened == msg
        assert raw.gcm("Encrypt", handle, iv, aad, group["tagSize"], msg) == sealed
        return "valid"


def test_every_vector_of_the_edges_sizes(raw: Raw) -> None:
    """256-bit keys, 96-bit nonces, 128-bit tags: nothing right is refused, nothing wrong is accepted."""
    tests = [(group, test) for group in EDGE for test in group["tests"]]
    assert len(tests) > 50
    assert [(t["tcId"], verdict(raw, g, t)) for g, t in tests] == [(t["tcId"], t["result"]) for _, t in tests]


def test_nonces_of_257_bytes_are_all_that_a_token_refuses(raw: Raw) -> None:
    refused = set()
    for group in GROUPS:
        for test in group["tests"]:
            said = verdict(raw, group, test)
            if (said, test["result"]) == ("invalid", "valid"):
                refused.add(group["ivSize"])
            else:
                assert said == test["result"], test["tcId"]
    assert refused == {2056}


def test_the_software_path() -> None:
    """It takes nonces of 8 to 128 bytes."""
    refused = set()
    for group in GROUPS:
        for test in group["tests"]:
            key, iv, aad, msg, sealed = parts(test)
            try:
                opened = AESGCM(key).decrypt(iv, sealed, aad)
            except (InvalidTag, ValueError):
                if test["result"] == "valid":
                    refused.add(group["ivSize"])
            else:
                assert (opened, test["result"]) == (msg, "valid"), test["tcId"]
                assert AESGCM(key).encrypt(iv, msg, aad) == sealed
    assert refused == SOFTWARE_REFUSES
