"""What is signed, byte by byte, and signatures that must hold for ever, also for joserfc."""

import json
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey

from worker.model.rows import Algorithm
from worker.seal.announcements import IntakeAnnouncement, WorkerCertificate
from worker.seal.claims import EventClaims, ReplyClaims, RequestClaims, signed_digest
from worker.seal.signatures import Ed25519Signer, jws_kid, sign_jws, verify_jws

HERE = Path(__file__).parent
Claims = type[RequestClaims] | type[ReplyClaims] | type[EventClaims]


def read(name: str) -> Any:  # noqa: ANN401 - any JSON
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))


KEYS = read("keys")["signers"]
SIGNED = read("signatures")
CASES = [
    (kind, case)
    for kind, name in ((RequestClaims, "requests"), (ReplyClaims, "replies"), (EventClaims, "events"))
    for case in SIGNED[name]
]
OF_BYTES = {"recipient", "body_sha256", "request_sha256"}


def jwk(key: dict[str, str]) -> OKPKey | ECKey:
    raw = bytes.fromhex(key["public"])
    if key["algorithm"] == "Ed25519":
        return OKPKey.import_key(Ed25519PublicKey.from_public_bytes(raw))
    return ECKey.import_key(EllipticCurvePublicKey.from_encoded_point(SECP256R1(), raw))


@pytest.mark.parametrize(("kind", "case"), CASES)
def test_payload(kind: Claims, case: dict[str, Any]) -> None:
    claims: dict[str, Any] = {
        name: bytes.fromhex(value) if name in OF_BYTES else value for name, value in case["claims"].items()
    }
    assert kind(**claims).payload().hex() == case["payload"]


@pytest.mark.parametrize("case", [case for _, case in CASES])
def test_signatures_hold(case: dict[str, Any]) -> None:
    payload = bytes.fromhex(case["payload"])
    for signed in case["signatures"]:
        key, text = KEYS[signed["signer"]], signed["jws"]
        assert jws_kid(text) == key["kid"]
        verify_jws(text, payload, Algorithm(key["algorithm"]), bytes.fromhex(key["public"]))
        middle = urlsafe_b64encode(payload).rstrip(b"=").decode()
        jws.deserialize_compact(text.replace("..", f".{middle}."), jwk(key), algorithms=[key["algorithm"]])
        if key["algorithm"] == "Ed25519":
            private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key["private"]))
            assert sign_jws(Ed25519Signer(key["kid"], private), payload) == text


def test_the_reply_answers_the_first_request() -> None:
    request, reply = SIGNED["requests"][0], SIGNED["replies"][0]
    assert reply["claims"]["request_sha256"] == signed_digest(bytes.fromhex(request["payload"])).hex()


@pytest.mark.parametrize("case", read("announcements")["cases"], ids=lambda case: case["kind"])
def test_announcement(case: dict[str, Any]) -> None:
    kinds: dict[str, type[WorkerCertificate | IntakeAnnouncement]] = {
        "certificate": WorkerCertificate,
        "intake": IntakeAnnouncement,
    }
    kind = kinds[case["kind"]]
    said = kind.parse(
        case["value"].encode(), "dev-example", bytes.fromhex(KEYS["fleet"]["public"]), case["holds_at_ms"]
    )
    assert said.payload().hex() == case["payload"]
    assert said.record_key.decode() == case["record_key"]
    assert said.to_json(bytes.fromhex(case["signature"])).decode() == case["value"]
