"""The blob's format: what parses, what every damage does, and that nothing is guessed."""

from uuid import UUID

import pytest

from worker.chain import blob
from worker.model.ids import NO_ID

KEY, DEK = UUID(int=0x0190_0000_0000_7000_8000_0000_0000_0001), UUID(int=0x0190_0000_0000_7000_8000_0000_0000_0002)
HEADER = b"KR\x01\x01" + KEY.bytes + b"\x00\x00\x00\x07" + DEK.bytes + b"\x0c"
RAW = HEADER + b"n" * 12 + b"c" * 65 + b"t" * 16


def test_a_header_is_41_bytes_in_the_order_of_the_abnf() -> None:
    assert blob.header(KEY, 7, DEK) == HEADER
    assert len(HEADER) == blob.HEADER_BYTES == 41
    assert blob.header(KEY, 2**32 - 1, NO_ID)[20:40] == b"\xff" * 4 + bytes(16)


@pytest.mark.parametrize("version", [-1, 2**32])
def test_a_version_that_does_not_fit_is_no_header(version: int) -> None:
    with pytest.raises(OverflowError):
        blob.header(KEY, version, DEK)


@pytest.mark.parametrize("version", [0, 1, 2**31, 2**32 - 1])
def test_any_version_is_read(version: int) -> None:
    """Which there are, the store knows; the format has room for all that four bytes hold."""
    assert blob.parse(RAW[:20] + version.to_bytes(4, "big") + RAW[24:]).version == version


def test_a_blob_is_read_as_it_was_written() -> None:
    assert blob.parse(RAW) == blob.Blob(HEADER, KEY, 7, DEK, b"n" * 12, b"c" * 65 + b"t" * 16)


def test_every_truncation_loses_bytes_or_is_refused() -> None:
    """What is cut off can only be missing from the ciphertext's end, where the tag gives it away."""
    for size in range(len(RAW)):
        if size < blob.SHORTEST or size < 41 + 12 + 1 + 16:
            with pytest.raises(blob.BadBlob):
                blob.parse(RAW[:size])
        else:
            assert blob.parse(RAW[:size]).ciphertext == RAW[53:size]


@pytest.mark.parametrize(
    ("place", "value"), [(0, b"X"), (1, b"X"), (2, b"\x00"), (2, b"\x02"), (3, b"\x00"), (3, b"\x02"), (40, b"\x00")]
)
def test_another_magic_format_algorithm_or_no_nonce_is_refused(place: int, value: bytes) -> None:
    with pytest.raises(blob.BadBlob):
        blob.parse(RAW[:place] + value + RAW[place + 1 :])


@pytest.mark.parametrize(("length", "fits"), [(1, True), (16, True), (76, True), (77, False), (255, False)])
def test_the_nonce_has_the_length_that_the_header_says(length: int, *, fits: bool) -> None:
    """Other HSMs, other nonces: the length is read, never assumed; a byte of ciphertext and the tag must be left."""
    raw = RAW[:40] + bytes((length,)) + RAW[41:]
    if fits:
        parsed = blob.parse(raw)
        assert (len(parsed.nonce), len(parsed.ciphertext)) == (length, len(RAW) - 41 - length)
        assert parsed.header + parsed.nonce + parsed.ciphertext == raw
    else:
        with pytest.raises(blob.BadBlob):
            blob.parse(raw)


def test_no_dek_is_as_long_as_the_limit() -> None:
    assert blob.parse(HEADER + bytes(blob.LONGEST - 41)).version == 7
    with pytest.raises(blob.BadBlob):
        blob.parse(HEADER + bytes(blob.LONGEST - 40))


def test_the_tenant_is_bound_with_its_length() -> None:
    assert blob.aad(HEADER, "acme") == HEADER + b"\x00\x04acme"
    assert blob.aad(HEADER, "bänk") == HEADER + b"\x00\x05b\xc3\xa4nk"
