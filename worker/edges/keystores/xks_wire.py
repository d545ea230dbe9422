"""What goes over the wire to an XKS proxy and what comes back (API version 1 of AWS's specification), without I/O.

The outer blob, which keeps what `decrypt` has to send:

    blob       = %x01 iv-length iv tag metadata-length metadata ciphertext
    iv-length  = OCTET            ; 12 or 16
    iv         = *OCTET
    tag        = 16OCTET
    metadata-length = OCTET       ; 0 to 20
    metadata   = *OCTET           ; the proxy's own
    ciphertext = *OCTET           ; as long as the plaintext
"""

from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worker.edges.keystores.bytes64 import Bytes64
from worker.edges.keystores.https import Answer
from worker.model.keystores import (
    KeystoreFault,
    KeystoreForbidden,
    KeystoreRefused,
    KeystoreThrottled,
    KeystoreUnreachable,
)

FORM = 1
IV_BYTES = (12, 16)
TAG_BYTES = 16
METADATA_BYTES = 20
PLAINTEXT_BYTES = 4300
"""What every proxy must take."""
T = TypeVar("T", bound=BaseModel)


class _Loose(BaseModel):
    """Fields that a later version adds are no error."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Metadata(_Loose):
    """The answer of `metadata`."""

    keySpec: str  # noqa: N815 - the wire's name
    keyUsage: tuple[str, ...]  # noqa: N815
    keyStatus: Literal["ENABLED", "DISABLED"]  # noqa: N815


class Encrypted(_Loose):
    """The answer of `encrypt`."""

    ciphertext: Bytes64
    initializationVector: Bytes64  # noqa: N815
    authenticationTag: Bytes64  # noqa: N815
    ciphertextMetadata: Bytes64 = b""  # noqa: N815
    ciphertextDataIntegrityValue: Bytes64  # noqa: N815


class Decrypted(_Loose):
    """The answer of `decrypt`."""

    plaintext: Bytes64 = Field(repr=False)


class Manager(_Loose):
    """One key manager behind the proxy."""

    healthStatus: Literal["ACTIVE", "DEGRADED", "UNAVAILABLE"]  # noqa: N815


class Fleet(_Loose):
    """The answer of `health`."""

    xksProxyVendor: str  # noqa: N815
    xksProxyModel: str  # noqa: N815
    ekmFleetDetails: Annotated[tuple[Manager, ...], Field(min_length=1, max_length=10)]  # noqa: N815


class _Error(_Loose):
    errorName: Annotated[str, Field(pattern=r"^[A-Za-z]{1,64}$")]  # noqa: N815


_FORBIDDEN = frozenset({"InvalidStateException", "KeyNotFoundException"})
_SAYS_NO = frozenset({401, 403})
_OUR_BUG = frozenset({"UnsupportedOperationException"})


def read(form: type[T], answer: Answer, call: str) -> T:
    """An answer of this form. `call` names the exchange in both sides' logs. Raises `KeystoreFault`."""
    if answer.status != 200:  # noqa: PLR2004
        raise fault_of(answer, call)
    try:
        return form.model_validate_json(answer.body)
    except ValidationError:
        raise KeystoreUnreachable(f"a malformed answer ({call})") from None


def fault_of(answer: Answer, call: str) -> KeystoreFault:
    """What an answer other than 200 means. 401, 403 and 429 speak for themselves; the rest goes by its name."""
    try:
        name = _Error.model_validate_json(answer.body).errorName
    except ValidationError:
        name = ""
    told = f"{answer.status} {name or 'without an error name'} ({call})"
    if answer.status in _SAYS_NO or name in _FORBIDDEN:
        return KeystoreForbidden(told)
    if answer.status == 429:  # noqa: PLR2004
        return KeystoreThrottled(told, answer.retry_after_s)
    if name and (answer.status < 500 or name in _OUR_BUG):  # noqa: PLR2004
        return KeystoreRefused(told)
    return KeystoreUnreachable(told)


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a proxy made of a plaintext."""

    iv: bytes
    tag: bytes
    metadata: bytes
    ciphertext: bytes

    @classmethod
    def of(cls, made: Encrypted, plaintext: bytes, aad: bytes) -> Self:
        """Check the answer before the plaintext is forgotten: lengths, and the integrity value that we asked for.

        Raises `KeystoreUnreachable`: the answer was damaged, another try may bring a whole one.
        """
        sealed = cls(made.initializationVector, made.authenticationTag, made.ciphertextMetadata, made.ciphertext)
        if not sealed._fits() or len(sealed.ciphertext) != len(plaintext):
            raise KeystoreUnreachable("a malformed answer: lengths")
        if not compare_digest(sealed.integrity(aad), made.ciphertextDataIntegrityValue):
            raise KeystoreUnreachable("a malformed answer: the integrity value is another")
        return sealed

    def integrity(self, aad: bytes) -> bytes:
        """SHA-256 over AAD ‖ metadata ‖ IV ‖ ciphertext ‖ tag, as the specification has it."""
        return sha256(aad + self.metadata + self.iv + self.ciphertext + self.tag).digest()

    def pack(self) -> bytes:
        """The outer blob."""
        head = bytes([FORM, len(self.iv)]) + self.iv + self.tag
        return head + bytes([len(self.metadata)]) + self.metadata + self.ciphertext

    @classmethod
    def unpack(cls, blob: bytes) -> Self:
        """Undo `pack`. Raises `KeystoreRefused`."""
        form, iv_length = blob[:2].ljust(2, b"\0")
        iv, rest = blob[2 : 2 + iv_length], blob[2 + iv_length :]
        tag, length, rest = rest[:TAG_BYTES], rest[TAG_BYTES : TAG_BYTES + 1], rest[TAG_BYTES + 1 :]
        size = length[0] if length else METADATA_BYTES + 1
        sealed = cls(iv, tag, rest[:size], rest[size:])
        if form != FORM or len(sealed.metadata) != size or not sealed._fits():
            raise KeystoreRefused("not a blob of an XKS proxy")
        return sealed

    def _fits(self) -> bool:
        lengths = len(self.iv) in IV_BYTES and len(self.tag) == TAG_BYTES and len(self.metadata) <= METADATA_BYTES
        return lengths and len(self.ciphertext) <= PLAINTEXT_BYTES
