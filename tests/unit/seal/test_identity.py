"""An identity document reads back as it was written, is refused when a field is wrong, and shows no secret."""

import json
import pickle

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from worker.model.rows import Algorithm, Suite
from worker.seal import hpke
from worker.seal.errors import BadIdentity
from worker.seal.identity import Identity, dump_identity, generate_private_key_pem, parse_identity
from worker.seal.signatures import ES256Signer, sign_jws, verify_jws

FLEET_KEY = ES256Signer("fleet", generate_private_key(SECP256R1())).public_key
ALGORITHMS = list(Algorithm)


def identity(algorithm: Algorithm = Algorithm.ED25519, suite: Suite = Suite.X25519) -> Identity:
    return Identity(
        client="payments",
        tenant="acme",
        fleet="dev-f",
        fleet_key=FLEET_KEY,
        algorithm=algorithm,
        private_key=generate_private_key_pem(algorithm),
        recipient=hpke.generate_keypair(suite),
        reply_topic="keyriver.replies.v1",
    )


def pem(curve: SECP256R1 | SECP384R1, *, locked: bool = False) -> str:
    protection = BestAvailableEncryption(b"secret") if locked else NoEncryption()
    return generate_private_key(curve).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection).decode()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("suite", list(Suite))
def test_it_reads_back_and_signs(algorithm: Algorithm, suite: Suite) -> None:
    written = identity(algorithm, suite)
    read = parse_identity(dump_identity(written))
    assert read == written
    signer = read.signer()
    assert signer.kid == "payments"
    verify_jws(sign_jws(signer, b"said"), b"said", algorithm, written.signer().public_key)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("client", "No Spaces"),
        ("fleet_key", "AAAA"),
        ("algorithm", "none"),
        ("private_key", "nonsense"),
        ("private_key", generate_private_key_pem(Algorithm.ES256)),
        ("private_key", pem(SECP256R1(), locked=True)),
        ("recipient_suite", "p257"),
        ("recipient_private_key", "AAAA"),
        ("surprise", 1),
    ],
)
def test_the_refusal_names_the_field_and_not_its_value(name: str, value: object) -> None:
    document = json.loads(dump_identity(identity()))
    with pytest.raises(BadIdentity, match=name) as refusal:
        parse_identity(json.dumps({**document, name: value}).encode())
    assert str(value) not in str(refusal.value).replace(name, "")


@pytest.mark.parametrize("key", [generate_private_key_pem(Algorithm.ED25519), pem(SECP384R1())])
def test_es256_needs_a_p256_key(key: str) -> None:
    document = json.loads(dump_identity(identity(Algorithm.ES256)))
    with pytest.raises(BadIdentity, match="private_key"):
        parse_identity(json.dumps({**document, "private_key": key}).encode())


@pytest.mark.parametrize("document", [b"", b"[]", b"\xff"])
def test_what_is_no_document_is_refused(document: bytes) -> None:
    with pytest.raises(BadIdentity, match="not JSON"):
        parse_identity(document)


def test_no_secret_is_printed_or_travels() -> None:
    one = identity()
    assert one.private_key not in repr(one)
    assert repr(one.recipient.private) not in repr(one)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(one)
