"""The ledger's bytes, by hand: what was written once is read for ever."""

from uuid import UUID

import pytest

from worker.chain.outcomes import decode, encode
from worker.model.codes import Code
from worker.model.outcomes import Commanded, Failed, Outcome, Rewrapped, Unwrapped, Wrapped
from worker.model.replies import ClientListResult

ID, KEY = UUID(bytes=b"i" * 16), UUID(bytes=b"k" * 16)
PLACE = b"i" * 16 + b"k" * 16 + b"\x00\x00\x01\x02"
GOLDEN: list[tuple[Outcome, bytes]] = [
    (Failed(Code.NOT_FOUND), b"\x01NOT_FOUND"),
    (Wrapped(ID, KEY, 258, b"blob"), b"\x02" + PLACE + b"blob"),
    (Rewrapped(ID, KEY, 258, b"blob", unchanged=False), b"\x03\x00" + PLACE + b"blob"),
    (Rewrapped(ID, KEY, 258, b"blob", unchanged=True), b"\x03\x01" + PLACE + b"blob"),
    (Commanded(ClientListResult(clients=[], more=False)), b'\x04{"clients":[],"more":false}'),
]


@pytest.mark.parametrize(("outcome", "raw"), GOLDEN)
def test_the_released_bytes(outcome: Outcome, raw: bytes) -> None:
    assert encode(outcome) == raw
    assert decode(raw) == outcome


def test_plaintext_is_left_out() -> None:
    assert encode(Wrapped(ID, KEY, 258, b"blob", b"plaintext")) == GOLDEN[1][1]


@pytest.mark.parametrize("code", Code)
def test_retryable_refusals_stay_open(code: Code) -> None:
    raw = encode(Failed(code))
    if code in {Code.DEFERRED, Code.KEK_OPENING, Code.THROTTLED}:
        assert raw is None
    else:
        assert raw is not None
        assert decode(raw) == Failed(code)


def test_an_unwrap_is_never_kept() -> None:
    with pytest.raises(TypeError, match="never ledgered"):
        encode(Unwrapped(KEY, 1, b"dek"))


@pytest.mark.parametrize(
    "raw", [b"", b"\x00", b"\x05", b"\x01", b"\x01NO_SUCH_CODE", b"\x02" + PLACE[:15], b"\x03", b"\x04", b"\x04{}"]
)
def test_what_encode_never_wrote_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(raw)
