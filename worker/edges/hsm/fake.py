"""A token in memory, for tests of what stands above this edge: the same two ports, the same answers, no device.

Kept honest by the contract suite that also runs on real tokens (`tests/contract/test_hsm_contract.py`).
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from worker.chain import payload
from worker.edges.hsm.config import TokenState
from worker.edges.hsm.session import NONCE_BYTES, TAG_BYTES
from worker.model.hsm import (
    Condemned,
    CreatedKey,
    CreatedMaster,
    CreateKey,
    CreateLink,
    CreateMaster,
    CreateOutside,
    DestroyedMaster,
    DestroyMaster,
    Fault,
    HsmFault,
    HsmOp,
    HsmResult,
    Kek,
    OpenedKey,
    OpenKey,
    Purpose,
    RewrapDek,
    UnwrapDek,
    UnwrappedDek,
    WrapDek,
    WrappedDek,
    Wrapping,
)
from worker.ports import Mac, TokenUnavailable

_AWAY = HsmFault(Fault.UNAVAILABLE, "the fake token is away")
_HEADER = 4 + NONCE_BYTES
_UNWRAP: dict[Wrapping, Callable[[bytes, bytes], bytes]] = {
    Wrapping.AES_KWP: keywrap.aes_key_unwrap_with_padding,
    Wrapping.AES_KW: keywrap.aes_key_unwrap,
}


class FakeToken:
    """Looks like `Token`. Set `away` and it answers as a lost token does."""

    def __init__(self, serial: str = "fake-token") -> None:
        self.serial = serial
        self.away = False
        self.masters: dict[UUID, tuple[bytes, UUID, int]] = {}
        self.hsm = FakeHsm(self)
        self.fleet_keys = FakeFleetKeys(self)

    @property
    def state(self) -> TokenState:
        """See `Token.state`."""
        return TokenState.HEALING if self.away else TokenState.READY

    @property
    def healthy(self) -> bool:
        """See `Token.healthy`."""
        return not self.away

    async def close(self) -> None:
        """Nothing to close."""


class FakeHsm:
    """Implements `worker.ports.Hsm`."""

    def __init__(self, token: FakeToken) -> None:
        self._token = token
        self.dropped: list[UUID | None] = []
        self.condemned: dict[tuple[UUID, int], int] = {}
        self._opened: dict[Kek, bytes] = {}

    async def run(self, ops: Sequence[HsmOp], timeout_s: float) -> list[HsmResult]:
        """See `worker.ports.Hsm.run`."""
        return [_AWAY if self._token.away or timeout_s <= 0 else self._one(op) for op in ops]

    def drop(self, keys: Iterable[UUID] | None) -> None:
        """See `worker.ports.Hsm.drop`; the ids stand in `dropped`, None for all."""
        gone = None if keys is None else set(keys)
        self.dropped.extend([None] if gone is None else gone)
        self._opened = {kek: key for kek, key in self._opened.items() if gone and gone.isdisjoint(_line(kek))}

    def condemn(self, versions: Iterable[Condemned]) -> frozenset[Condemned]:
        """See `worker.ports.Hsm.condemn`; nothing is ever open here."""
        asked = frozenset(versions)
        self.condemned |= {(one.key, one.version): one.revision for one in asked}
        return asked

    def _one(self, op: HsmOp) -> HsmResult:
        try:
            return self._answer(op)
        except _Refused as refused:
            return refused.fault
        except (InvalidTag, ValueError):
            return HsmFault(Fault.BAD_CIPHERTEXT)

    def _answer(self, op: HsmOp) -> HsmResult:
        match op:
            case WrapDek():
                return self._wrap(op)
            case UnwrapDek():
                text = self._decrypt(op.kek, op.nonce, op.aad, op.ciphertext)
                return UnwrappedDek(*payload.unpack(text))
            case RewrapDek():
                text = self._decrypt(op.source, op.nonce, op.source_aad, op.ciphertext)
                revealed = payload.unpack(text)
                made = self._encrypt(op.target, op.target_aad, text)
                return WrappedDek(*made, *(revealed if op.reveal else ()))
            case CreateKey():
                if op.inner is not (op.parent.wrapping is Wrapping.EXTERNAL):
                    return HsmFault(Fault.UNSUPPORTED)
                parent = self._open(op.parent, Purpose.WRAPS_KEYS)
                return CreatedKey(keywrap.aes_key_wrap_with_padding(parent, os.urandom(32)), Wrapping.AES_KWP)
            case CreateMaster():
                return self._master(op)
            case DestroyMaster():
                return self._destroy(op)
            case OpenKey():
                return self._admit(op)
            case CreateOutside() | CreateLink():
                return HsmFault(Fault.UNSUPPORTED)

    def _master(self, op: CreateMaster) -> HsmResult:
        _, *owner = self._token.masters.setdefault(op.material, (os.urandom(32), op.key, op.version))
        if owner != [op.key, op.version]:
            return HsmFault(Fault.INTEGRITY, "the label is another key's")
        return CreatedMaster(self._token.serial)

    def _destroy(self, op: DestroyMaster) -> HsmResult:
        if op.serial != self._token.serial:
            return HsmFault(Fault.UNSUPPORTED, "bound to another token")
        there = self._token.masters.get(op.material)
        if there is not None and there[1:] != (op.key, op.version):
            return HsmFault(Fault.INTEGRITY, "the label is another key's")
        return DestroyedMaster(0 if self._token.masters.pop(op.material, None) is None else 1)

    def _admit(self, op: OpenKey) -> HsmResult:
        outside = op.kek.outside
        if outside is None or not hmac.compare_digest(hashlib.sha256(op.inner).digest(), outside.digest):
            return HsmFault(Fault.INTEGRITY)
        self._opened[op.kek] = self._unwrap(op.kek, op.inner)
        return OpenedKey()

    def _wrap(self, op: WrapDek) -> HsmResult:
        dek = op.dek or os.urandom(op.size)
        try:
            text = payload.pack(dek, op.context_digest)
        except ValueError as error:
            return HsmFault(Fault.UNSUPPORTED, str(error))
        return WrappedDek(*self._encrypt(op.kek, op.aad, text), dek)

    def _encrypt(self, kek: Kek, aad: bytes, text: bytes) -> tuple[bytes, bytes]:
        nonce = os.urandom(NONCE_BYTES)
        return nonce, AESGCM(self._open(kek, Purpose.WRAPS_DEKS)).encrypt(nonce, text, aad)

    def _decrypt(self, kek: Kek, nonce: bytes, aad: bytes, ciphertext: bytes) -> bytes:
        return AESGCM(self._open(kek, Purpose.WRAPS_DEKS)).decrypt(nonce, ciphertext, aad)

    def _open(self, kek: Kek, purpose: Purpose) -> bytes:
        if kek.purpose is not purpose:
            raise _Refused(Fault.UNSUPPORTED)
        if kek.revision <= self.condemned.get((kek.key, kek.version), -1):
            raise _Refused(Fault.UNAVAILABLE)
        if kek.wrapping in (Wrapping.TOKEN, Wrapping.EXTERNAL):
            if kek.serial != self._token.serial:
                raise _Refused(Fault.UNSUPPORTED)
            material = self._token.masters.get(kek.material or UUID(int=0))
            if material is None or material[1:] != (kek.key, kek.version):
                raise _Refused(Fault.INTEGRITY)
            return material[0]
        if kek.outside is not None:
            if kek not in self._opened:
                raise _Refused(Fault.COLD)
            return self._opened[kek]
        return self._unwrap(kek, kek.wrapped)

    def _unwrap(self, kek: Kek, wrapped: bytes) -> bytes:
        if kek.parent is None or kek.parent.purpose is not Purpose.WRAPS_KEYS:
            raise _Refused(Fault.INTEGRITY)
        if (kek.parent.wrapping is Wrapping.EXTERNAL) is not (kek.outside is not None):
            raise _Refused(Fault.INTEGRITY)
        parent = self._open(kek.parent, Purpose.WRAPS_KEYS)
        try:
            return _UNWRAP[kek.wrapping](parent, wrapped)
        except (keywrap.InvalidUnwrap, ValueError):
            raise _Refused(Fault.INTEGRITY) from None


def _line(kek: Kek | None) -> Iterator[UUID]:
    while kek is not None:
        yield kek.key
        kek = kek.parent


class _Refused(Exception):
    def __init__(self, fault: Fault) -> None:
        self.fault = HsmFault(fault)


class FakeFleetKeys:
    """Implements `worker.ports.FleetKeys`."""

    def __init__(self, token: FakeToken) -> None:
        self._token = token
        self._mac, self._wrap = os.urandom(32), os.urandom(32)
        self._signing = ec.generate_private_key(ec.SECP256R1())

    def _here(self) -> None:
        if self._token.away:
            raise TokenUnavailable("the fake token is away")

    @property
    def signing_key(self) -> bytes:
        """See `worker.ports.FleetKeys`."""
        form = serialization.PublicFormat.UncompressedPoint
        return self._signing.public_key().public_bytes(serialization.Encoding.X962, form)

    async def mac(self, messages: Sequence[bytes]) -> list[Mac]:
        """See `worker.ports.FleetKeys`."""
        self._here()
        return [Mac(1, hmac.digest(self._mac, message, "sha256")) for message in messages]

    async def verify(self, messages: Sequence[bytes], macs: Sequence[Mac]) -> list[bool]:
        """See `worker.ports.FleetKeys`."""
        made = await self.mac(messages)
        pairs = zip(made, macs, strict=True)
        return [mine.version == its.version and hmac.compare_digest(mine.value, its.value) for mine, its in pairs]

    async def sign(self, message: bytes) -> bytes:
        """See `worker.ports.FleetKeys`."""
        self._here()
        der = self._signing.sign(hashlib.sha256(message).digest(), ec.ECDSA(utils.Prehashed(hashes.SHA256())))
        return b"".join(number.to_bytes(32, "big") for number in utils.decode_dss_signature(der))

    async def wrap_secret(self, secret: bytes, aad: bytes) -> bytes:
        """See `worker.ports.FleetKeys`."""
        self._here()
        nonce = os.urandom(NONCE_BYTES)
        return (1).to_bytes(4, "big") + nonce + AESGCM(self._wrap).encrypt(nonce, secret, aad)

    async def unwrap_secret(self, wrapped: bytes, aad: bytes) -> bytes:
        """See `worker.ports.FleetKeys`."""
        self._here()
        if len(wrapped) < _HEADER + TAG_BYTES or wrapped[:4] != (1).to_bytes(4, "big"):
            raise ValueError("not a wrapped secret")
        try:
            return AESGCM(self._wrap).decrypt(wrapped[4:_HEADER], wrapped[_HEADER:], aad)
        except InvalidTag:
            raise ValueError("the secret does not unwrap under this AAD") from None
