"""What AES-GCM protects for one DEK: length (1 byte) ‖ DEK (16 to 64 bytes) ‖ SHA-256 of the context (32 bytes).

The digest travels inside, so a rewrap copies it and needs no context, and a blob betrays nothing of its context.
"""

from typing import Final

MIN_DEK: Final = 16
MAX_DEK: Final = 64
DIGEST_BYTES: Final = 32


def pack(dek: bytes, context_digest: bytes) -> bytes:
    """The plaintext of a wrapped DEK. Raises `ValueError` when a length is out of its range."""
    if not MIN_DEK <= len(dek) <= MAX_DEK:
        raise ValueError("a DEK has 16 to 64 bytes")
    if len(context_digest) != DIGEST_BYTES:
        raise ValueError("a context digest has 32 bytes")
    return len(dek).to_bytes(1, "big") + dek + context_digest


def unpack(payload: bytes) -> tuple[bytes, bytes]:
    """The DEK and the context digest. Raises `ValueError` when the bytes were not made by `pack`."""
    size = payload[0] if payload else 0
    if not MIN_DEK <= size <= MAX_DEK or len(payload) != 1 + size + DIGEST_BYTES:
        raise ValueError("not a DEK payload")
    return payload[1 : 1 + size], payload[1 + size :]
