"""The digest that binds a DEK to its context without betraying it.

    context  = *( length key length value )   ; keys sorted by their UTF-8 bytes, no normalisation
    length   = 4OCTET                         ; of what follows, big-endian

An empty context is no context: the digest of no bytes. (DESIGN, "The wire contract"; AWS has the same idea.)
"""

from collections.abc import Mapping
from hashlib import sha256

DIGEST_BYTES = 32
EMPTY = sha256(b"").digest()


def digest(context: Mapping[str, str]) -> bytes:
    """SHA-256 over the canonical form: 32 bytes."""
    if not context:
        return EMPTY
    return sha256(canonical(context)).digest()


def canonical(context: Mapping[str, str]) -> bytes:
    """The bytes that are hashed."""
    pairs = sorted((key.encode(), value.encode()) for key, value in context.items())
    return b"".join(len(part).to_bytes(4, "big") + part for pair in pairs for part in pair)


def size(context: Mapping[str, str]) -> int:
    """Bytes of all keys and values together, for the limit."""
    return sum(len(key.encode()) + len(value.encode()) for key, value in context.items())
