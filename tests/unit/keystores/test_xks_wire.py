"""XKS answers: which fault each status and error name is (XKS.md, last paragraph), and the outer blob's bytes."""

import json
from base64 import b64encode
from hashlib import sha256

import pytest

from worker.edges.keystores.https import Answer
from worker.edges.keystores.xks_wire import Decrypted, Encrypted, Fleet, Metadata, Sealed, fault_of, read
from worker.model.keystores import (
    KeystoreForbidden,
    KeystoreRefused,
    KeystoreThrottled,
    KeystoreUnreachable,
)

AAD, TEXT = b"aad", b"0123456789"
SEALED = Sealed(b"i" * 12, b"t" * 16, b"meta", b"ciphertext")


def answer(status: int, name: str = "", body: bytes | None = None, retry_after_s: float = 0.0) -> Answer:
    told = json.dumps({"errorName": name, "errorMessage": "s3cret"}).encode() if body is None else body
    return Answer(status, told, retry_after_s)


@pytest.mark.parametrize(
    ("status", "name", "fault"),
    [
        (400, "ValidationException", KeystoreRefused),
        (400, "InvalidStateException", KeystoreForbidden),
        (400, "InvalidCiphertextException", KeystoreRefused),
        (400, "InvalidKeyUsageException", KeystoreRefused),
        (401, "AuthenticationFailedException", KeystoreForbidden),
        (403, "AccessDeniedException", KeystoreForbidden),
        (404, "KeyNotFoundException", KeystoreForbidden),
        (404, "InvalidUriPathException", KeystoreRefused),
        (429, "ThrottlingException", KeystoreThrottled),
        (500, "InternalException", KeystoreUnreachable),
        (501, "UnsupportedOperationException", KeystoreRefused),
        (503, "DependencyTimeoutException", KeystoreUnreachable),
        (400, "NobodyKnowsThisException", KeystoreRefused),
        (502, "", KeystoreUnreachable),
        (302, "", KeystoreUnreachable),
    ],
)
def test_each_error_name_has_its_fault(status: int, name: str, fault: type[Exception]) -> None:
    found = fault_of(answer(status, name), "encrypt 42")
    assert type(found) is fault
    assert "42" in str(found)
    assert "s3cret" not in str(found)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"errorName": 3}', b'{"errorName": "a b"}', b"\xff"])
@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (400, KeystoreUnreachable),
        (404, KeystoreUnreachable),
        (500, KeystoreUnreachable),
        (401, KeystoreForbidden),
        (403, KeystoreForbidden),
        (429, KeystoreThrottled),
    ],
)
def test_a_body_that_is_not_this_json_is_malformed(status: int, body: bytes, fault: type[Exception]) -> None:
    assert type(fault_of(answer(status, body=body), "x")) is fault


def test_throttling_carries_what_the_proxy_asks_for() -> None:
    fault = fault_of(answer(429, "ThrottlingException", retry_after_s=3.0), "x")
    assert isinstance(fault, KeystoreThrottled)
    assert fault.retry_after_s == 3.0


GOOD_METADATA = {"keySpec": "AES_256", "keyUsage": ["ENCRYPT", "DECRYPT"], "keyStatus": "ENABLED"}


def test_an_answer_is_read_and_later_fields_are_no_error() -> None:
    body = json.dumps(GOOD_METADATA | {"later": 1}).encode()
    assert read(Metadata, Answer(200, body), "x").keyStatus == "ENABLED"


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (Metadata, GOOD_METADATA | {"keyStatus": "PERHAPS"}),
        (Metadata, {}),
        (Decrypted, {"plaintext": "no base64!"}),
        (Decrypted, {"plaintext": 3}),
        (Decrypted, {"plaintext": None}),
        (Fleet, {"xksProxyVendor": "a", "xksProxyModel": "b", "ekmFleetDetails": []}),
    ],
)
def test_an_answer_of_another_form_is_malformed(form: type[Metadata], body: dict[str, object]) -> None:
    with pytest.raises(KeystoreUnreachable, match="malformed"):
        read(form, Answer(200, json.dumps(body).encode()), "x")


def encrypted(**more: bytes) -> Encrypted:
    fields = {
        "ciphertext": SEALED.ciphertext,
        "initializationVector": SEALED.iv,
        "authenticationTag": SEALED.tag,
        "ciphertextMetadata": SEALED.metadata,
        "ciphertextDataIntegrityValue": SEALED.integrity(AAD),
    }
    return Encrypted.model_validate({name: b64encode(value).decode() for name, value in (fields | more).items()})


def test_the_integrity_value_is_that_of_the_specification() -> None:
    assert SEALED.integrity(AAD) == sha256(AAD + b"meta" + b"i" * 12 + b"ciphertext" + b"t" * 16).digest()
    assert Sealed.of(encrypted(), TEXT, AAD) == SEALED


@pytest.mark.parametrize(
    "more",
    [
        {"ciphertextDataIntegrityValue": bytes(32)},
        {"ciphertextDataIntegrityValue": b""},
        {"ciphertext": b"ciphertexT"},
        {"authenticationTag": b"T" * 16},
        {"initializationVector": b"I" * 12},
        {"ciphertextMetadata": b"Meta"},
        {"ciphertext": b"longer than it was"},
        {"initializationVector": b"i" * 13},
        {"authenticationTag": b"t" * 15},
        {"ciphertextMetadata": b"m" * 21},
    ],
)
def test_a_damaged_wrap_is_noticed(more: dict[str, bytes]) -> None:
    with pytest.raises(KeystoreUnreachable, match="malformed"):
        Sealed.of(encrypted(**more), TEXT, AAD)


def test_a_ciphertext_of_another_length_is_noticed_even_if_it_is_vouched_for() -> None:
    longer = Sealed(SEALED.iv, SEALED.tag, SEALED.metadata, b"longer than it was")
    made = encrypted(ciphertext=longer.ciphertext, ciphertextDataIntegrityValue=longer.integrity(AAD))
    with pytest.raises(KeystoreUnreachable, match="lengths"):
        Sealed.of(made, TEXT, AAD)


def test_a_missing_integrity_value_is_malformed() -> None:
    text = b64encode(b"i" * 16).decode()
    told = dict.fromkeys(("ciphertext", "initializationVector", "authenticationTag"), text)
    with pytest.raises(KeystoreUnreachable, match="malformed"):
        read(Encrypted, Answer(200, json.dumps(told).encode()), "x")


def test_golden_blob() -> None:
    golden = "010c" + "69" * 12 + "74" * 16 + "04" + b"meta".hex() + b"ciphertext".hex()
    assert SEALED.pack().hex() == golden
    assert Sealed.unpack(bytes.fromhex(golden)) == SEALED
    bare = Sealed(b"i" * 16, b"t" * 16, b"", b"")
    assert Sealed.unpack(bare.pack()) == bare


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\1",
        b"\2" + SEALED.pack()[1:],
        b"\1\x0b" + SEALED.pack()[2:],
        SEALED.pack()[:30],
        SEALED.pack()[:31],
        SEALED.pack()[:34],
        SEALED.pack()[:30] + bytes([21]) + bytes(40),
        Sealed(b"i" * 12, b"t" * 16, b"", bytes(4301)).pack(),
    ],
)
def test_what_is_no_blob_is_refused(blob: bytes) -> None:
    with pytest.raises(KeystoreRefused):
        Sealed.unpack(blob)
