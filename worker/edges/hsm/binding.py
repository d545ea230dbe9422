"""PKCS#11 through cffi in ABI mode: the one binding of this edge, with no compiler and no second library beside it.

Decision: no mixing with python-pkcs11. Its three calls per encryption (init, size query, call) cost two network round
trips on a real HSM, it calls `C_Initialize(NULL)` (SoftHSM2 then switches its locks off), and a template that it can't
pack is a crash. Sharing one loaded module between two bindings would leave the question who initialises it.
python-pkcs11 stays as the bench's rival and as the tests' independent reader of attributes.
cffi releases the GIL around every call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cffi import FFI

from worker.edges.hsm.ck import (
    CK_UNAVAILABLE_INFORMATION,
    CKF_OS_LOCKING_OK,
    CKR_CRYPTOKI_ALREADY_INITIALIZED,
    CKR_OK,
    CKZ_DATA_SPECIFIED,
    CkError,
)

_TYPES = """
typedef unsigned long CK_ULONG; typedef unsigned char *CK_BYTES;
typedef struct { void *create, *destroy, *lock, *unlock; CK_ULONG flags; void *reserved; } CK_C_INITIALIZE_ARGS;
typedef struct { CK_ULONG type; void *value; CK_ULONG length; } CK_ATTRIBUTE;
typedef struct { CK_ULONG mechanism; void *parameter; CK_ULONG length; } CK_MECHANISM;
typedef struct { CK_ULONG min, max, flags; } CK_MECHANISM_INFO;
typedef struct { CK_ULONG slot, state, flags, device_error; } CK_SESSION_INFO;
typedef struct { unsigned char *iv; CK_ULONG iv_length, iv_bits; unsigned char *aad; CK_ULONG aad_length, tag_bits; }
    CK_GCM_PARAMS;
typedef struct { CK_ULONG hash, mgf, source; void *data; CK_ULONG length; } CK_RSA_OAEP_PARAMS;
typedef struct { CK_ULONG aes_bits; CK_RSA_OAEP_PARAMS *oaep; } CK_RSA_AES_PARAMS;
typedef struct { unsigned char label[32], manufacturer[32], model[16], serial[16]; CK_ULONG flags, numbers[10];
    unsigned char hardware[2], firmware[2], utc[16]; } CK_TOKEN_INFO;
"""
_M, _A, _S, _B = "CK_MECHANISM *", "CK_ATTRIBUTE *", "CK_ULONG", "CK_BYTES"
_USED: dict[str, str] = {
    "C_Initialize": "CK_C_INITIALIZE_ARGS *",
    "C_Finalize": "void *",
    "C_GetSlotList": f"unsigned char, {_S} *, {_S} *",
    "C_GetTokenInfo": f"{_S}, CK_TOKEN_INFO *",
    "C_GetMechanismInfo": f"{_S}, {_S}, CK_MECHANISM_INFO *",
    "C_OpenSession": f"{_S}, {_S}, void *, void *, {_S} *",
    "C_CloseSession": _S,
    "C_CloseAllSessions": _S,
    "C_GetSessionInfo": f"{_S}, CK_SESSION_INFO *",
    "C_Login": f"{_S}, {_S}, {_B}, {_S}",
    "C_DestroyObject": f"{_S}, {_S}",
    "C_GetAttributeValue": f"{_S}, {_S}, {_A}, {_S}",
    "C_FindObjectsInit": f"{_S}, {_A}, {_S}",
    "C_FindObjects": f"{_S}, {_S} *, {_S}, {_S} *",
    "C_FindObjectsFinal": _S,
    "C_EncryptInit": f"{_S}, {_M}, {_S}",
    "C_Encrypt": f"{_S}, {_B}, {_S}, {_B}, {_S} *",
    "C_DecryptInit": f"{_S}, {_M}, {_S}",
    "C_Decrypt": f"{_S}, {_B}, {_S}, {_B}, {_S} *",
    "C_SignInit": f"{_S}, {_M}, {_S}",
    "C_Sign": f"{_S}, {_B}, {_S}, {_B}, {_S} *",
    "C_GenerateKey": f"{_S}, {_M}, {_A}, {_S}, {_S} *",
    "C_GenerateKeyPair": f"{_S}, {_M}, {_A}, {_S}, {_A}, {_S}, {_S} *, {_S} *",
    "C_WrapKey": f"{_S}, {_M}, {_S}, {_S}, {_B}, {_S} *",
    "C_UnwrapKey": f"{_S}, {_M}, {_S}, {_B}, {_S}, {_A}, {_S}, {_S} *",
    "C_GenerateRandom": f"{_S}, {_B}, {_S}",
}
# The order of CK_FUNCTION_LIST (PKCS#11 v2.40, section 3.6), as far as it is used; it never changes.
ORDER = """
Initialize Finalize GetInfo GetFunctionList GetSlotList GetSlotInfo GetTokenInfo GetMechanismList GetMechanismInfo
InitToken InitPIN SetPIN OpenSession CloseSession CloseAllSessions GetSessionInfo GetOperationState SetOperationState
Login Logout CreateObject CopyObject DestroyObject GetObjectSize GetAttributeValue SetAttributeValue FindObjectsInit
FindObjects FindObjectsFinal EncryptInit Encrypt EncryptUpdate EncryptFinal DecryptInit Decrypt DecryptUpdate
DecryptFinal DigestInit Digest DigestUpdate DigestKey DigestFinal SignInit Sign SignUpdate SignFinal SignRecoverInit
SignRecover VerifyInit Verify VerifyUpdate VerifyFinal VerifyRecoverInit VerifyRecover DigestEncryptUpdate
DecryptDigestUpdate SignEncryptUpdate DecryptVerifyUpdate GenerateKey GenerateKeyPair WrapKey UnwrapKey
DeriveKey SeedRandom GenerateRandom
"""


def _declarations() -> str:
    names = [f"C_{short}" for short in ORDER.split()]
    members = [f"CK_ULONG (*{name})({_USED[name]});" if name in _USED else f"void *{name};" for name in names]
    table = f"typedef struct {{ unsigned char major, minor; {' '.join(members)} }} CK_FUNCTION_LIST;"
    return _TYPES + table + "CK_ULONG C_GetFunctionList(CK_FUNCTION_LIST **);"


ffi = FFI()
ffi.cdef(_declarations())
new: Callable[..., Any] = ffi.new
"""`ffi.new`, whose structs have fields that a type checker can't know."""

Attribute = tuple[int, bool | int | bytes | tuple[int, ...]]
"""A CKA number and its value; a tuple is an array of CK_ULONG (CKA_ALLOWED_MECHANISMS)."""


def pack(attributes: Iterable[Attribute]) -> tuple[Any, int, list[Any]]:
    """A CK_ATTRIBUTE array, its length, and what must stay referenced until the call is over."""
    rows, kept = [], []
    for number, value in attributes:
        match value:
            case bool():
                cell = new("unsigned char *", value)
                size = 1
            case int():
                cell = new("CK_ULONG *", value)
                size = ffi.sizeof("CK_ULONG")
            case bytes():
                cell = new("unsigned char[]", value or b"\0")
                size = len(value)
            case _:
                cell = new("CK_ULONG[]", value)
                size = len(value) * ffi.sizeof("CK_ULONG")
        kept.append(cell)
        rows.append((number, ffi.cast("void *", cell), size))
    return new("CK_ATTRIBUTE[]", rows), len(rows), kept


Parameter = tuple[Any, int, Any]
"""Of a mechanism: the struct, its size, and what must stay referenced until the call is over."""


def oaep_parameters(digest: int, mask: int) -> Parameter:
    """CK_RSA_PKCS_OAEP_PARAMS without a label."""
    made = new("CK_RSA_OAEP_PARAMS *", {"hash": digest, "mgf": mask, "source": CKZ_DATA_SPECIFIED})
    return made, ffi.sizeof("CK_RSA_OAEP_PARAMS"), None


def rsa_aes_parameters(digest: int, mask: int) -> Parameter:
    """CK_RSA_AES_KEY_WRAP_PARAMS with a 256-bit transport key."""
    oaep = oaep_parameters(digest, mask)[0]
    return new("CK_RSA_AES_PARAMS *", (256, oaep)), ffi.sizeof("CK_RSA_AES_PARAMS"), oaep


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """Of one slot with a token in it; `flags` are CKF_ bits."""

    slot: int
    label: str
    serial: str
    flags: int
    max_sessions: int
    """Read-write sessions of all processes together; 0 when there is no bound or none is told."""


class Library:
    """One loaded PKCS#11 module; its functions, and its life from C_Initialize to C_Finalize."""

    def __init__(self, module: Path) -> None:
        """Load the module; nothing is initialised. Raises `OSError` when it can't be loaded."""
        loaded: Any = ffi.dlopen(os.fspath(module))
        self._loaded = loaded
        table = new("CK_FUNCTION_LIST **")
        self._check("C_GetFunctionList", loaded.C_GetFunctionList(table))
        self._table = table[0]
        self._calls: dict[str, Callable[..., int]] = {name: getattr(self._table, name) for name in _USED}
        self.owned = False
        """Whether this object initialised the module, and so may finalise it."""

    @staticmethod
    def _check(function: str, code: int) -> None:
        if code != CKR_OK:
            raise CkError(function, code)

    def raw(self, function: str) -> Callable[..., int]:
        """The function itself, for hot paths: returns the CKR code."""
        return self._calls[function]

    def call(self, function: str, *arguments: object) -> None:
        """Call and raise `CkError` unless it answers CKR_OK."""
        self._check(function, self._calls[function](*arguments))

    def initialize(self) -> None:
        """C_Initialize with OS locking: without the flag SoftHSM2 runs its threads without any lock."""
        arguments = new("CK_C_INITIALIZE_ARGS *", {"flags": CKF_OS_LOCKING_OK})
        code = self._calls["C_Initialize"](arguments)
        if code != CKR_CRYPTOKI_ALREADY_INITIALIZED:
            self._check("C_Initialize", code)
            self.owned = True

    def finalize(self) -> None:
        """C_Finalize, if this object initialised. No call of any thread may be inside the module (it crashes)."""
        if self.owned:
            self.call("C_Finalize", ffi.NULL)
            self.owned = False

    def tokens(self) -> list[TokenInfo]:
        """Every initialised token in a slot."""
        count = new("CK_ULONG *")
        self.call("C_GetSlotList", 1, ffi.NULL, count)
        slots = new("CK_ULONG[]", max(1, count[0]))
        self.call("C_GetSlotList", 1, slots, count)
        found = []
        for slot in slots[0 : count[0]]:
            info = new("CK_TOKEN_INFO *")
            if self._calls["C_GetTokenInfo"](slot, info) == CKR_OK:
                most = 0 if info.numbers[2] == CK_UNAVAILABLE_INFORMATION else info.numbers[2]
                label, serial = (bytes(ffi.buffer(raw)).decode("utf-8", "replace") for raw in (info.label, info.serial))
                found.append(TokenInfo(slot, label.rstrip(" \0"), serial.rstrip(" \0"), info.flags, most))
        return found

    def has_mechanism(self, slot: int, mechanism: int) -> bool:
        """C_GetMechanismInfo: whether the token in this slot knows the mechanism."""
        return self._calls["C_GetMechanismInfo"](slot, mechanism, new("CK_MECHANISM_INFO *")) == CKR_OK
