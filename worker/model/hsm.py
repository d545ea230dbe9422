"""What the river asks of the HSM, and what comes back: whole operations, never single PKCS#11 calls."""

from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from worker.model.fleet import FleetKind
from worker.model.import_ops import CreateImportPair, DestroyImportPair, ImportedMaster, ImportMaster, ImportPair
from worker.model.keystores import KeystoreAddress


class Purpose(StrEnum):
    """What a key does for its whole life (SECURITY S5)."""

    WRAPS_KEYS = "wraps-keys"
    WRAPS_DEKS = "wraps-deks"


class Wrapping(StrEnum):
    """How a key version is kept: as a token object, or wrapped under its parent (recorded per version)."""

    TOKEN = "token"  # noqa: S105 - the kind of protection, not a secret
    AES_KWP = "aes-kwp"
    """RFC 5649."""
    AES_KW = "aes-kw"
    """RFC 3394."""
    EXTERNAL = "external"
    """An L1 that stays in the customer's keystore (S13): here is only the link's inner key, a token object."""


@dataclass(frozen=True, slots=True)
class Outside:
    """The customer's keystore between a wrapped key and the token that opens it (S13).

    `digest` is the SHA-256 of the inner blob, empty for a key that is to be made; `aad` what the keystore binds it to.
    """

    link: UUID
    address: KeystoreAddress
    aad: bytes
    digest: bytes = b""


@dataclass(frozen=True, slots=True)
class Kek:
    """One key version and the way to open it: itself and its ancestors up to a token object.

    `revision` is the version row's revision and part of the handle cache's key (S8). For a token object
    `material` is its CKA_LABEL (hex) and `serial` the token that holds it; otherwise `wrapped` and `parent` are set.
    With `outside`, `wrapped` is the customer's keystore's blob, and what it holds is wrapped under the parent.
    """

    key: UUID
    version: int
    revision: int
    purpose: Purpose
    wrapping: Wrapping
    wrapped: bytes = b""
    parent: "Kek | None" = None
    material: UUID | None = None
    serial: str = ""
    outside: Outside | None = None


@dataclass(frozen=True, slots=True)
class WrapDek:
    """Encrypt a DEK under `kek` with AES-256-GCM. `dek` empty: take `size` bytes from the token's generator."""

    kek: Kek
    aad: bytes
    context_digest: bytes
    size: int
    dek: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class UnwrapDek:
    """Decrypt a DEK; `ciphertext` ends with the 16-byte tag."""

    kek: Kek
    aad: bytes
    nonce: bytes
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class RewrapDek:
    """Decrypt under `source`, encrypt under `target` with the context digest kept, decrypt again and compare.

    `reveal`: the result tells the DEK and its context digest, too.
    """

    source: Kek
    source_aad: bytes
    nonce: bytes
    ciphertext: bytes
    target: Kek
    target_aad: bytes
    reveal: bool = False


@dataclass(frozen=True, slots=True)
class CreateKey:
    """Make an AES-256 key inside the token and wrap it under `parent` (S6); nothing of it stays in the token.

    `inner`: the parent is a link's inner key. Then the result is no wrapped key yet but what the keystore has to wrap.
    """

    parent: Kek
    key: UUID
    version: int
    purpose: Purpose
    inner: bool = False


@dataclass(frozen=True, slots=True)
class OpenKey:
    """Keep a handle of `kek`, which has an `outside`, from the inner blob that the keystore gave back.

    The blob's digest is compared before anything is unwrapped; the blob itself is not kept.
    """

    kek: Kek
    inner: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CreateOutside:
    """Make a key as `CreateKey` does, and let the customer's keystore wrap what comes of it. No token does this."""

    parent: Kek
    key: UUID
    version: int
    purpose: Purpose
    outside: Outside


@dataclass(frozen=True, slots=True)
class CreateLink:
    """Try the customer's key, then make the link's inner key as `CreateMaster` does. No token does this."""

    address: KeystoreAddress
    key: UUID
    version: int
    material: UUID


@dataclass(frozen=True, slots=True)
class RewrapKey:
    """Take a wrapped key from under its parent `source` and wrap it under `target`, both inside the token (S6).

    Then unwrap what was made, wrap it under the old parent and compare: AES-KW and AES-KWP give the same bytes again.
    """

    source: Kek
    key: UUID
    version: int
    purpose: Purpose
    wrapping: Wrapping
    wrapped: bytes
    target: Kek


@dataclass(frozen=True, slots=True)
class CreateMaster:
    """Make an L1 as a token object labelled `material`; if one with that label is there already, that one is it."""

    key: UUID
    version: int
    material: UUID


@dataclass(frozen=True, slots=True)
class DestroyMaster:
    """Delete every object labelled `material` of the token `serial`; that none is there any more is no error."""

    key: UUID
    version: int
    material: UUID
    serial: str


@dataclass(frozen=True, slots=True)
class CreateFleetKey:
    """Make the next version of a fleet key as a token object; one that a lost try left under its label is it.

    Of a signing key: `predecessor` is the public half of the version before, empty for the one that `init` made, and
    both keys sign the rotation, which begins at `not_before_ms`.
    """

    kind: FleetKind
    number: int
    not_before_ms: int
    predecessor: bytes = b""


HsmOp = (
    WrapDek
    | UnwrapDek
    | RewrapDek
    | CreateKey
    | CreateMaster
    | DestroyMaster
    | CreateImportPair
    | ImportMaster
    | DestroyImportPair
    | RewrapKey
    | OpenKey
    | CreateOutside
    | CreateLink
    | CreateFleetKey
)


def keks_of(op: HsmOp) -> tuple[Kek, ...]:
    """The KEKs that an operation uses, in the order in which its group takes their handles."""
    match op:
        case WrapDek() | UnwrapDek():
            return (op.kek,)
        case RewrapDek() | RewrapKey():
            return (op.source, op.target)
        case CreateKey():
            return (op.parent,)
        case _:
            return ()


@dataclass(frozen=True, slots=True)
class WrappedDek:
    """Of `WrapDek` and `RewrapDek`. `ciphertext` ends with the tag; a rewrap fills the rest only to `reveal` it."""

    nonce: bytes
    ciphertext: bytes
    dek: bytes = field(default=b"", repr=False)
    context_digest: bytes = b""


@dataclass(frozen=True, slots=True)
class UnwrappedDek:
    """Of `UnwrapDek`. The context digest is not yet compared."""

    dek: bytes = field(repr=False)
    context_digest: bytes


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """Of `CreateKey`, `RewrapKey` and `CreateOutside`: the wrapped bytes and the mechanism that made them.

    `digest` is the SHA-256 of the inner blob where `wrapped` is a keystore's.
    """

    wrapped: bytes
    wrapping: Wrapping
    digest: bytes = b""


@dataclass(frozen=True, slots=True)
class CreatedMaster:
    """Of `CreateMaster` and `CreateLink`: the serial of the token that holds the object.

    `external_version` is the version of the customer's key, as far as its keystore tells one.
    """

    serial: str
    external_version: str = ""


@dataclass(frozen=True, slots=True)
class DestroyedMaster:
    """Of `DestroyMaster` and `DestroyImportPair`: how many objects were deleted."""

    objects: int


@dataclass(frozen=True, slots=True)
class CreatedFleetKey:
    """Of `CreateFleetKey`. All fields are a signing key's: its public half, the one before it, and both signatures."""

    public_key: bytes = b""
    predecessor: bytes = b""
    by_predecessor: bytes = b""
    by_itself: bytes = b""


@dataclass(frozen=True, slots=True)
class OpenedKey:
    """Of `OpenKey`."""


@dataclass(frozen=True, slots=True)
class Condemned:
    """A key version that is about to be destroyed; `revision` is its row's. Handles of it, and below it, must go."""

    key: UUID
    version: int
    revision: int


class Fault(StrEnum):
    """Why one HSM operation failed. Only the first two blame the caller's bytes."""

    BAD_CIPHERTEXT = "bad-ciphertext"
    UNSUPPORTED = "unsupported"
    INTEGRITY = "integrity"
    """A handle's CKA_ID, a KEK's wrapped bytes or an unwrap-and-compare did not match."""
    UNAVAILABLE = "unavailable"
    """The device, a session or the login: confirmed by a canary, healed in the background, worth a retry."""
    ELSEWHERE = "elsewhere"
    """The L1 is in another token than this worker's (S19)."""
    COLD = "cold"
    """The way up leads to a customer's keystore, and nothing is open: it opens in the background."""
    FORBIDDEN = "forbidden"
    """The customer says no."""
    UNREACHABLE = "unreachable"
    """The customer's keystore has not answered for longer than the fleet goes on without it."""
    BUSY = "busy"
    """The customer's keystore asks to come again later."""
    UNFIT = "unfit"
    """The customer's key is not what a link needs, or this fleet's settings know no way to it."""


@dataclass(frozen=True, slots=True)
class HsmFault:
    """One operation failed; its neighbours did not. `detail` is for the log and holds no secret."""

    fault: Fault
    detail: str = ""


HsmResult = (
    WrappedDek
    | UnwrappedDek
    | CreatedKey
    | CreatedMaster
    | DestroyedMaster
    | OpenedKey
    | ImportPair
    | ImportedMaster
    | CreatedFleetKey
    | HsmFault
)
