"""The fake token's import keys: the same refusals as real ones give, in memory."""

from __future__ import annotations

import os
from hmac import compare_digest, digest
from uuid import UUID

from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from worker.model.hsm import (
    DestroyedMaster,
    Fault,
    HsmFault,
    HsmResult,
)
from worker.model.import_ops import (
    CreateImportPair,
    DestroyImportPair,
    ImportedMaster,
    ImportMaster,
    ImportPair,
)
from worker.model.imports import ImportAlgorithm
from worker.seal.importing import check_value

_AES_BYTES = 32
_REFUSED = HsmFault(Fault.BAD_CIPHERTEXT, "the blob is not such a key")


class FakeImports:
    """Pairs by label; imported keys go into the token's `masters`. Its canary is a MAC under the key itself."""

    def __init__(self, serial: str, masters: dict[UUID, tuple[bytes, UUID, int]]) -> None:
        self._serial, self._masters = serial, masters
        self.pairs: dict[UUID, rsa.RSAPrivateKey] = {}

    def answer(self, op: CreateImportPair | ImportMaster | DestroyImportPair) -> HsmResult:
        """As the port has it."""
        match op:
            case CreateImportPair():
                if op.material not in self.pairs:
                    self.pairs[op.material] = rsa.generate_private_key(65537, op.bits)
                return ImportPair(_public(self.pairs[op.material]), self._serial)
            case DestroyImportPair():
                return DestroyedMaster(0 if self.pairs.pop(op.material, None) is None else 1)
            case ImportMaster():
                return self._import(op)

    def _import(self, op: ImportMaster) -> HsmResult:
        if op.serial != self._serial:
            return HsmFault(Fault.ELSEWHERE, "the import key is in another token")
        pair = self.pairs.get(op.pair)
        if pair is None or _public(pair) != op.public_key:
            return HsmFault(Fault.INTEGRITY, "the token has not this import key")
        try:
            key = _opened(pair, op)
        except (ValueError, keywrap.InvalidUnwrap):
            return _REFUSED
        if len(key) != _AES_BYTES or not compare_digest(check_value(key), op.check_value):
            return _REFUSED
        canary = op.canary or os.urandom(16)
        canary = canary[:16] + digest(key, canary[:16], "sha256")
        if op.canary not in (b"", canary):
            return _REFUSED
        material = self._masters.setdefault(op.material, (key, op.key, op.version))
        if material != (key, op.key, op.version):
            return HsmFault(Fault.INTEGRITY, "the label is another key's")
        return ImportedMaster(self._serial, canary)


def _opened(pair: rsa.RSAPrivateKey, op: ImportMaster) -> bytes:
    of: ImportAlgorithm = op.algorithm
    sha = hashes.SHA1() if of.uses_sha1 else hashes.SHA256()  # noqa: S303 - as `wrap_key` of `seal.importing`
    way, size = padding.OAEP(padding.MGF1(sha), sha, None), pair.key_size // 8
    if not of.has_transport_key:
        return pair.decrypt(op.blob, way)
    return keywrap.aes_key_unwrap_with_padding(pair.decrypt(op.blob[:size], way), op.blob[size:])


def _public(pair: rsa.RSAPrivateKey) -> bytes:
    return pair.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
