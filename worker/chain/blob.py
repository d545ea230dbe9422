"""The wrapped DEK as bytes. Released formats are readable for ever.

    blob         = header nonce ciphertext tag
    header       = magic format algorithm key-id key-version dek-id nonce-length
    magic        = %x4B %x52           ; "KR"
    format       = %x01
    algorithm    = %x01                ; AES-256-GCM, 16-byte tag (NIST SP 800-38D)
    key-id       = 16OCTET             ; UUID of the KEK
    key-version  = 4OCTET              ; big-endian, counts from 1
    dek-id       = 16OCTET             ; UUID of the stored DEK, all zero if it is not stored
    nonce-length = OCTET
    nonce        = 1*OCTET             ; nonce-length of them
    ciphertext   = 1*OCTET
    tag          = 16OCTET

    aad          = header 2OCTET tenant  ; the tenant's length, big-endian, and its name in UTF-8

The nonce is not in the AAD: some HSMs make it themselves while they encrypt.
"""

from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from worker.model.ids import NO_ID

MAGIC = b"KR"
FORMAT = 1
AES_256_GCM = 1
NONCE_BYTES = 12
TAG_BYTES = 16
HEADER_BYTES = 41
WHOSE_BYTES = 24
"""Of the header: up to key and version, which blobs under one version share."""
SHORTEST = HEADER_BYTES + 1 + 1 + TAG_BYTES
LONGEST = HEADER_BYTES + 255 + 1024
"""No DEK payload comes near this; longer input is refused before anything is computed on it."""

_PREFIX = MAGIC + bytes((FORMAT, AES_256_GCM))
_SUFFIX = bytes((NONCE_BYTES,))


@lru_cache(maxsize=1024)
def _key_id(raw: bytes) -> UUID:
    """Many blobs name few keys, and making a UUID costs more than the rest of `parse`."""
    return UUID(bytes=raw)


class BadBlob(ValueError):
    """These bytes are not a wrapped DEK of a known format."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A parsed blob. `ciphertext` ends with the tag."""

    header: bytes
    key: UUID
    version: int
    dek: UUID
    nonce: bytes
    ciphertext: bytes


def header(key: UUID, version: int, dek: UUID) -> bytes:
    """The header of a new blob, 41 bytes."""
    return header_of(whose(key, version), dek.bytes)


def whose(key: UUID, version: int) -> bytes:
    """The first 24 octets of a header: all blobs under one version begin with them."""
    return _PREFIX + key.bytes + version.to_bytes(4, "big")


def header_of(begin: bytes, dek: bytes) -> bytes:
    """The header that begins with `whose`, of the DEK with these 16 octets: for many blobs under one version."""
    return begin + dek + _SUFFIX


def aad(head: bytes, tenant: str) -> bytes:
    """The additional authenticated data of a blob with this header."""
    return head + aad_end(tenant)


@lru_cache(maxsize=1024)
def aad_end(tenant: str) -> bytes:
    """What the additional data of a tenant's blobs end with."""
    name = tenant.encode()
    return len(name).to_bytes(2, "big") + name


def split(raw: bytes) -> tuple[bytes, bytes, bytes]:
    """Header, nonce and ciphertext with its tag. Raises `BadBlob`; whether it is authentic only the token can tell."""
    if not SHORTEST <= len(raw) <= LONGEST:
        raise BadBlob
    if raw[:4] != _PREFIX:
        raise BadBlob
    nonce_end = HEADER_BYTES + raw[40]
    if raw[40] == 0 or len(raw) < nonce_end + 1 + TAG_BYTES:
        raise BadBlob
    return raw[:HEADER_BYTES], raw[HEADER_BYTES:nonce_end], raw[nonce_end:]


def parse(raw: bytes) -> Blob:
    """Read a blob. Raises `BadBlob`, as `split`."""
    head, nonce, ciphertext = split(raw)
    return Blob(
        header=head,
        key=_key_id(raw[4:20]),
        version=int.from_bytes(raw[20:24], "big"),
        dek=NO_ID if raw[24:40] == NO_ID.bytes else UUID(bytes=raw[24:40]),
        nonce=nonce,
        ciphertext=ciphertext,
    )
