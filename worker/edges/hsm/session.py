"""One PKCS#11 session and its calls. Output buffers are large enough: no size queries, no extra round trips.

A session is used by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from worker.edges.hsm.binding import Attribute, Library, Parameter, ffi, new, pack
from worker.edges.hsm.ck import (
    CK_UNAVAILABLE_INFORMATION,
    CKA_VALUE_LEN,
    CKF_RW_SESSION,
    CKF_SERIAL_SESSION,
    CKM_AES_ECB,
    CKM_AES_GCM,
    CKR_OK,
    CKS_RW_USER_FUNCTIONS,
    CKU_USER,
    CkError,
)

NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
_FIRST_ROOM: Final = 4096


class Session:
    """An open session: object management, and the hot calls over buffers that live as long as it does."""

    def __init__(self, library: Library, slot: int) -> None:
        """C_OpenSession, read-write, without a login of its own (the anchor session logs the application in)."""
        handle = new("CK_ULONG *")
        library.call("C_OpenSession", slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, ffi.NULL, ffi.NULL, handle)
        self._library, self.slot = library, slot
        self.handle: int = handle[0]
        self._nonce = new("unsigned char[]", NONCE_BYTES)
        self._gcm = new("CK_GCM_PARAMS *", {"iv": self._nonce, "iv_length": 12, "iv_bits": 96, "tag_bits": 128})
        size = ffi.sizeof("CK_GCM_PARAMS")
        self._mechanism = new("CK_MECHANISM *", (CKM_AES_GCM, ffi.cast("void *", self._gcm), size))
        self._length = new("CK_ULONG *")
        self._encrypt_init, self._encrypt = library.raw("C_EncryptInit"), library.raw("C_Encrypt")
        self._decrypt_init, self._decrypt = library.raw("C_DecryptInit"), library.raw("C_Decrypt")
        self._grow(_FIRST_ROOM)

    def _grow(self, room: int) -> None:
        self._room = room
        self._aad: Any = new("unsigned char[]", room)
        self._out: Any = new("unsigned char[]", room)
        self._view: Any = ffi.buffer(self._out)
        self._gcm.aad = self._aad

    # Hot calls.

    def encrypt(self, key: int, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
        """AES-256-GCM: ciphertext ‖ 16-byte tag (‖ nonce, from a token that makes it itself). Two calls."""
        needed = len(plaintext) + TAG_BYTES + NONCE_BYTES
        self._aim(nonce, aad, needed)
        code = self._encrypt_init(self.handle, self._mechanism, key)
        if code != CKR_OK:
            raise CkError("C_EncryptInit", code)
        self._length[0] = self._room
        code = self._encrypt(self.handle, plaintext, len(plaintext), self._out, self._length)
        if code != CKR_OK:
            raise CkError("C_Encrypt", code)
        return self._view[0 : self._length[0]]  # type: ignore[no-any-return]

    def decrypt(self, key: int, nonce: bytes, aad: bytes, ciphertext: bytes) -> bytes:
        """Undo `encrypt`; `ciphertext` ends with the tag. Two calls."""
        self._aim(nonce, aad, len(ciphertext))
        code = self._decrypt_init(self.handle, self._mechanism, key)
        if code != CKR_OK:
            raise CkError("C_DecryptInit", code)
        self._length[0] = self._room
        code = self._decrypt(self.handle, ciphertext, len(ciphertext), self._out, self._length)
        if code != CKR_OK:
            raise CkError("C_Decrypt", code)
        return self._view[0 : self._length[0]]  # type: ignore[no-any-return]

    def _aim(self, nonce: bytes, aad: bytes, out: int) -> None:
        if max(out, len(aad)) > self._room:
            self._grow(2 * max(out, len(aad)))
        ffi.memmove(self._nonce, nonce, NONCE_BYTES)
        ffi.memmove(self._aad, aad, len(aad))
        self._gcm.aad_length = len(aad)

    def nonce(self) -> bytes:
        """The nonce of the last encryption; a token may have written its own into the parameters."""
        return bytes(ffi.buffer(self._nonce))

    def wipe(self) -> None:
        """Overwrite the output buffer, which held plaintext DEKs."""
        ffi.memmove(self._out, bytes(self._room), self._room)

    def random(self, size: int) -> bytes:
        """`size` bytes of the token's generator, in one call."""
        out = new("unsigned char[]", max(1, size))
        if size:
            self._library.call("C_GenerateRandom", self.handle, out, size)
        return bytes(ffi.buffer(out, size))

    def attribute(self, key: int, number: int) -> bytes:
        """One attribute's raw bytes (at most 4096), in one call."""
        cell = new("CK_ATTRIBUTE *", (number, ffi.cast("void *", self._out), self._room))
        self._library.call("C_GetAttributeValue", self.handle, key, cell, 1)
        if cell.length == CK_UNAVAILABLE_INFORMATION:
            raise CkError("C_GetAttributeValue", 0x12)
        return bytes(self._view[0 : cell.length])

    def sign(self, mechanism: int, key: int, message: bytes) -> bytes:
        """C_Sign without parameters: an HMAC, or ECDSA over a digest (r ‖ s)."""
        self._library.call("C_SignInit", self.handle, new("CK_MECHANISM *", (mechanism, ffi.NULL, 0)), key)
        self._length[0] = self._room
        self._library.call("C_Sign", self.handle, message, len(message), self._out, self._length)
        return bytes(self._view[0 : self._length[0]])

    # Keys.

    def wrap(self, mechanism: int, wrapper: int, key: int) -> bytes:
        """C_WrapKey without parameters (KW, KWP)."""
        self._length[0] = self._room
        by = new("CK_MECHANISM *", (mechanism, ffi.NULL, 0))
        self._library.call("C_WrapKey", self.handle, by, wrapper, key, self._out, self._length)
        return bytes(self._view[0 : self._length[0]])

    def unwrap(
        self,
        mechanism: int,
        wrapper: int,
        wrapped: bytes,
        attributes: Iterable[Attribute],
        parameter: Parameter | None = None,
    ) -> int:
        """C_UnwrapKey (KW and KWP have no parameter): the new handle; a session object is bound to this session."""
        struct, size, _kept = (ffi.NULL, 0, None) if parameter is None else parameter
        by = new("CK_MECHANISM *", (mechanism, ffi.cast("void *", struct), size))
        template, count, kept = pack(attributes)
        handle = new("CK_ULONG *")
        self._library.call("C_UnwrapKey", self.handle, by, wrapper, wrapped, len(wrapped), template, count, handle)
        del kept
        return int(handle[0])

    def generate(self, mechanism: int, attributes: Iterable[Attribute], size: int = 32) -> int:
        """C_GenerateKey: a secret key of `size` bytes."""
        template, count, kept = pack([*attributes, (CKA_VALUE_LEN, size)])
        handle = new("CK_ULONG *")
        by = new("CK_MECHANISM *", (mechanism, ffi.NULL, 0))
        self._library.call("C_GenerateKey", self.handle, by, template, count, handle)
        del kept
        return int(handle[0])

    def ecb(self, key: int, block: bytes) -> bytes:
        """AES-ECB of whole blocks: for check values, not for data. Both calls are made, whatever the first answers."""
        init = self._encrypt_init(self.handle, new("CK_MECHANISM *", (CKM_AES_ECB, ffi.NULL, 0)), key)
        self._length[0] = self._room
        code = self._encrypt(self.handle, block, len(block), self._out, self._length)
        for function, answer in (("C_EncryptInit", init), ("C_Encrypt", code)):
            if answer != CKR_OK:
                raise CkError(function, answer)
        return bytes(self._view[0 : self._length[0]])

    def generate_pair(self, mechanism: int, public: Iterable[Attribute], private: Iterable[Attribute]) -> None:
        """C_GenerateKeyPair; the objects are found by their labels afterwards."""
        of_public, public_count, kept = pack(public)
        of_private, private_count, kept_too = pack(private)
        pair = new("CK_ULONG[2]")
        by = new("CK_MECHANISM *", (mechanism, ffi.NULL, 0))
        templates = (of_public, public_count, of_private, private_count)
        self._library.call("C_GenerateKeyPair", self.handle, by, *templates, pair, pair + 1)
        del kept, kept_too

    def destroy(self, key: int) -> None:
        """C_DestroyObject."""
        self._library.call("C_DestroyObject", self.handle, key)

    def find(self, attributes: Iterable[Attribute], limit: int = 16) -> list[int]:
        """Handles of at most `limit` objects that match."""
        template, count, kept = pack(attributes)
        found, number = new("CK_ULONG[]", limit), new("CK_ULONG *")
        self._library.call("C_FindObjectsInit", self.handle, template, count)
        try:
            self._library.call("C_FindObjects", self.handle, found, limit, number)
        finally:
            self._library.raw("C_FindObjectsFinal")(self.handle)
        del kept
        return list(found[0 : number[0]])

    # Life.

    def login(self, pin: bytes) -> None:
        """C_Login as the user. Closing this session later logs the whole application out (trap 2 of FACTS)."""
        self._library.call("C_Login", self.handle, CKU_USER, pin, len(pin))

    def logged_in(self) -> bool:
        """Whether the token still takes this session for one of a logged-in user."""
        info = new("CK_SESSION_INFO *")
        self._library.call("C_GetSessionInfo", self.handle, info)
        return bool(info.state == CKS_RW_USER_FUNCTIONS)

    def close(self) -> None:
        """C_CloseSession; its session objects go with it. A session that is lost already is no error."""
        self._library.raw("C_CloseSession")(self.handle)
