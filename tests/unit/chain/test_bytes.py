"""The context's digest and the payload that AES-GCM protects."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.chain import context, payload

CONTEXTS = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=6)


def test_an_empty_context_is_no_context() -> None:
    assert context.digest({}) == sha256(b"").digest() == context.EMPTY


def test_keys_and_values_are_length_prefixed_and_sorted() -> None:
    one = b"\x00\x00\x00\x01a\x00\x00\x00\x02bc"
    assert context.canonical({"a": "bc"}) == one
    assert context.canonical({"b": "", "a": "bc"}) == one + b"\x00\x00\x00\x01b\x00\x00\x00\x00"


@given(CONTEXTS, CONTEXTS)
def test_two_contexts_share_a_form_only_if_they_are_equal(one: dict[str, str], other: dict[str, str]) -> None:
    assert (context.canonical(one) == context.canonical(other)) is (one == other)
    assert context.digest(dict(reversed(one.items()))) == context.digest(one)


def test_nothing_is_normalised() -> None:
    composed, decomposed = "\u00e9", "e\u0301"
    assert context.digest({"name": composed}) != context.digest({"name": decomposed})


def test_the_size_counts_bytes_of_keys_and_values() -> None:
    assert context.size({"é": "ab", "c": ""}) == 5


@pytest.mark.parametrize("size", range(16, 65))
def test_a_dek_of_any_length_comes_back(size: int) -> None:
    dek, digest = bytes(range(size)), b"x" * 32
    packed = payload.pack(dek, digest)
    assert packed == bytes((size,)) + dek + digest
    assert payload.unpack(packed) == (dek, digest)
    for wrong in (packed[:-1], packed + b"x", bytes((size - 1,)) + packed[1:], bytes((size + 1,)) + packed[1:]):
        with pytest.raises(ValueError, match="not a DEK payload"):
            payload.unpack(wrong)


@pytest.mark.parametrize("size", [0, 15, 65, 255])
def test_other_lengths_are_not_packed(size: int) -> None:
    with pytest.raises(ValueError, match="16 to 64"):
        payload.pack(bytes(size), bytes(32))
    with pytest.raises(ValueError, match="not a DEK payload"):
        payload.unpack(bytes((size,)) + bytes(size + 32))
    with pytest.raises(ValueError, match="not a DEK payload"):
        payload.unpack(b"")


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_digest_has_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="context digest"):
        payload.pack(bytes(32), bytes(size))
