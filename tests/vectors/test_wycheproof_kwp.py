"""Wycheproof AES-KWP (RFC 5649) on both tokens under the id that the probe found, and on the software path."""

from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import keywrap

from tests.vectors.raw_token import PLAIN, WRAPS, Raw, raw_session, readable, wycheproof
from worker.edges.hsm.ck import CKA_VALUE, CkError
from worker.local import Token
from worker.model.hsm import Wrapping

TESTS = [test for group in wycheproof("aes_kwp_test") for test in group["tests"]]


@pytest.fixture(scope="module")
def raw(token: Token) -> Iterator[Raw]:
    with raw_session(token) as session:
        yield session


def parts(test: dict[str, Any]) -> tuple[bytes, bytes, bytes]:
    """Key, message, ciphertext."""
    key, msg, ct = (bytes.fromhex(test[name]) for name in ("key", "msg", "ct"))
    return key, msg, ct


def unwrapped(raw: Raw, key: bytes, wrapped: bytes) -> bytes | None:
    """The bytes of the key that the token unwraps; None when it refuses."""
    with raw.secret(key, *WRAPS) as wrapper:
        try:
            handle = raw.session.unwrap(raw.abilities.wrapping[Wrapping.AES_KWP], wrapper, wrapped, readable())
        except CkError:
            return None
        try:
            return raw.session.attribute(handle, CKA_VALUE)
        finally:
            raw.session.destroy(handle)


def wrapped(raw: Raw, key: bytes, message: bytes) -> bytes:
    """The message as a key, wrapped."""
    with raw.secret(key, *WRAPS) as wrapper, raw.secret(message, kind=PLAIN) as target:
        return raw.session.wrap(raw.abilities.wrapping[Wrapping.AES_KWP], wrapper, target)


def test_no_invalid_vector_unwraps(raw: Raw) -> None:
    accepted = [
        test["tcId"] for test in TESTS if test["result"] == "invalid" and unwrapped(raw, *_wrapped(test)) is not None
    ]
    assert accepted == []


def test_every_valid_vector_unwraps(raw: Raw) -> None:
    valid = [parts(test) for test in TESTS if test["result"] == "valid"]
    assert len(valid) > 70
    assert [unwrapped(raw, key, ciphertext) for key, _, ciphertext in valid] == [message for _, message, _ in valid]


def test_every_valid_vector_wraps_but_odd_lengths_on_softhsm(raw: Raw, token: Token) -> None:
    """SoftHSM2 pads a key whose length is no multiple of 8 before it wraps it. Ours have 32 bytes."""
    odd = "SOFTHSM2_CONF" in token.env
    for key, message, ciphertext in (parts(test) for test in TESTS if test["result"] == "valid"):
        assert (wrapped(raw, key, message) == ciphertext) != (odd and len(message) % 8 != 0)


def _wrapped(test: dict[str, Any]) -> tuple[bytes, bytes]:
    key, _, ciphertext = parts(test)
    return key, ciphertext


def test_the_software_path() -> None:
    for test in TESTS:
        key, message, ciphertext = parts(test)
        try:
            opened = keywrap.aes_key_unwrap_with_padding(key, ciphertext)
        except (keywrap.InvalidUnwrap, ValueError):
            assert test["result"] == "invalid", test["tcId"]
        else:
            assert (opened, test["result"]) == (message, "valid"), test["tcId"]
            assert keywrap.aes_key_wrap_with_padding(key, message) == ciphertext
