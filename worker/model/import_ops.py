"""What the river asks of the HSM to bring a customer's key in (SECURITY S12), and what comes back."""

from dataclasses import dataclass
from uuid import UUID

from worker.model.imports import ImportAlgorithm


@dataclass(frozen=True, slots=True)
class CreateImportPair:
    """Have an RSA key pair labelled `material` that only unwraps, proved for this algorithm (S12).

    Making one takes seconds and is not waited for: `Fault.UNAVAILABLE` until it is there.
    """

    material: UUID
    algorithm: ImportAlgorithm
    bits: int


@dataclass(frozen=True, slots=True)
class ImportMaster:
    """Unwrap a customer's AES-256 key as an L1 labelled `material`, with the pair whose public half is `public_key`.

    `check_value` is what he says of it; `serial` names the token that has the pair. `canary` is what an earlier import
    of the same key left, empty at the first.
    `Fault.BAD_CIPHERTEXT` is the one answer to everything that is wrong once decryption has begun.
    """

    key: UUID
    version: int
    material: UUID
    pair: UUID
    public_key: bytes
    algorithm: ImportAlgorithm
    blob: bytes
    check_value: bytes
    serial: str
    canary: bytes = b""


@dataclass(frozen=True, slots=True)
class DestroyImportPair:
    """Delete every private key labelled `material`; that none is there any more is no error."""

    material: UUID


@dataclass(frozen=True, slots=True)
class ImportPair:
    """Of `CreateImportPair`: the public half (DER SubjectPublicKeyInfo) and the token that holds the other.

    `fleet` and its signature over the statement about it are put there before it is concluded (S1).
    """

    public_key: bytes
    serial: str
    fleet: str = ""
    signature: bytes = b""


@dataclass(frozen=True, slots=True)
class ImportedMaster:
    """Of `ImportMaster`: the token that holds the key, and the canary to keep."""

    serial: str
    canary: bytes
