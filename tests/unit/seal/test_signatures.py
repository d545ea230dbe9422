"""Detached JWS: joserfc is the independent oracle; what it would let pass and we must not is forged by hand."""

import json
import pickle
from base64 import urlsafe_b64encode
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey

from worker.model.rows import Algorithm
from worker.seal.errors import BadKey, BadSignature
from worker.seal.signatures import (
    Ed25519Signer,
    ES256Signer,
    Signer,
    check_public_key,
    jws_kid,
    sign_jws,
    verify_jws,
    verify_raw,
)

PAYLOAD = b"what was said"
ED_KEY = Ed25519PrivateKey.generate()
EC_KEY = generate_private_key(SECP256R1())
ED = Ed25519Signer("payments", ED_KEY)
EC = ES256Signer("payments", EC_KEY)
SIGNERS: list[Signer] = [ED, EC]


def b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def forged(header: bytes, signer: Signer = ED) -> str:
    """A JWS whose signature holds over a header of our choice."""
    segment = b64(header)
    return f"{segment}..{b64(signer.sign(f'{segment}.{b64(PAYLOAD)}'.encode()))}"


@pytest.mark.parametrize("signer", SIGNERS)
def test_what_we_sign_verifies(signer: Signer) -> None:
    text = sign_jws(signer, PAYLOAD)
    assert jws_kid(text) == "payments"
    verify_jws(text, PAYLOAD, signer.algorithm, signer.public_key)


@pytest.mark.parametrize(("signer", "key"), [(ED, OKPKey.import_key(ED_KEY)), (EC, ECKey.import_key(EC_KEY))])
def test_joserfc_reads_ours_and_we_read_its(signer: Signer, key: OKPKey | ECKey) -> None:
    head, tail = sign_jws(signer, PAYLOAD).split("..")
    read = jws.deserialize_compact(f"{head}.{b64(PAYLOAD)}.{tail}", key, algorithms=[signer.algorithm])
    assert read.headers() == {"alg": signer.algorithm, "kid": "payments"}
    theirs = jws.serialize_compact(
        {"kid": "payments", "alg": signer.algorithm}, PAYLOAD, key, algorithms=[signer.algorithm]
    )
    head, _, tail = theirs.split(".")
    verify_jws(f"{head}..{tail}", PAYLOAD, signer.algorithm, signer.public_key)


@pytest.mark.parametrize("signer", SIGNERS)
def test_another_payload_key_or_bit_is_refused(signer: Signer) -> None:
    text = sign_jws(signer, PAYLOAD)
    with pytest.raises(BadSignature):
        verify_jws(text, PAYLOAD + b"!", signer.algorithm, signer.public_key)
    other: Signer = (
        Ed25519Signer("x", Ed25519PrivateKey.generate())
        if signer is ED
        else ES256Signer("x", generate_private_key(SECP256R1()))
    )
    with pytest.raises(BadSignature):
        verify_jws(text, PAYLOAD, signer.algorithm, other.public_key)
    signature = signer.sign(PAYLOAD)
    for position in (0, 31, 32, 63):
        flipped = bytearray(signature)
        flipped[position] ^= 1
        with pytest.raises(BadSignature):
            verify_raw(signer.algorithm, signer.public_key, bytes(flipped), PAYLOAD)


def test_the_registered_algorithm_decides_never_the_header() -> None:
    with pytest.raises(BadSignature, match="registered"):
        verify_jws(sign_jws(ED, PAYLOAD), PAYLOAD, Algorithm.ES256, EC.public_key)
    for alg in ("none", "EdDSA", "HS256", "ed25519"):
        with pytest.raises(BadSignature, match="registered"):
            verify_jws(
                forged(json.dumps({"alg": alg, "kid": "payments"}).encode()), PAYLOAD, Algorithm.ED25519, ED.public_key
            )


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"Ed25519"}',
        b'{"alg":"Ed25519","kid":"a","crit":["b64"]}',
        b'{"alg":"Ed25519","kid":"a","b64":false}',
        b'{"alg":"Ed25519","kid":"a","kid":"b"}',
        b'{"alg":"Ed25519","alg":"Ed25519"}',
        b'{"alg":"Ed25519","kid":7}',
        b'{"alg":null,"kid":"a"}',
        b'[["alg","Ed25519"],["kid","a"]]',
        b"[1,2]",
        b"7",
        b"",
        b"\xff\xfe",
        b'{"alg":',
        b"[" * 700,
    ],
)
def test_a_header_that_is_not_exactly_ours_is_refused(header: bytes) -> None:
    text = forged(header)
    with pytest.raises(BadSignature):
        jws_kid(text)
    with pytest.raises(BadSignature):
        verify_jws(text, PAYLOAD, Algorithm.ED25519, ED.public_key)


def _last_letter(text: str) -> str:
    """The same bits with other, unused ones set: a sloppy decoder takes it for the same signature."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + letters[letters.index(text[-1]) + 1]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("..", "." + b64(PAYLOAD) + "."),
        lambda text: text.replace("..", "."),
        lambda text: text + ".",
        lambda text: text + "==",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text[:-2],
        lambda text: text[:-1],
        lambda text: text.split("..")[0] + "..",
        lambda text: text + "A" * 1024,
        lambda text: "é" + text,
        lambda text: text[:0],
        _last_letter,
    ],
)
def test_there_is_one_form_of_a_signature(spoil: Callable[[str], str]) -> None:
    text = spoil(sign_jws(ED, PAYLOAD))
    with pytest.raises(BadSignature):
        verify_jws(text, PAYLOAD, Algorithm.ED25519, ED.public_key)


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        (Algorithm.ED25519, b""),
        (Algorithm.ED25519, EC.public_key),
        (Algorithm.ES256, ED.public_key),
        (Algorithm.ES256, b"\x04" + bytes(64)),
        (Algorithm.ES256, EC_KEY.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)),
        (Algorithm.ES256, b"\x07" + EC.public_key[1:]),
    ],
    ids=("empty", "a point", "an Ed25519 key", "zeros", "compressed", "another form"),
)
def test_bytes_that_are_no_key_of_the_algorithm_are_refused(algorithm: Algorithm, key: bytes) -> None:
    with pytest.raises(BadKey):
        check_public_key(algorithm, key)


def test_a_good_key_passes() -> None:
    for signer in SIGNERS:
        check_public_key(signer.algorithm, signer.public_key)


def test_es256_is_p256_only() -> None:
    with pytest.raises(BadKey):
        ES256Signer("x", generate_private_key(SECP384R1()))


@pytest.mark.parametrize("signer", SIGNERS)
def test_signers_do_not_travel(signer: Signer) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(signer)
