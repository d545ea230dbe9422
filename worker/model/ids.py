"""Identifiers: UUIDv7 made from a given time and given bits, so that this file needs no clock and no randomness."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from hashlib import _Hash

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
    return uuid7(unix_ms, _bits(_hashed(parts).digest()))


def derived_ids(unix_ms: int, indexes: Iterable[int], *parts: str) -> list[UUID]:
    """One UUIDv7 for each index, all from the same parts; never one that `derived_id` makes."""
    begun, made = _hashed(parts), []
    for index in indexes:
        digest = begun.copy()
        digest.update(b"#%d" % index)
        made.append(uuid7(unix_ms, _bits(digest.digest())))
    return made


def moment_of(made: UUID) -> int:
    """The Unix milliseconds in a UUIDv7."""
    return made.int >> 80


def _hashed(parts: Iterable[str]) -> _Hash:
    digest = sha256()
    for part in parts:
        raw = part.encode()
        digest.update(len(raw).to_bytes(4, "big"))
        digest.update(raw)
    return digest


def _bits(digest: bytes) -> int:
    return int.from_bytes(digest[:10], "big")
