"""A token that always succeeds, for the pure rooms."""

from hashlib import sha256

from worker.model.fleet import FleetKind
from worker.model.hsm import (
    CreatedFleetKey,
    CreatedKey,
    CreatedMaster,
    CreateFleetKey,
    CreateKey,
    CreateLink,
    CreateMaster,
    CreateOutside,
    DestroyedMaster,
    DestroyMaster,
    HsmOp,
    HsmResult,
    OpenedKey,
    OpenKey,
    RewrapDek,
    RewrapKey,
    UnwrapDek,
    UnwrappedDek,
    WrapDek,
    WrappedDek,
    Wrapping,
)
from worker.model.import_ops import (
    CreateImportPair,
    DestroyImportPair,
    ImportedMaster,
    ImportMaster,
    ImportPair,
)

NONCE = b"n" * 12
SEALED_BYTES = 32 + 16
"""What the fake answers below add to a ciphertext; its content means nothing here."""


def answer(op: HsmOp) -> HsmResult:  # noqa: C901, PLR0911 - one table of all operations
    """What a healthy token says; the context digest it unwraps is that of an empty context."""
    match op:
        case WrapDek():
            return WrappedDek(NONCE, b"c" * (op.size + SEALED_BYTES), op.dek or b"d" * op.size)
        case RewrapDek():
            revealed = (b"d" * 32, sha256(b"").digest()) if op.reveal else ()
            return WrappedDek(NONCE, b"r" * len(op.ciphertext), *revealed)
        case UnwrapDek():
            return UnwrappedDek(b"d" * 32, sha256(b"").digest())
        case CreateKey() | RewrapKey():
            return CreatedKey(b"wrapped" * 6, Wrapping.AES_KW)
        case CreateMaster():
            return CreatedMaster("token-9")
        case CreateOutside():
            return CreatedKey(b"outer" * 8, Wrapping.AES_KWP, b"i" * 32)
        case CreateLink():
            return CreatedMaster("token-9", "7")
        case OpenKey():
            return OpenedKey()
        case DestroyMaster() | DestroyImportPair():
            return DestroyedMaster(1)
        case CreateFleetKey():
            return answer_rotation(op)
        case _:
            return answer_import(op)


def answer_import(op: CreateImportPair | ImportMaster) -> HsmResult:
    """The same, of imports."""
    if isinstance(op, CreateImportPair):
        return ImportPair(b"public", "token-9", "dev-test", b"s" * 64)
    return ImportedMaster("token-9", op.canary or b"canary")


def answer_rotation(op: CreateFleetKey) -> HsmResult:
    """The same, of the fleet's own keys."""
    if op.kind is FleetKind.SIGNING:
        return CreatedFleetKey(b"new", b"old", b"by old", b"by new")
    return CreatedFleetKey()
