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
from cryptography.hazmat.primitives import keywrap
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from worker.chain import payload
from worker.edges.hsm.config import TokenState
from worker.edges.hsm.fake_imports import FakeImports
from worker.edges.hsm.session import NONCE_BYTES, TAG_BYTES
from worker.model.fleet import FleetKey, FleetKind
from worker.model.hsm import (
    Condemned,
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
    Fault,
    HsmFault,
    HsmOp,
    HsmResult,
    Kek,
    OpenedKey,
    OpenKey,
    Purpose,
    RewrapDek,
    RewrapKey,
    UnwrapDek,
    UnwrappedDek,
    WrapDek,
    WrappedDek,
    Wrapping,
)
from worker.ports import Mac, TokenUnavailable
from worker.seal.lineage import Lineage, Succession, follow, retired
from worker.seal.signatures import ES256Signer

_AWAY = HsmFault(Fault.UNAVAILABLE, "the fake token is away")
_HEADER = 4 + NONCE_BYTES
_UNWRAP: dict[Wrapping, Callable[[bytes, bytes], bytes]] = {
    Wrapping.AES_KWP: keywrap.aes_key_unwrap_with_padding,
    Wrapping.AES_KW: keywrap.aes_key_unwrap,
}


class FakeToken:
    """Looks like `Token`. Set `away` and it answers as a lost token does."""

    def __init__(self, serial: str = "fake-token", fleet: str = "dev-test") -> None:
        self.serial = serial
        self.away = False
        self.masters: dict[UUID, tuple[bytes, UUID, int]] = {}
        self.imports = FakeImports(serial, self.masters)
        self.hsm = FakeHsm(self)
        self.fleet_keys = FakeFleetKeys(self, fleet)

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
        except (InvalidTag, keywrap.InvalidUnwrap, ValueError):
            return HsmFault(Fault.BAD_CIPHERTEXT)

    def _answer(self, op: HsmOp) -> HsmResult:  # noqa: C901, PLR0911 - one table of all operations
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
            case RewrapKey():
                return self._rewrap_key(op)
            case CreateMaster():
                return self._master(op)
            case DestroyMaster():
                return self._destroy(op)
            case CreateFleetKey():
                return self._token.fleet_keys.create(op)
            case OpenKey():
                return self._admit(op)
            case CreateOutside() | CreateLink():
                return HsmFault(Fault.UNSUPPORTED)
            case _:
                return self._token.imports.answer(op)

    def _rewrap_key(self, op: RewrapKey) -> HsmResult:
        if Wrapping.EXTERNAL in (op.source.wrapping, op.target.wrapping):
            return HsmFault(Fault.UNSUPPORTED)
        raw = _UNWRAP[op.wrapping](self._open(op.source, Purpose.WRAPS_KEYS), op.wrapped)
        target = self._open(op.target, Purpose.WRAPS_KEYS)
        return CreatedKey(keywrap.aes_key_wrap_with_padding(target, raw), Wrapping.AES_KWP)

    def _master(self, op: CreateMaster) -> HsmResult:
        _, *owner = self._token.masters.setdefault(op.material, (os.urandom(32), op.key, op.version))
        if owner != [op.key, op.version]:
            return HsmFault(Fault.INTEGRITY, "the label is another key's")
        return CreatedMaster(self._token.serial)

    def _destroy(self, op: DestroyMaster) -> HsmResult:
        if op.serial != self._token.serial:
            return HsmFault(Fault.ELSEWHERE, "bound to another token")
        there = self._token.masters.get(op.material)
        if there is not None and there[1:] != (op.key, op.version):
            return HsmFault(Fault.INTEGRITY, "the label is another key's")
        masters = self._token.masters
        gone = [label for label, (_, *owner) in masters.items() if owner == [op.key, op.version]]
        return DestroyedMaster(len([masters.pop(label) for label in gone]))

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
                raise _Refused(Fault.ELSEWHERE)
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

    def __init__(self, token: FakeToken, fleet: str) -> None:
        self._token, self._fleet = token, fleet
        self._secrets = {(kind, 1): os.urandom(32) for kind in (FleetKind.ROW_MAC, FleetKind.INTAKE_WRAP)}
        self._signers = {1: _signer()}
        self._newest = dict.fromkeys(FleetKind, 1)
        self._retired: frozenset[int] = frozenset()
        self.lineage = Lineage(fleet, self._signers[1].public_key)

    def _here(self) -> None:
        if self._token.away:
            raise TokenUnavailable("the fake token is away")

    def create(self, op: CreateFleetKey) -> CreatedFleetKey:
        """See `worker.model.hsm.CreateFleetKey`."""
        if op.kind is not FleetKind.SIGNING:
            self._secrets.setdefault((op.kind, op.number), os.urandom(32))
            return CreatedFleetKey()
        old, new = self._signers[op.number - 1], self._signers.setdefault(op.number, _signer())
        said = Succession(self._fleet, op.number, old.public_key, new.public_key, op.not_before_ms).payload()
        return CreatedFleetKey(new.public_key, old.public_key, old.sign(said), new.sign(said))

    @property
    def signing_key(self) -> bytes:
        """See `worker.ports.FleetKeys`."""
        return self.lineage.newest

    def follow(self, rows: Iterable[FleetKey]) -> None:
        """See `worker.ports.FleetKeys`."""
        known = list(rows)
        self._newest = follow(known, self.lineage)
        self._retired |= retired(known)

    def newest(self, kind: FleetKind) -> int:
        """See `worker.ports.FleetKeys`."""
        return self._newest[kind]

    @property
    def retired(self) -> frozenset[int]:
        """See `worker.ports.FleetKeys`."""
        return self._retired

    async def bury(self) -> int:
        """See `worker.ports.FleetKeys`."""
        self._here()
        gone = [self._secrets.pop((FleetKind.ROW_MAC, version), None) for version in self._retired]
        return len(gone) - gone.count(None)

    async def mac(self, messages: Sequence[bytes]) -> list[Mac]:
        """See `worker.ports.FleetKeys`."""
        self._here()
        version = self._newest[FleetKind.ROW_MAC]
        return [Mac(version, self._mac(version, message)) for message in messages]

    async def verify(self, messages: Sequence[bytes], macs: Sequence[Mac]) -> list[bool]:
        """See `worker.ports.FleetKeys`."""
        self._here()
        pairs = zip(messages, macs, strict=True)
        return [
            (FleetKind.ROW_MAC, its.version) in self._secrets
            and its.version not in self._retired
            and hmac.compare_digest(self._mac(its.version, message), its.value)
            for message, its in pairs
        ]

    async def sign(self, message: bytes) -> bytes:
        """See `worker.ports.FleetKeys`."""
        self._here()
        return self._signers[self._newest[FleetKind.SIGNING]].sign(message)

    async def wrap_secret(self, secret: bytes, aad: bytes) -> bytes:
        """See `worker.ports.FleetKeys`."""
        self._here()
        version, nonce = self._newest[FleetKind.INTAKE_WRAP], os.urandom(NONCE_BYTES)
        key = AESGCM(self._secrets[FleetKind.INTAKE_WRAP, version])
        return version.to_bytes(4, "big") + nonce + key.encrypt(nonce, secret, aad)

    async def unwrap_secret(self, wrapped: bytes, aad: bytes) -> bytes:
        """See `worker.ports.FleetKeys`."""
        self._here()
        key = self._secrets.get((FleetKind.INTAKE_WRAP, int.from_bytes(wrapped[:4], "big")))
        if len(wrapped) < _HEADER + TAG_BYTES or key is None:
            raise ValueError("not a wrapped secret")
        try:
            return AESGCM(key).decrypt(wrapped[4:_HEADER], wrapped[_HEADER:], aad)
        except InvalidTag:
            raise ValueError("the secret does not unwrap under this AAD") from None

    def _mac(self, version: int, message: bytes) -> bytes:
        return hmac.digest(self._secrets[FleetKind.ROW_MAC, version], message, "sha256")


def _signer() -> ES256Signer:
    return ES256Signer("fleet", ec.generate_private_key(ec.SECP256R1()))
