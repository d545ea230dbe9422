"""The attributes of every object that this edge makes; always explicit, one purpose each (SECURITY S5, S6).

CKA_MODIFIABLE stands last: SoftHSM2 obeys it while it is still setting the rest.
"""

from typing import Final
from uuid import UUID

from worker.edges.hsm.binding import Attribute
from worker.edges.hsm.ck import (
    CKA_ALLOWED_MECHANISMS,
    CKA_CLASS,
    CKA_DECRYPT,
    CKA_DERIVE,
    CKA_EC_PARAMS,
    CKA_ENCRYPT,
    CKA_EXTRACTABLE,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKA_MODIFIABLE,
    CKA_MODULUS_BITS,
    CKA_PRIVATE,
    CKA_PUBLIC_EXPONENT,
    CKA_SENSITIVE,
    CKA_SIGN,
    CKA_TOKEN,
    CKA_UNWRAP,
    CKA_VERIFY,
    CKA_WRAP,
    CKK_AES,
    CKK_EC,
    CKK_GENERIC_SECRET,
    CKK_RSA,
    CKM_AES_GCM,
    CKM_ECDSA,
    CKM_SHA256_HMAC,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
    CKO_SECRET_KEY,
)
from worker.model.hsm import Purpose

Template = list[Attribute]

KEY_ID_BYTES: Final = 20
_F4: Final = b"\1\0\1"
_P256: Final = bytes.fromhex("06082a8648ce3d030107")
_USES: Final = (CKA_ENCRYPT, CKA_DECRYPT, CKA_SIGN, CKA_VERIFY, CKA_WRAP, CKA_UNWRAP, CKA_DERIVE)
_OF_PURPOSE: Final = {
    Purpose.WRAPS_KEYS: frozenset({CKA_WRAP, CKA_UNWRAP}),
    Purpose.WRAPS_DEKS: frozenset({CKA_ENCRYPT, CKA_DECRYPT}),
}


def key_id(key: UUID, version: int) -> bytes:
    """CKA_ID of a KEK: key id (16 bytes) ‖ version (4 bytes, big endian)."""
    return key.bytes + version.to_bytes(4, "big")


def _uses(allowed: frozenset[int]) -> Template:
    return [(use, use in allowed) for use in _USES]


def _restricted(mechanisms: tuple[int, ...]) -> Template:
    return [(CKA_ALLOWED_MECHANISMS, mechanisms)] if mechanisms else []


def kek(purpose: Purpose, identity: bytes, mechanisms: tuple[int, ...], *, extractable: bool = False) -> Template:
    """A session object that is a KEK. `mechanisms` empty: the token knows no CKA_ALLOWED_MECHANISMS."""
    return [
        (CKA_CLASS, CKO_SECRET_KEY),
        (CKA_KEY_TYPE, CKK_AES),
        (CKA_TOKEN, False),
        (CKA_PRIVATE, True),
        (CKA_SENSITIVE, True),
        (CKA_EXTRACTABLE, extractable),
        *_uses(_OF_PURPOSE[purpose]),
        (CKA_ID, identity),
        *_restricted(mechanisms),
        (CKA_MODIFIABLE, False),
    ]


def _kept_secret(kind: int, label: str, identity: bytes, uses: frozenset[int], mechanisms: tuple[int, ...]) -> Template:
    return [
        (CKA_CLASS, CKO_SECRET_KEY),
        (CKA_KEY_TYPE, kind),
        (CKA_TOKEN, True),
        (CKA_LABEL, label.encode()),
        (CKA_ID, identity),
        (CKA_PRIVATE, True),
        (CKA_SENSITIVE, True),
        (CKA_EXTRACTABLE, False),
        *_uses(uses),
        *_restricted(mechanisms),
        (CKA_MODIFIABLE, False),
    ]


def master(label: str, identity: bytes, mechanisms: tuple[int, ...]) -> Template:
    """An L1: a token object that wraps keys."""
    return _kept_secret(CKK_AES, label, identity, _OF_PURPOSE[Purpose.WRAPS_KEYS], mechanisms)


def row_mac(label: str, *, restrict: bool) -> Template:
    """The fleet's HMAC-SHA-256 key."""
    mechanisms = (CKM_SHA256_HMAC,) if restrict else ()
    return _kept_secret(CKK_GENERIC_SECRET, label, label.encode(), frozenset({CKA_SIGN, CKA_VERIFY}), mechanisms)


def intake_wrap(label: str, *, restrict: bool) -> Template:
    """The fleet's AES-GCM key for intake private keys."""
    mechanisms = (CKM_AES_GCM,) if restrict else ()
    return _kept_secret(CKK_AES, label, label.encode(), _OF_PURPOSE[Purpose.WRAPS_DEKS], mechanisms)


def signing_pair(label: str, identity: bytes, *, restrict: bool) -> tuple[Template, Template]:
    """The fleet's P-256 pair, public half first. `identity` is the CKA_ID of both."""
    public: Template = [
        (CKA_CLASS, CKO_PUBLIC_KEY),
        (CKA_KEY_TYPE, CKK_EC),
        (CKA_TOKEN, True),
        (CKA_PRIVATE, False),
        (CKA_LABEL, label.encode()),
        (CKA_ID, identity),
        (CKA_EC_PARAMS, _P256),
        (CKA_VERIFY, True),
        (CKA_ENCRYPT, False),
        (CKA_WRAP, False),
        (CKA_MODIFIABLE, False),
    ]
    private: Template = [
        (CKA_CLASS, CKO_PRIVATE_KEY),
        (CKA_KEY_TYPE, CKK_EC),
        (CKA_TOKEN, True),
        (CKA_PRIVATE, True),
        (CKA_LABEL, label.encode()),
        (CKA_ID, identity),
        (CKA_SENSITIVE, True),
        (CKA_EXTRACTABLE, False),
        (CKA_SIGN, True),
        (CKA_DECRYPT, False),
        (CKA_UNWRAP, False),
        (CKA_DERIVE, False),
        *_restricted((CKM_ECDSA,) if restrict else ()),
        (CKA_MODIFIABLE, False),
    ]
    return public, private


def _passing(uses: frozenset[int], mechanisms: tuple[int, ...], *, extractable: bool) -> Template:
    """A session object without a name, for the time of one import."""
    return [
        (CKA_CLASS, CKO_SECRET_KEY),
        (CKA_KEY_TYPE, CKK_AES),
        (CKA_TOKEN, False),
        (CKA_PRIVATE, True),
        (CKA_SENSITIVE, True),
        (CKA_EXTRACTABLE, extractable),
        *_uses(uses),
        *_restricted(mechanisms),
        (CKA_MODIFIABLE, False),
    ]


def transport(mechanism: int, *, restrict: bool) -> Template:
    """The AES key between an import key and the customer's: it unwraps, once."""
    return _passing(frozenset({CKA_UNWRAP}), (mechanism,) if restrict else (), extractable=False)


def checker(mechanism: int, *, restrict: bool) -> Template:
    """What a check value is taken of: it encrypts, and is wrapped once to weigh it (S6)."""
    return _passing(frozenset({CKA_ENCRYPT}), (mechanism,) if restrict else (), extractable=True)


def import_pair(material: UUID, bits: int, mechanisms: tuple[int, ...]) -> tuple[Template, Template]:
    """An RSA pair, public half first. The private half unwraps and does nothing else; the other is not kept."""
    public: Template = [
        (CKA_CLASS, CKO_PUBLIC_KEY),
        (CKA_KEY_TYPE, CKK_RSA),
        (CKA_TOKEN, False),
        (CKA_PRIVATE, False),
        (CKA_MODULUS_BITS, bits),
        (CKA_PUBLIC_EXPONENT, _F4),
        (CKA_ENCRYPT, False),
        (CKA_VERIFY, False),
        (CKA_WRAP, False),
        (CKA_MODIFIABLE, False),
    ]
    private: Template = [
        (CKA_CLASS, CKO_PRIVATE_KEY),
        (CKA_KEY_TYPE, CKK_RSA),
        (CKA_TOKEN, True),
        (CKA_PRIVATE, True),
        (CKA_LABEL, material.hex.encode()),
        (CKA_ID, material.bytes),
        (CKA_SENSITIVE, True),
        (CKA_EXTRACTABLE, False),
        (CKA_UNWRAP, True),
        (CKA_DECRYPT, False),
        (CKA_SIGN, False),
        (CKA_DERIVE, False),
        *_restricted(mechanisms),
        (CKA_MODIFIABLE, False),
    ]
    return public, private


def by_id(identity: bytes) -> Template:
    """A search for token objects that are one key version, whatever their labels."""
    return [(CKA_CLASS, CKO_SECRET_KEY), (CKA_TOKEN, True), (CKA_ID, identity)]


def by_label(kind: int, label: str) -> Template:
    """A search for token objects of one class and one label."""
    return [(CKA_CLASS, kind), (CKA_TOKEN, True), (CKA_LABEL, label.encode())]
