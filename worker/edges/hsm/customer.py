"""A key in a second PKCS#11 token, which is the customer's (SECURITY S13): AES-256-GCM under a token object.

It stands in this edge because the binding does. One thread per token: a token that hangs holds up no other, nor the
event loop. The key is found by its label and never leaves the token. Several objects may bear the label: they are
versions, told apart by CKA_ID; the one that has CKA_ENCRYPT is the present one. The outer blob:

    blob     = %x03 id-length id nonce ciphertext tag
    id-length = OCTET
    id       = *OCTET        ; CKA_ID of the object
    nonce    = 12OCTET
    tag      = 16OCTET
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from worker.edges.hsm.binding import Attribute
from worker.edges.hsm.ck import (
    CKA_CLASS,
    CKA_DECRYPT,
    CKA_ENCRYPT,
    CKA_EXTRACTABLE,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKA_SENSITIVE,
    CKA_TOKEN,
    CKA_VALUE_LEN,
    CKK_AES,
    CKO_SECRET_KEY,
    CKR_USER_NOT_LOGGED_IN,
    Blame,
    CkError,
)
from worker.edges.hsm.desk import Desk
from worker.edges.hsm.session import NONCE_BYTES, TAG_BYTES, Session
from worker.model.keystores import KeystoreForbidden, KeystoreKey, KeystoreRefused, KeystoreUnreachable

T = TypeVar("T")
FORM: Final = 3
LONGEST: Final = 4096
"""Bytes of a plaintext; an inner blob has some 60."""
_ID_BYTES: Final = 255
_KEY_BYTES: Final = 32
_TRUE: Final = b"\1"
_CANARY: Final = b"keyriver canary"


class TokenKeystore:
    """Implements `worker.ports.Keystore`. `desk` is shared by the keys of one token."""

    def __init__(self, desk: Desk, key: str, timeout_s: float) -> None:
        """`key` is the CKA_LABEL; `timeout_s` bounds one call, whatever the token does meanwhile."""
        self._desk, self._key, self._timeout_s = desk, key, timeout_s

    async def describe(self) -> KeystoreKey:
        """See `worker.ports.Keystore.describe`. The version is the CKA_ID in hex."""
        present = await self._run(lambda session: _present(session, self._key))
        if present is None:
            return KeystoreKey(self._key, "", enabled=False)
        return KeystoreKey(self._key, present[1].hex(), enabled=True)

    async def encrypt(self, plaintext: bytes, aad: bytes) -> bytes:
        """See `worker.ports.Keystore.encrypt`. At most 4,096 bytes."""
        if len(plaintext) > LONGEST:
            raise KeystoreRefused(f"more than {LONGEST} bytes")
        return await self._run(lambda session: _encrypt(session, self._key, plaintext, aad))

    async def decrypt(self, ciphertext: bytes, aad: bytes) -> bytes:
        """See `worker.ports.Keystore.decrypt`."""
        blob = _unpacked(ciphertext)
        return await self._run(lambda session: _decrypt(session, self._key, blob, aad), canary=self._canary)

    async def look(self) -> str:
        """Whether the token lets us in, for `doctor`; it names no key. Raises `KeystoreFault`."""
        await self._run(Session.logged_in)
        return "logged in"

    async def close(self) -> None:
        """See `worker.ports.Keystore.close`. The token is closed by whoever opened it: other keys may be in it."""

    async def _run(self, call: Callable[[Session], T], canary: Callable[[Session], None] | None = None) -> T:
        """At the desk, in time. With a canary, codes that blame nobody (S9) are judged: the bytes, or the token."""
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    return await self._desk.run(call)
                except CkError as error:
                    if canary is None or error.blame is Blame.ABILITY:
                        raise
                await self._desk.run(canary)
                return await self._again(call)
        except TimeoutError:
            raise KeystoreUnreachable(f"no answer within {self._timeout_s * 1000:.0f} ms") from None
        except CkError as error:
            fault = KeystoreForbidden if error.blame is Blame.ABILITY else KeystoreUnreachable
            raise fault(str(error)) from None

    async def _again(self, call: Callable[[Session], T]) -> T:
        try:
            return await self._desk.run(call)
        except CkError as error:
            raise KeystoreRefused(f"the bytes are not of this key and this AAD ({error})") from None

    def _canary(self, session: Session) -> None:
        """Whether the token is well: what the key has just sealed it opens. Raises `CkError`."""
        present = _present(session, self._key)
        if present is None:
            session.random(NONCE_BYTES)
        else:
            nonce, sealed = _sealed(session, present[0], _CANARY, b"")
            session.decrypt(present[0], nonce, b"", sealed)


def _objects(session: Session, label: str, use: int, identity: bytes | None = None) -> list[int]:
    """AES keys with this label (and CKA_ID) that may be used so."""
    wanted: list[Attribute] = [
        (CKA_CLASS, CKO_SECRET_KEY),
        (CKA_TOKEN, True),
        (CKA_KEY_TYPE, CKK_AES),
        (CKA_LABEL, label.encode()),
    ]
    named = wanted if identity is None else [*wanted, (CKA_ID, identity)]
    found = session.find([*named, (use, True)])
    if not found and not session.logged_in():
        raise CkError("C_FindObjects without a login", CKR_USER_NOT_LOGGED_IN)
    if not found and not session.find(wanted):
        raise KeystoreForbidden("there is no such key in the token")
    return found


def _present(session: Session, label: str) -> tuple[int, bytes] | None:
    """Handle and CKA_ID of the version that encrypts; None when all are switched off."""
    found = _objects(session, label, CKA_ENCRYPT)
    if len(found) > 1:
        raise KeystoreRefused("several objects with this label have CKA_ENCRYPT: one version at a time may encrypt")
    if not found:
        return None
    [handle] = found
    if session.attribute(handle, CKA_EXTRACTABLE) == _TRUE or session.attribute(handle, CKA_SENSITIVE) != _TRUE:
        raise KeystoreRefused("the key can leave the token: it must be sensitive and not extractable")
    if int.from_bytes(session.attribute(handle, CKA_VALUE_LEN), sys.byteorder) != _KEY_BYTES:
        raise KeystoreRefused("the key has not 256 bits")
    if session.attribute(handle, CKA_DECRYPT) != _TRUE:
        return None
    return handle, session.attribute(handle, CKA_ID)


def _encrypt(session: Session, label: str, plaintext: bytes, aad: bytes) -> bytes:
    present = _present(session, label)
    if present is None:
        raise KeystoreForbidden("the key is off: CKA_ENCRYPT or CKA_DECRYPT is false")
    handle, identity = present
    if len(identity) > _ID_BYTES:
        raise KeystoreRefused(f"CKA_ID is longer than {_ID_BYTES} bytes")
    nonce, sealed = _sealed(session, handle, plaintext, aad)
    return bytes([FORM, len(identity)]) + identity + nonce + sealed


def _sealed(session: Session, handle: int, plaintext: bytes, aad: bytes) -> tuple[bytes, bytes]:
    """Nonce and ciphertext, whoever makes the nonce (see `probe.Nonces`): it is told by the length."""
    sealed = session.encrypt(handle, session.random(NONCE_BYTES), aad, plaintext)
    if len(sealed) == len(plaintext) + TAG_BYTES + NONCE_BYTES:
        return sealed[-NONCE_BYTES:], sealed[:-NONCE_BYTES]
    return session.nonce(), sealed


@dataclass(frozen=True, slots=True)
class _Blob:
    identity: bytes
    nonce: bytes
    sealed: bytes


def _unpacked(blob: bytes) -> _Blob:
    form, length = blob[:2].ljust(2, b"\0")
    identity, rest = blob[2 : 2 + length], blob[2 + length :]
    if form != FORM or not NONCE_BYTES + TAG_BYTES <= len(rest) <= NONCE_BYTES + LONGEST + TAG_BYTES:
        raise KeystoreRefused("not a blob of a token")
    return _Blob(identity, rest[:NONCE_BYTES], rest[NONCE_BYTES:])


def _decrypt(session: Session, label: str, blob: _Blob, aad: bytes) -> bytes:
    handles = _objects(session, label, CKA_DECRYPT, blob.identity)
    if not handles:
        raise KeystoreForbidden("this version of the key is gone or off")
    if len(handles) > 1:
        raise KeystoreRefused("several objects with this label have the same CKA_ID")
    try:
        return session.decrypt(handles[0], blob.nonce, aad, blob.sealed)
    finally:
        session.wipe()
