"""Statements about import parameters, and keys wrapped for them in software."""

from dataclasses import replace
from hashlib import sha256
from uuid import UUID

import pytest
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from worker.model.imports import SAFE_ALGORITHMS, ImportAlgorithm
from worker.seal.errors import BadCertificate, BadKey
from worker.seal.importing import ImportStatement, check_value, public_rsa_key, wrap_key

PRIVATE = rsa.generate_private_key(65537, 3072)
PUBLIC = PRIVATE.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
FLEET = ec.generate_private_key(ec.SECP256R1())
POINT = FLEET.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
SAID = ImportStatement(
    "dev-x", "acme", UUID(int=1), UUID(int=2), ImportAlgorithm.RSAES_OAEP_SHA_256, PUBLIC, "t'1\n", 10
)


def signed(payload: bytes) -> bytes:
    r, s = decode_dss_signature(FLEET.sign(payload, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def test_a_statement_is_text_of_ten_lines_whatever_the_token_calls_itself() -> None:
    lines = SAID.payload().decode("ascii").split("\n")
    assert (lines[0], lines[-1], len(lines)) == ("keyriver-import/1", "", 10)
    assert f"public-key-sha256: {sha256(PUBLIC).hexdigest()}" in lines
    assert 'token: "t\'1\\n"' in lines


def test_what_the_fleet_signed_holds_until_it_is_over() -> None:
    SAID.check("dev-x", POINT, signed(SAID.payload()), 9)
    for wrong, now_ms in ((SAID, 10), (replace(SAID, fleet="dev-y"), 9), (replace(SAID, tenant="bolt"), 9)):
        with pytest.raises(BadCertificate):
            wrong.check("dev-x", POINT, signed(SAID.payload()), now_ms)
    no_key = replace(SAID, public_key=b"no key")
    with pytest.raises(BadCertificate):
        no_key.check("dev-x", POINT, signed(no_key.payload()), 9)


def test_only_rsa_keys_are_import_keys() -> None:
    curve = FLEET.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for wrong in (b"", curve):
        with pytest.raises(BadKey):
            public_rsa_key(wrong)


@pytest.mark.parametrize("algorithm", ImportAlgorithm)
def test_a_wrapped_key_opens_with_the_private_half(algorithm: ImportAlgorithm) -> None:
    key, transport = bytes(range(32)), bytes(range(32, 64))
    blob = wrap_key(PUBLIC, algorithm, key, transport)
    assert len(blob) == algorithm.blob_bytes(3072)
    digest = hashes.SHA1() if algorithm.uses_sha1 else hashes.SHA256()  # noqa: S303
    opened = PRIVATE.decrypt(blob[:384], padding.OAEP(padding.MGF1(digest), digest, None))
    if algorithm.has_transport_key:
        opened = keywrap.aes_key_unwrap_with_padding(opened, blob[384:])
    assert opened == key
    assert (algorithm in SAFE_ALGORITHMS) is not algorithm.uses_sha1


def test_the_check_value_is_that_of_pkcs_11() -> None:
    """FIPS 197, appendix C.3's key; the first bytes of a zero block under it."""
    assert check_value(bytes(range(32))).hex() == "f29000"
