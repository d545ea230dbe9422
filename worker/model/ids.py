"""Identifiers: UUIDv7 made from a given time and given bits, so that this file needs no clock and no randomness."""

from hashlib import sha256
from uuid import UUID

NO_ID = UUID(int=0)
"""Stands in a blob's header where the DEK is not stored."""

_RANDOM_MASK = (1 << 74) - 1


def uuid7(unix_ms: int, bits: int) -> UUID:
    """A UUIDv7 (RFC 9562, section 5.7) from a time in Unix milliseconds and 74 bits of anything unique."""
    bits &= _RANDOM_MASK
    value = (unix_ms & ((1 << 48) - 1)) << 80 | 0x7 << 76 | (bits >> 62) << 64 | 0b10 << 62 | bits & ((1 << 62) - 1)
    return UUID(int=value)


def derived_id(unix_ms: int, *parts: str) -> UUID:
    """The same UUIDv7 for the same parts: a redelivered request names the same objects again.

    Parts are length-prefixed before hashing, so that ("ab", "c") and ("a", "bc") differ.
    """
    digest = sha256()
    for part in parts:
        raw = part.encode()
        digest.update(len(raw).to_bytes(4, "big"))
        digest.update(raw)
    return uuid7(unix_ms, int.from_bytes(digest.digest()[:10], "big"))
