"""The ledger's bytes, by hand: what was written once is read for ever."""

from uuid import UUID

import pytest

from worker.chain.outcomes import BadOutcome, decode, encode, recall
from worker.model.codes import Code
from worker.model.effects import LedgerEntry
from worker.model.operations import Operation
from worker.model.outcomes import Commanded, Failed, Outcome, Rewrapped, Unwrapped, Wrapped
from worker.model.replies import ClientListResult
from worker.model.requests import LedgerKey

ID, KEY = UUID(bytes=b"i" * 16), UUID(bytes=b"k" * 16)
PLACE = b"i" * 16 + b"k" * 16 + b"\x00\x00\x01\x02"
GOLDEN: list[tuple[Outcome, bytes]] = [
    (Failed(Code.NOT_FOUND), b"\x01NOT_FOUND"),
    (Wrapped(ID, KEY, 258, b"blob"), b"\x02" + PLACE + b"blob"),
    (Rewrapped(ID, KEY, 258, b"blob", unchanged=False), b"\x03\x00" + PLACE + b"blob"),
    (Rewrapped(ID, KEY, 258, b"blob", unchanged=True), b"\x03\x01" + PLACE + b"blob"),
    (
        Commanded(ClientListResult(clients=[], more=False)),
        b'\x04{"tampered":null,"next_after":null,"clients":[],"more":false}',
    ),
]


@pytest.mark.parametrize(("outcome", "raw"), GOLDEN)
def test_the_released_bytes(outcome: Outcome, raw: bytes) -> None:
    assert encode(outcome) == raw
    assert decode(raw) == outcome


def test_bytes_from_before_a_field_are_read() -> None:
    assert decode(b'\x04{"clients":[],"more":false}') == Commanded(ClientListResult(clients=[], more=False))


def test_plaintext_is_left_out() -> None:
    assert encode(Wrapped(ID, KEY, 258, b"blob", b"plaintext")) == GOLDEN[1][1]


@pytest.mark.parametrize("code", Code)
def test_retryable_refusals_stay_open(code: Code) -> None:
    raw = encode(Failed(code))
    if code in {Code.DEFERRED, Code.WRONG_TOKEN, Code.KEK_OPENING, Code.THROTTLED, Code.KEYSTORE_UNREACHABLE}:
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


def _entry(*outcomes: bytes | None) -> LedgerEntry:
    return LedgerEntry(LedgerKey("acme", "billing", "tests", "1"), Operation.WRAP, b"", outcomes)


def test_a_request_recalls_one_outcome_for_each_item() -> None:
    (failed, raw_failed), (wrapped, raw_wrapped) = GOLDEN[:2]
    assert recall(None, 2, Wrapped) == [None, None]
    assert recall(_entry(raw_wrapped, None, raw_failed), 3, Wrapped) == [wrapped, None, failed]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_and_too_many_outcomes_are_refused(count: int) -> None:
    with pytest.raises(BadOutcome):
        recall(_entry(*[GOLDEN[1][1]] * 2), count, Wrapped)


@pytest.mark.parametrize("kind", [Rewrapped, Commanded])
def test_the_outcome_of_another_operation_is_refused(kind: type[Rewrapped | Commanded]) -> None:
    with pytest.raises(BadOutcome):
        recall(_entry(None, GOLDEN[1][1]), 2, kind)
