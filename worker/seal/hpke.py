"""Sealing DEKs to a public key: HPKE (RFC 9180), base mode, one message per encapsulation (S4).

All suites use HKDF-SHA256 and AES-256-GCM. Raw keys, public and private: X25519 32 and 32 bytes (RFC 7748); P-256
65 bytes (uncompressed point) and 32 (big-endian scalar); MLKEM768-X25519 (draft-ietf-hpke-pq, KEM 0x647a) 1216
(ML-KEM encapsulation key ‖ X25519) and 96 (ML-KEM seed d ‖ z, then X25519: the draft's seed, expanded).
The draft suite is for transit only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Literal

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    derive_private_key,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from worker.model.rows import Suite
from worker.seal.errors import BadKey, BadSeal
from worker.seal.frames import framed
from worker.seal.secrets import Unpicklable

Direction = Literal["request", "reply"]
CONTEXT = b"keyriver/1"
_SCALAR = 32
_POINT = 65
_SEED = 64
_ENCAPSULATION_KEY = 1184
MAX_SLOT = 255
_KEYS_KEPT = 4096
_SUITES = {
    suite: hpke.Suite(kem, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    for suite, kem in (
        (Suite.X25519, hpke.KEM.X25519),
        (Suite.P256, hpke.KEM.P256),
        (Suite.MLKEM768_X25519, hpke.KEM.MLKEM768_X25519),
    )
}
_ANY_SCALAR = X25519PrivateKey.from_private_bytes(bytes(32))
"""No secret: only tells points of small order from others. (X25519 sets the bits that make it a scalar.)"""
_Public = X25519PublicKey | EllipticCurvePublicKey | hpke.MLKEM768X25519PublicKey
_Private = X25519PrivateKey | EllipticCurvePrivateKey | hpke.MLKEM768X25519PrivateKey


@dataclass(frozen=True, slots=True)
class KeyPair(Unpicklable):
    """A recipient's raw keys."""

    suite: Suite
    private: bytes = field(repr=False)
    public: bytes


class Opener(Unpicklable):
    """One private key, parsed once (25 to 120 µs, as much as an opening); keep it as long as the key may be used."""

    __slots__ = ("_private", "suite")

    def __init__(self, suite: Suite, private: bytes) -> None:
        self.suite = suite
        self._private = _parse_private(suite, private)

    def open(self, info: bytes, sealed: bytes) -> bytes:
        """The plaintext of `enc ‖ ct`; BadSeal whatever the reason, which must not be told (S9)."""
        try:
            return _SUITES[self.suite].decrypt(sealed, self._private, info)
        except (InvalidTag, ValueError):
            raise BadSeal("the sealed bytes do not open under this key and info") from None


def info(
    direction: Direction,
    suite: Suite,
    fleet: str,
    tenant: str,
    client: str,
    operation: str,
    request_id: str,
    recipient_public_key: bytes,
) -> bytes:
    """What a sealed message is bound to: nobody can pass it off under another name, direction or request (S4)."""
    texts = (direction, suite, fleet, tenant, client, operation, request_id)
    return framed(CONTEXT, *[text.encode() for text in texts], sha256(recipient_public_key).digest())


def seal(suite: Suite, public_key: bytes, info: bytes, plaintext: bytes) -> bytes:
    """`enc ‖ ct` for the holder of the private key; BadKey if the bytes are no usable public key of the suite."""
    return _SUITES[suite].encrypt(plaintext, _parse_public(suite, public_key), info)


def open_sealed(suite: Suite, private: bytes, info: bytes, sealed: bytes) -> bytes:
    """Open one message; who opens many under one key keeps an `Opener`."""
    return Opener(suite, private).open(info, sealed)


def check_public_key(suite: Suite, public_key: bytes) -> None:
    """Raise BadKey unless DEKs can be sealed to these bytes as a public key of this suite."""
    _parse_public(suite, public_key)


def generate_keypair(suite: Suite) -> KeyPair:
    """A new key pair from the operating system's generator."""
    if suite is Suite.X25519:
        return load_keypair(suite, X25519PrivateKey.generate().private_bytes_raw())
    if suite is Suite.P256:
        scalar = generate_private_key(SECP256R1()).private_numbers().private_value
        return load_keypair(suite, scalar.to_bytes(_SCALAR, "big"))
    private = MLKEM768PrivateKey.generate().private_bytes_raw() + X25519PrivateKey.generate().private_bytes_raw()
    return load_keypair(suite, private)


def load_keypair(suite: Suite, private: bytes) -> KeyPair:
    """The key pair of a raw private key; BadKey if it is none."""
    key = _parse_private(suite, private)
    if isinstance(key, X25519PrivateKey):
        return KeyPair(suite, private, key.public_key().public_bytes_raw())
    if isinstance(key, EllipticCurvePrivateKey):
        point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return KeyPair(suite, private, point)
    encapsulation = MLKEM768PrivateKey.from_seed_bytes(private[:_SEED]).public_key().public_bytes_raw()
    exchange = X25519PrivateKey.from_private_bytes(private[_SEED:]).public_key().public_bytes_raw()
    return KeyPair(suite, private, encapsulation + exchange)


def pack_slots(deks: Sequence[bytes]) -> bytes:
    """The plaintext of a message: DEKs in item order, each after one byte of length; a failed item's slot is empty.

    ValueError over 255 bytes.
    """
    if any(len(dek) > MAX_SLOT for dek in deks):
        raise ValueError("a slot holds at most 255 bytes")
    return b"".join([piece for dek in deks for piece in (len(dek).to_bytes(1, "big"), dek)])


def unpack_slots(packed: bytes, count: int) -> list[bytes]:
    """The DEKs again; BadSeal unless there are exactly `count` and nothing after them."""
    deks: list[bytes] = []
    position = 0
    while position < len(packed) and len(deks) < count:
        end = position + 1 + packed[position]
        deks.append(packed[position + 1 : end])
        position = end
    # A last slot that was cut short ends past the bytes, so `position` gives it away.
    if len(deks) != count or position != len(packed):
        raise BadSeal("the number of slots is not the number of items")
    return deks


def _bad_key(suite: Suite) -> BadKey:
    return BadKey(f"not a usable key for {suite}")


def _exchange_key(raw: bytes) -> X25519PublicKey:
    """ValueError for a point of small order too: with every key it gives an all-zero secret (RFC 7748, section 6.1)."""
    key = X25519PublicKey.from_public_bytes(raw)
    _ANY_SCALAR.exchange(key)
    return key


@lru_cache(maxsize=_KEYS_KEPT)
def _parse_public(suite: Suite, raw: bytes) -> _Public:
    try:
        if suite is Suite.X25519:
            return _exchange_key(raw)
        if suite is Suite.P256 and len(raw) == _POINT:
            return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), raw)
        return hpke.MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(raw[:_ENCAPSULATION_KEY]),
            _exchange_key(raw[_ENCAPSULATION_KEY:]),
        )
    except (ValueError, UnsupportedAlgorithm):
        raise _bad_key(suite) from None


def _parse_private(suite: Suite, raw: bytes) -> _Private:
    try:
        if suite is Suite.X25519:
            return X25519PrivateKey.from_private_bytes(raw)
        if suite is Suite.P256 and len(raw) == _SCALAR:
            return derive_private_key(int.from_bytes(raw, "big"), SECP256R1())
        return hpke.MLKEM768X25519PrivateKey(
            MLKEM768PrivateKey.from_seed_bytes(raw[:_SEED]), X25519PrivateKey.from_private_bytes(raw[_SEED:])
        )
    except (ValueError, UnsupportedAlgorithm):
        raise _bad_key(suite) from None
