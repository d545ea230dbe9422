"""Every limit of a body has its own code, and nothing that a caller can write takes long to be refused."""

import json

import pytest

from worker.flow.bodies import BodyLimits, read
from worker.model.bodies import UnwrapBody, WrapBody
from worker.model.codes import Code
from worker.model.fields import MAX_INT
from worker.model.operations import Operation

LIMITS = BodyLimits()
SIZE = LIMITS.request_bytes


def wrap(**changes: object) -> bytes:
    return json.dumps({"key": "acme/eu", "items": [{}]} | changes).encode()


def test_good_bodies() -> None:
    body = read(Operation.WRAP, wrap(items=[{"context": {"a": "b" * 100}}] * 1000), LIMITS)
    assert isinstance(body, WrapBody)
    assert len(body.items) == 1000
    assert isinstance(read(Operation.UNWRAP, b'{"items":[{"blob":"AAAA","context":{"[":"{"}}]}', LIMITS), UnwrapBody)
    assert isinstance(read(Operation.WRAP, wrap(key="a" * 256), LIMITS), WrapBody)
    full = {str(number): "x" for number in range(16)}
    assert isinstance(read(Operation.WRAP, wrap(items=[{"context": full}]), LIMITS), WrapBody)
    assert isinstance(read(Operation.WRAP, wrap(items=[{"context": {"k": "x" * 2047}}]), LIMITS), WrapBody)


OVER: list[tuple[Code, bytes]] = [
    (Code.TOO_MANY_ITEMS, wrap(items=[{}] * 1001)),
    (Code.TOO_MANY_ITEMS, b'{"key":"a","items":[' + b",".join([b"{}"] * (SIZE // 3)) + b"]}"),
    (Code.TOO_MANY_ITEMS, b'{"key":"a","items":[' + b",".join([b"[]"] * (SIZE // 3)) + b"]}"),
    (Code.ALIAS_TOO_LONG, wrap(key="a" * 257)),
    (Code.ALIAS_TOO_LONG, wrap(key="a" * 1_000_000)),
    (Code.CONTEXT_TOO_LARGE, wrap(items=[{"context": {str(number): "x" for number in range(17)}}])),
    (Code.CONTEXT_TOO_LARGE, wrap(items=[{}, {"context": {"k": "x" * 2048}}])),
    (Code.CONTEXT_TOO_LARGE, wrap(items=[{"context": {"k": "\u20ac" * 683}}])),
    (Code.TOO_DEEP, b"[" * 10_000 + b"]" * 10_000),
    (Code.TOO_DEEP, b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    (Code.TOO_DEEP, b"[" * SIZE),
    (Code.TOO_DEEP, b"[" * 17 + b"]" * 17),
]


@pytest.mark.parametrize(("code", "raw"), OVER, ids=range(len(OVER)))
def test_over_a_limit(code: Code, raw: bytes) -> None:
    assert read(Operation.WRAP, raw, LIMITS) is code


MALFORMED = [
    b"",
    b"null",
    b"NaN",
    b"[]",
    b"{}",
    b"\xff\xfe\x00",
    b"\xef\xbb\xbf{}",
    wrap().decode().encode("utf-16"),
    wrap().decode().encode("utf-32-le"),
    b'{"key":"acme/eu","items":[{}],"key":"acme/us"}',
    b'{"key":"acme/eu","items":[{"context":{"a":"1","a":"2"}}]}',
    b'{"key":"acme/eu","items":[{}],"store":1}',
    b'{"key":"acme/eu","items":[{"bits":"256"}]}',
    b'{"key":"acme/eu","items":[{"bits":256.0}]}'.replace(b"256.0", b"255"),
    b'{"key":"acme/eu","items":[{"bits":NaN}]}',
    b'{"key":"acme/eu","items":[{"bits":-Infinity}]}',
    b'{"key":"acme/eu","items":[{"bits":1e999}]}',
    b'{"key":"acme/eu","items":[{"bits":' + b"9" * 5000 + b"}]}",
    b'{"key":"acme/eu","items":[]}',
    b'{"key":"acme/eu","items":[{}],"unknown":0}',
    b'{"key":"acme/eu","items":[{"context":{"a":"\\ud800"}}]}',
    b'{"key":"acme/eu","items":[{"context":{"a":1}}]}',
    b'{"key":"acme/eu\\u0000","items":[{}]}',
    b'{"key":"ACME","items":[{}]}',
    b'{"key":"acme/eu","items":[{}]} trailing',
    b'{"key":"' + b'\\"' * (SIZE // 2),
    b'{"key":"' + b"[" * SIZE + b'","items":[{}]}',
    wrap(sealed={"sequence": 0, "ciphertext": ""}),
    wrap(sealed={"sequence": MAX_INT + 1, "ciphertext": ""}),
    wrap(sealed={"sequence": 10**30, "ciphertext": ""}),
    wrap(sealed={"sequence": 1, "ciphertext": "AAA"}),
    wrap(sealed={"sequence": 1, "ciphertext": "AA=="[::-1]}),
]


@pytest.mark.parametrize("raw", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed(raw: bytes) -> None:
    assert read(Operation.WRAP, raw, LIMITS) is Code.MALFORMED


ADD = {
    "tenant": "acme",
    "client": "billing",
    "public_key": "AAAA",
    "permissions": ["wrap"],
    "reply_topics": ["replies"],
    "not_after_ms": 1,
}


@pytest.mark.parametrize(
    "change",
    [
        {"not_after_ms": 2**63},
        {"not_after_ms": 0},
        {"pattern": "a\0"},
        {"pattern": "\ud800"},
        {"pattern": "*" * 257},
        {"reply_topics": ["a\0b"]},
        {"reply_topics": []},
        {"client": "a\0b"},
        {"permissions": ["everything"]},
    ],
    ids=str,
)
def test_an_officers_slip_is_malformed_and_reaches_no_table(change: dict[str, object]) -> None:
    assert not isinstance(read(Operation.CLIENT_ADD, json.dumps(ADD).encode(), LIMITS), Code)
    assert read(Operation.CLIENT_ADD, json.dumps(ADD | change).encode(), LIMITS) is Code.MALFORMED


@pytest.mark.parametrize("item", [{}, {"id": None}, {"id": "no uuid"}, {"blob": "AAAA", "id": "0" * 32}])
def test_an_item_is_an_id_or_a_blob(item: dict[str, object]) -> None:
    for operation in (Operation.UNWRAP, Operation.REWRAP):
        assert read(operation, json.dumps({"items": [item]}).encode(), LIMITS) is Code.MALFORMED
