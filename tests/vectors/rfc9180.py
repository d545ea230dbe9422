"""Opening an HPKE message step by step as RFC 9180 says, with nothing but HMAC, DH and AES-GCM: the other party's code.

Base mode, HKDF-SHA256, AES-256-GCM, first message. KEMs: DHKEM(X25519), DHKEM(P-256), and MLKEM768-X25519
(draft-ietf-hpke-pq, which takes the combiner of X-Wing).
"""

import hmac
from hashlib import sha3_256, sha256

from cryptography.hazmat.primitives.asymmetric.ec import ECDH, SECP256R1, EllipticCurvePublicKey, derive_private_key
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEMS = {"p256": (0x0010, 65), "x25519": (0x0020, 32), "mlkem768-x25519": (0x647A, 1120)}


def extract(salt: bytes, label: bytes, material: bytes, suite: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + material, "sha256")


def expand(secret: bytes, label: bytes, info: bytes, length: int, suite: bytes) -> bytes:
    """One block is enough: no output here is longer than 32 bytes."""
    labeled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(secret, labeled + b"\x01", sha256)[:length]


def decapsulate(suite: str, private: bytes, public: bytes, enc: bytes) -> bytes:
    if suite == "mlkem768-x25519":
        exchange = X25519PrivateKey.from_private_bytes(private[64:])
        post_quantum = MLKEM768PrivateKey.from_seed_bytes(private[:64]).decapsulate(enc[:1088])
        classic = exchange.exchange(X25519PublicKey.from_public_bytes(enc[1088:]))
        return sha3_256(post_quantum + classic + enc[1088:] + public[1184:] + b"\\.//^\\").digest()
    if suite == "x25519":
        shared = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(enc))
    else:
        point = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), enc)
        shared = derive_private_key(int.from_bytes(private, "big"), SECP256R1()).exchange(ECDH(), point)
    kem = b"KEM" + KEMS[suite][0].to_bytes(2, "big")
    return expand(extract(b"", b"eae_prk", shared, kem), b"shared_secret", enc + public, 32, kem)


def open_base(suite: str, private: bytes, public: bytes, info: bytes, sealed: bytes, aad: bytes = b"") -> bytes:
    kem, length = KEMS[suite]
    shared = decapsulate(suite, private, public, sealed[:length])
    name = b"HPKE" + kem.to_bytes(2, "big") + b"\x00\x01" + b"\x00\x02"
    context = b"\x00" + extract(b"", b"psk_id_hash", b"", name) + extract(b"", b"info_hash", info, name)
    secret = extract(shared, b"secret", b"", name)
    key, nonce = expand(secret, b"key", context, 32, name), expand(secret, b"base_nonce", context, 12, name)
    return AESGCM(key).decrypt(nonce, sealed[length:], aad)
