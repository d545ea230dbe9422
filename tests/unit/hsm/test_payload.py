"""The plaintext of a wrapped DEK."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.chain import payload

DIGEST = bytes(range(32))


@given(st.binary(min_size=16, max_size=64), st.binary(min_size=32, max_size=32))
def test_what_is_packed_is_unpacked(dek: bytes, digest: bytes) -> None:
    packed = payload.pack(dek, digest)
    assert packed == bytes([len(dek)]) + dek + digest
    assert payload.unpack(packed) == (dek, digest)


@pytest.mark.parametrize(("dek", "digest"), [(bytes(15), DIGEST), (bytes(65), DIGEST), (b"", DIGEST), (bytes(32), b"")])
def test_lengths_out_of_range_are_not_packed(dek: bytes, digest: bytes) -> None:
    with pytest.raises(ValueError, match="has"):
        payload.pack(dek, digest)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x20",
        bytes([15]) + bytes(15 + 32),
        bytes([65]) + bytes(65 + 32),
        bytes([32]) + bytes(63),
        bytes([32]) + bytes(65),
    ],
)
def test_other_bytes_are_no_payload(raw: bytes) -> None:
    with pytest.raises(ValueError, match="payload"):
        payload.unpack(raw)
