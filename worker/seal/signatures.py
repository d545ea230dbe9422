"""Signatures of requests and answers: detached JWS (RFC 7515, appendix F) with Ed25519 (RFC 9864) or ES256 (RFC 7518).

The header holds exactly `alg` and `kid`. The algorithm is always the registered one, which the header must repeat;
nothing is ever chosen by the header (S2). Done on `cryptography` itself, for every request pays for it.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from worker.model.rows import Algorithm
from worker.seal.errors import BadKey, BadSignature
from worker.seal.secrets import Unpicklable

MAX_JWS = 1024
"""Characters. A kid of 127 and a 64-byte signature need less than 400; the rest is not parsed."""
POINT_BYTES = 65
SIGNATURE_BYTES = 64
_SCALAR_BYTES = 32
_KEYS_KEPT = 4096
_ECDSA = ECDSA(SHA256())


class Signer(Protocol):
    """Something that signs under one name: a key in memory, or one in a token."""

    @property
    def kid(self) -> str:
        """The name under which the public key is known."""

    @property
    def algorithm(self) -> Algorithm:
        """What it signs with."""

    @property
    def public_key(self) -> bytes:
        """32 bytes (Ed25519) or a 65-byte uncompressed point (ES256)."""

    def sign(self, message: bytes) -> bytes:
        """64 bytes: an Ed25519 signature (RFC 8032), or r ‖ s (RFC 7518, section 3.4)."""


class Ed25519Signer(Unpicklable):
    """Signs with an Ed25519 key in memory."""

    __slots__ = ("_private_key", "kid", "public_key")
    algorithm = Algorithm.ED25519

    def __init__(self, kid: str, private_key: Ed25519PrivateKey) -> None:
        self.kid = kid
        self.public_key = private_key.public_key().public_bytes_raw()
        self._private_key = private_key

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature."""
        return self._private_key.sign(message)


class ES256Signer(Unpicklable):
    """Signs with a P-256 key in memory."""

    __slots__ = ("_private_key", "kid", "public_key")
    algorithm = Algorithm.ES256

    def __init__(self, kid: str, private_key: EllipticCurvePrivateKey) -> None:
        if not isinstance(private_key.curve, SECP256R1):
            raise BadKey("ES256 needs a P-256 key")
        self.kid = kid
        self.public_key = private_key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self._private_key = private_key

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes r ‖ s."""
        r, s = decode_dss_signature(self._private_key.sign(message, _ECDSA))
        return r.to_bytes(_SCALAR_BYTES, "big") + s.to_bytes(_SCALAR_BYTES, "big")


def sign_jws(signer: Signer, payload: bytes) -> str:
    """The detached JWS over `payload`: header, two dots, signature."""
    header = _encode(json.dumps({"alg": signer.algorithm, "kid": signer.kid}, separators=(",", ":")).encode())
    return f"{header}..{_encode(signer.sign(_signing_input(header, payload)))}"


def verify_jws(text: str, payload: bytes, algorithm: Algorithm, public_key: bytes) -> None:
    """Raise BadSignature unless `text` is a detached JWS over `payload` by this key under this algorithm."""
    header, signature = _split(text)
    named, _ = _parse_header(header)
    if named != algorithm:
        raise BadSignature("the algorithm is not the registered one")
    verify_raw(algorithm, public_key, _decode(signature), _signing_input(header, payload))


def jws_kid(text: str) -> str:
    """Whose signature it claims to be; nothing is verified yet."""
    header, _ = _split(text)
    return _parse_header(header)[1]


def verify_raw(algorithm: Algorithm, public_key: bytes, signature: bytes, message: bytes) -> None:
    """Raise BadSignature unless the 64 bytes are this key's signature over `message`; BadKey if it is no key."""
    if len(signature) != SIGNATURE_BYTES:
        raise BadSignature("a signature has 64 bytes")
    verifier = _verifier(algorithm, public_key)
    try:
        verifier(signature, message)
    except InvalidSignature:
        raise BadSignature("the signature does not hold") from None


def check_public_key(algorithm: Algorithm, public_key: bytes) -> None:
    """Raise BadKey unless the bytes are a public key of this algorithm."""
    _verifier(algorithm, public_key)


@lru_cache(maxsize=_KEYS_KEPT)
def _verifier(algorithm: Algorithm, public_key: bytes) -> Callable[[bytes, bytes], None]:
    try:
        if algorithm is Algorithm.ED25519:
            return Ed25519PublicKey.from_public_bytes(public_key).verify
        point = _point(public_key)
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey(f"not a public key for {algorithm}") from None

    def verify(signature: bytes, message: bytes) -> None:
        r, s = int.from_bytes(signature[:_SCALAR_BYTES], "big"), int.from_bytes(signature[_SCALAR_BYTES:], "big")
        point.verify(encode_dss_signature(r, s), message, _ECDSA)

    return verify


def _point(raw: bytes) -> EllipticCurvePublicKey:
    if len(raw) != POINT_BYTES:
        raise ValueError("a key has one form: the uncompressed point")
    return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), raw)


def _split(text: str) -> tuple[str, str]:
    header, dots, signature = text.partition("..")
    if len(text) > MAX_JWS or not dots:
        raise BadSignature("not a detached JWS in compact form")
    return header, signature


@lru_cache(maxsize=_KEYS_KEPT)
def _parse_header(segment: str) -> tuple[str, str]:
    """The algorithm and the kid; a client's header never changes, so it is parsed once."""
    try:
        pairs = json.loads(_decode(segment).decode(), object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        pairs = None
    # An object (a tuple here) with these two pairs: none is doubled, unknown or critical (RFC 7515, section 4.1.11).
    if not isinstance(pairs, tuple) or sorted(pair[0] for pair in pairs) != ["alg", "kid"]:
        raise BadSignature("the header must hold alg and kid and nothing else")
    header = dict(pairs)
    if not isinstance(header["alg"], str) or not isinstance(header["kid"], str):
        raise BadSignature("alg and kid must be text")
    return header["alg"], header["kid"]


def _signing_input(header: str, payload: bytes) -> bytes:
    return f"{header}.{_encode(payload)}".encode()


def _encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Strict base64url without padding: exactly one text for each value, so a signature has one form."""
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (Base64Error, ValueError):
        raw = b""
    if _encode(raw) != text:
        raise BadSignature("not base64url without padding")
    return raw
