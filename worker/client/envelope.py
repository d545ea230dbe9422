"""Envelope encryption: data is encrypted here with a DEK, and the wrapped DEK (its blob or its id) stands with it.

Released formats are readable for ever.

    envelope       = prefix kind wrapped-length wrapped nonce ciphertext tag
    prefix         = magic format algorithm
    magic          = %x4B %x45      ; "KE"
    format         = %x01
    algorithm      = %x01           ; AES-256-GCM, 16-byte tag (NIST SP 800-38D)
    kind           = blob / id
    blob           = %x01           ; wrapped is the DEK's blob (worker.chain.blob)
    id             = %x02           ; wrapped is the 16 bytes of the stored DEK's UUID
    wrapped-length = 2OCTET         ; big-endian
    wrapped        = 1*OCTET        ; wrapped-length of them
    nonce          = 12OCTET        ; random
    ciphertext     = *OCTET
    tag            = 16OCTET

    gcm-aad        = prefix context-digest aad
    context-digest = 32OCTET        ; SHA-256 of the context's pairs, sorted by key, each text length-prefixed (4 bytes)
    aad            = *OCTET         ; the caller's

The wrapped DEK is not in the AAD: a rewrap replaces it and touches no data. Another DEK in its place fails the tag.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol, TypeVar
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from worker.client.dek_cache import DEFAULT_LIMITS, DekCache, Limits
from worker.client.errors import BadEnvelope, RequestRefused
from worker.client.results import ItemError, Rewrapped, Unwrapped, WrappedDek
from worker.model.bodies import DekItem, RewrapItem
from worker.seal.frames import framed
from worker.seal.secrets import Unpicklable

PREFIX = b"KE\x01\x01"
BLOB, ID = 1, 2
NONCE_BYTES = 12
TAG_BYTES = 16
FIXED_BYTES = len(PREFIX) + 3
ID_BYTES = 16
MOST_USES = 2**32
"""Random nonces under one key (SP 800-38D, section 8.3)."""

Context = Mapping[str, str]
_R = TypeVar("_R")


class Keys(Protocol):
    """What an envelope needs of `KeyriverClient`."""

    async def generate(
        self, key: str, count: int = 1, *, contexts: Sequence[Context] | None = None, store: bool = True
    ) -> list[WrappedDek | ItemError]:
        """See `KeyriverClient`."""
        ...

    async def unwrap(self, items: Sequence[DekItem]) -> list[Unwrapped | ItemError]:
        """See `KeyriverClient`."""
        ...

    async def rewrap(self, items: Sequence[RewrapItem]) -> list[Rewrapped | ItemError]:
        """See `KeyriverClient`."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """A parsed envelope. `ciphertext` ends with the tag."""

    kind: int
    wrapped: bytes
    nonce: bytes
    ciphertext: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Dek(Unpicklable):
    """A DEK ready for use, and how it is named in an envelope."""

    cipher: AESGCM = field(repr=False)
    kind: int
    wrapped: bytes


class Envelope:
    """Encrypts under one key. A DEK serves one context, `limits.uses` pieces of data, `limits.age_s` seconds.

    `context` binds the DEK: it can't be unwrapped without it. `aad` binds only the data: put there what differs from
    record to record (a row's id), so that records share a DEK. `store`: wrapped DEKs stay with the fleet and envelopes
    hold ids; otherwise they hold the blobs, and `rewrap` moves them.
    """

    def __init__(self, keys: Keys, key: str, *, store: bool = True, limits: Limits = DEFAULT_LIMITS) -> None:
        if not 0 < limits.uses <= MOST_USES:
            raise ValueError("limits.uses: 1 to 2^32, for nonces are random")
        self._keys = keys
        self._key = key
        self._store = store
        self._writing: DekCache[bytes, _Dek] = DekCache(limits)
        self._reading: DekCache[tuple[bytes, bytes], _Dek] = DekCache(limits)

    async def encrypt(self, data: bytes, context: Context | None = None, aad: bytes = b"") -> bytes:
        """The envelope of `data`. Raises what `KeyriverClient.generate` raises; `RequestRefused` also for its item."""
        bound = dict(context or {})
        digest = context_digest(bound)
        dek = await self._writing.get(digest, lambda: self._generate(bound))
        nonce = secrets.token_bytes(NONCE_BYTES)
        return join(Parts(dek.kind, dek.wrapped, nonce, dek.cipher.encrypt(nonce, data, PREFIX + digest + aad)))

    async def decrypt(self, envelope: bytes, context: Context | None = None, aad: bytes = b"") -> bytes:
        """The data. Raises `BadEnvelope` or what `KeyriverClient.unwrap` raises, `RequestRefused` also for one item."""
        parts = split(envelope)
        bound = dict(context or {})
        digest = context_digest(bound)
        dek = await self._reading.get((parts.wrapped, digest), lambda: self._unwrap(parts, bound))
        try:
            return dek.cipher.decrypt(parts.nonce, parts.ciphertext, PREFIX + digest + aad)
        except InvalidTag:
            raise BadEnvelope("the envelope was changed, or its AAD is another one") from None

    async def rewrap(self, envelope: bytes) -> bytes:
        """The envelope with its DEK's blob moved to the current key version. A stored DEK is the fleet's to move."""
        parts = split(envelope)
        if parts.kind == ID:
            return envelope
        moved = _value(await self._keys.rewrap([RewrapItem(blob=parts.wrapped)]))
        if moved.blob is None:
            raise BadEnvelope("the answer to a rewrap of a blob holds no blob")
        return join(Parts(BLOB, moved.blob, parts.nonce, parts.ciphertext))

    async def _generate(self, context: Context) -> _Dek:
        made = _value(await self._keys.generate(self._key, contexts=[context], store=self._store))
        wrapped = made.id.bytes if self._store and made.id is not None else made.blob
        if made.dek is None or wrapped is None:
            raise BadEnvelope("the answer to a generate holds no DEK, or nothing to find it by")
        return _Dek(_cipher(made.dek), ID if self._store else BLOB, wrapped)

    async def _unwrap(self, parts: Parts, context: Context) -> _Dek:
        named = {"id": UUID(bytes=parts.wrapped)} if parts.kind == ID else {"blob": parts.wrapped}
        found = _value(await self._keys.unwrap([DekItem.model_validate({**named, "context": context})]))
        return _Dek(_cipher(found.dek), parts.kind, parts.wrapped)


def context_digest(context: Context) -> bytes:
    """SHA-256 over the pairs, sorted by the keys' UTF-8 bytes; the same digest that binds a DEK in its blob."""
    pairs = sorted((key.encode(), value.encode()) for key, value in context.items())
    return sha256(framed(*[text for pair in pairs for text in pair])).digest()


def join(parts: Parts) -> bytes:
    """The envelope's bytes."""
    length = len(parts.wrapped).to_bytes(2, "big")
    return b"".join((PREFIX, bytes((parts.kind,)), length, parts.wrapped, parts.nonce, parts.ciphertext))


def split(envelope: bytes) -> Parts:
    """Read an envelope. Raises `BadEnvelope`; whether it is authentic only its DEK can tell."""
    kind, length = envelope[4:5], int.from_bytes(envelope[5:7], "big")
    begin = FIXED_BYTES + length
    if not envelope.startswith(PREFIX) or len(envelope) < begin + NONCE_BYTES + TAG_BYTES or not length:
        raise BadEnvelope("not an envelope of a known format")
    if kind[0] not in (BLOB, ID) or (kind[0] == ID and length != ID_BYTES):
        raise BadEnvelope("not an envelope of a known kind")
    return Parts(
        kind=kind[0],
        wrapped=envelope[FIXED_BYTES:begin],
        nonce=envelope[begin : begin + NONCE_BYTES],
        ciphertext=envelope[begin + NONCE_BYTES :],
    )


def _cipher(dek: bytes) -> AESGCM:
    try:
        return AESGCM(dek)
    except ValueError:
        raise BadEnvelope("its DEK is not an AES key") from None


def _value(results: Sequence[_R | ItemError]) -> _R:
    (result,) = results
    if isinstance(result, ItemError):
        raise RequestRefused(result.code, result.message, retry=result.retry)
    return result
