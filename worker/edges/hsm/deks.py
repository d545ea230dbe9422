"""Groups of operations on DEKs under the same KEKs: one draw from the generator, then call after call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from hmac import compare_digest

from worker.chain import payload
from worker.edges.hsm.ck import CkError
from worker.edges.hsm.crew import Crew
from worker.edges.hsm.probe import Nonces
from worker.edges.hsm.session import NONCE_BYTES, TAG_BYTES
from worker.model.hsm import (
    Fault,
    HsmFault,
    HsmResult,
    RewrapDek,
    UnwrapDek,
    UnwrappedDek,
    WrapDek,
    WrappedDek,
)

_LONGEST = 1 + payload.MAX_DEK + payload.DIGEST_BYTES + TAG_BYTES
_NOTHING = b"", b""
_NOT_A_DEK = HsmFault(Fault.BAD_CIPHERTEXT, "not a DEK's length")

Results = list[HsmResult | None]


def _seal(crew: Crew, key: int, nonce: bytes, aad: bytes, text: bytes) -> tuple[bytes, bytes]:
    """Nonce and ciphertext, whoever makes the nonce."""
    sealed = crew.session.encrypt(key, nonce, aad, text)
    match crew.device.abilities.nonces:
        case Nonces.OURS:
            return nonce, sealed
        case Nonces.WRITTEN:
            return crew.session.nonce(), sealed
        case Nonces.APPENDED:
            return sealed[-NONCE_BYTES:], sealed[:-NONCE_BYTES]


def wrap_group(crew: Crew, key: int, ops: Sequence[WrapDek], at: Sequence[int], results: Results) -> None:
    """Fill `results` at `at`. Raises `CkError` (of the draw) or `Away`; what is None then is not done."""
    sizes = [0 if ops[i].dek else ops[i].size for i in at]
    drawn = crew.session.random(sum(sizes) + NONCE_BYTES * len(at))
    start = 0
    for i, size in zip(at, sizes, strict=True):
        op, middle = ops[i], start + size
        dek, nonce = op.dek or drawn[start:middle], drawn[middle : middle + NONCE_BYTES]
        start = middle + NONCE_BYTES
        try:
            text = payload.pack(dek, op.context_digest)
        except ValueError as error:
            results[i] = HsmFault(Fault.UNSUPPORTED, str(error))
            continue
        try:
            made = _seal(crew, key, nonce, op.aad, text)
            results[i] = WrappedDek(made[0], made[1], dek)
        except CkError as error:
            results[i] = crew.again(error, Fault.UNAVAILABLE, partial(_wrap_one, crew, key, nonce, op.aad, text, dek))


def _wrap_one(crew: Crew, key: int, nonce: bytes, aad: bytes, text: bytes, dek: bytes) -> WrappedDek:
    made = _seal(crew, key, nonce, aad, text)
    return WrappedDek(made[0], made[1], dek)


def unwrap_group(crew: Crew, key: int, ops: Sequence[UnwrapDek], at: Sequence[int], results: Results) -> None:
    """Fill `results` at `at`. Raises `Away`; what is None then is not done."""
    for i in at:
        op = ops[i]
        try:
            results[i] = _unwrap_one(crew, key, op)
        except CkError as error:
            results[i] = crew.again(error, Fault.BAD_CIPHERTEXT, partial(_unwrap_one, crew, key, op))
    crew.session.wipe()


def _unwrap_one(crew: Crew, key: int, op: UnwrapDek) -> HsmResult:
    if len(op.nonce) != NONCE_BYTES or not TAG_BYTES < len(op.ciphertext) <= _LONGEST:
        return _NOT_A_DEK
    try:
        return UnwrappedDek(*payload.unpack(crew.session.decrypt(key, op.nonce, op.aad, op.ciphertext)))
    except ValueError:
        return _NOT_A_DEK


def rewrap_group(
    crew: Crew, keys: Sequence[int], ops: Sequence[RewrapDek], at: Sequence[int], results: Results
) -> None:
    """Fill `results` at `at`; `keys` are the source's and the target's handle.

    Raises `CkError` (of the draw) or `Away`; what is None then is not done.
    """
    source, target = keys
    nonces = crew.session.random(NONCE_BYTES * len(at))
    for place, i in enumerate(at):
        op, nonce = ops[i], nonces[place * NONCE_BYTES : (place + 1) * NONCE_BYTES]
        try:
            results[i] = _rewrap_one(crew, source, target, nonce, op)
        except CkError as error:
            again = partial(_rewrap_one, crew, source, target, nonce, op)
            results[i] = crew.again(error, Fault.BAD_CIPHERTEXT, again)
    crew.session.wipe()


def _rewrap_one(crew: Crew, source: int, target: int, nonce: bytes, op: RewrapDek) -> HsmResult:
    if len(op.nonce) != NONCE_BYTES or not TAG_BYTES < len(op.ciphertext) <= _LONGEST:
        return _NOT_A_DEK
    text = crew.session.decrypt(source, op.nonce, op.source_aad, op.ciphertext)
    try:
        revealed = payload.unpack(text)
    except ValueError:
        return _NOT_A_DEK
    shown = revealed if op.reveal else _NOTHING
    try:
        return _reseal(crew, target, nonce, op.target_aad, text, shown)
    except CkError as error:
        # The source was readable: the target's trouble must not blame the caller's bytes.
        reseal = partial(_reseal, crew, target, nonce, op.target_aad, text, shown)
        return crew.again(error, Fault.UNAVAILABLE, reseal)


def _reseal(crew: Crew, target: int, nonce: bytes, aad: bytes, text: bytes, revealed: tuple[bytes, bytes]) -> HsmResult:
    made, sealed = _seal(crew, target, nonce, aad, text)
    if not compare_digest(crew.session.decrypt(target, made, aad, sealed), text):
        return HsmFault(Fault.INTEGRITY, "the rewrapped DEK unwraps to other bytes")
    return WrappedDek(made, sealed, *revealed)
