"""The fleet's own keys (SECURITY S5): versioned token objects, found by label, one purpose each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from hmac import compare_digest
from typing import Final, TypeVar

from worker.edges.hsm.ck import CKM_ECDSA, CKM_SHA256_HMAC, Blame, CkError
from worker.edges.hsm.config import HsmConfig
from worker.edges.hsm.crew import Crew
from worker.edges.hsm.fleet_objects import FleetKeyMissing, FleetObjects, label_of, make
from worker.edges.hsm.locks import module_lock
from worker.edges.hsm.pool import Pool
from worker.edges.hsm.probe import Nonces
from worker.edges.hsm.session import NONCE_BYTES, TAG_BYTES
from worker.model.fleet import FleetKey, FleetKind
from worker.ports import Mac, TokenUnavailable
from worker.seal.lineage import Lineage, follow, retired

_HEADER: Final = 4 + NONCE_BYTES
_FIRST: Final = dict.fromkeys(FleetKind, 1)

T = TypeVar("T")


class TokenFleetKeys:
    """Implements `worker.ports.FleetKeys`."""

    def __init__(self, config: HsmConfig, pool: Pool) -> None:
        self._fleet, self._pool, self._timeout = config.fleet, pool, config.fleet_timeout_s
        self._start_timeout = config.start_timeout_s
        self._objects = FleetObjects(config.fleet)
        self._newest = _FIRST
        self._retired: frozenset[int] = frozenset()
        self.lineage = Lineage(config.fleet, b"")

    def label(self, kind: FleetKind, version: int) -> str:
        """CKA_LABEL of one version of a fleet key."""
        return label_of(self._fleet, kind, version)

    async def create(self) -> None:
        """Make version 1 of each key that is not there."""
        await self._pool.call(self._create, self._start_timeout)

    async def load(self) -> None:
        """Find every key's oldest version; `follow` tells of others. Raises `FleetKeyMissing`."""
        await self._pool.call(self._load, self._start_timeout)

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
        return await self._call(self._bury) if self._retired else 0

    async def mac(self, messages: Sequence[bytes]) -> list[Mac]:
        """See `worker.ports.FleetKeys`."""
        version = self._newest[FleetKind.ROW_MAC]
        return [Mac(version, value) for value in await self._call(partial(self._macs, version, messages))]

    async def verify(self, messages: Sequence[bytes], macs: Sequence[Mac]) -> list[bool]:
        """See `worker.ports.FleetKeys`."""
        return await self._call(partial(self._verified, messages, macs))

    async def sign(self, message: bytes) -> bytes:
        """See `worker.ports.FleetKeys`."""
        return await self._call(partial(self._sign, hashlib.sha256(message).digest()))

    async def wrap_secret(self, secret: bytes, aad: bytes) -> bytes:
        """See `worker.ports.FleetKeys`."""
        return await self._call(partial(self._wrap, secret, aad))

    async def unwrap_secret(self, wrapped: bytes, aad: bytes) -> bytes:
        """See `worker.ports.FleetKeys`."""
        if len(wrapped) < _HEADER + TAG_BYTES:
            raise ValueError("not a wrapped secret")
        return await self._call(partial(self._unwrap, wrapped, aad))

    # On a pool thread.

    async def _call(self, function: Callable[[Crew], T]) -> T:
        return await self._pool.call(function, self._timeout)

    def _load(self, crew: Crew) -> None:
        for kind in FleetKind:
            self._objects.handles(crew, kind, self._objects.oldest(crew, kind) or 1)
        points = self._objects.points(crew, 1)
        if not points:
            raise FleetKeyMissing(f"the token has no public half of {self.label(FleetKind.SIGNING, 1)}")
        self.lineage = Lineage(self._fleet, min(points))

    def _create(self, crew: Crew) -> None:
        with module_lock(crew.device.module, self._start_timeout) as locked:
            if not locked:
                raise TokenUnavailable("another process is creating token objects")
            for kind in FleetKind:
                if not self._objects.oldest(crew, kind):
                    make(crew, self._fleet, kind, 1)

    def _macs(self, version: int, messages: Sequence[bytes], crew: Crew) -> list[bytes]:
        handle = self._objects.handles(crew, FleetKind.ROW_MAC, version)[0]
        return [crew.session.sign(CKM_SHA256_HMAC, handle, message) for message in messages]

    def _verified(self, messages: Sequence[bytes], macs: Sequence[Mac], crew: Crew) -> list[bool]:
        handles: dict[int, list[int]] = {}
        for version in {mac.version for mac in macs}:
            if version in self._retired:
                handles[version] = []
                continue
            try:
                handles[version] = self._objects.handles(crew, FleetKind.ROW_MAC, version)
            except FleetKeyMissing:
                handles[version] = []
        return [
            any(
                compare_digest(crew.session.sign(CKM_SHA256_HMAC, handle, message), mac.value)
                for handle in handles[mac.version]
            )
            for message, mac in zip(messages, macs, strict=True)
        ]

    def _bury(self, crew: Crew) -> int:
        with module_lock(crew.device.module, self._timeout) as locked:
            if not locked:
                raise TokenUnavailable("another process is destroying token objects")
            return sum(self._objects.destroy(crew, FleetKind.ROW_MAC, version) for version in sorted(self._retired))

    def _sign(self, digest: bytes, crew: Crew) -> bytes:
        handle = self._objects.signing(crew, self._newest[FleetKind.SIGNING], self.lineage.newest)
        return crew.session.sign(CKM_ECDSA, handle, digest)

    def _wrap(self, secret: bytes, aad: bytes, crew: Crew) -> bytes:
        version = self._newest[FleetKind.INTAKE_WRAP]
        key, session = self._objects.handles(crew, FleetKind.INTAKE_WRAP, version)[0], crew.session
        nonce = session.random(NONCE_BYTES)
        sealed = session.encrypt(key, nonce, aad, secret)
        match crew.device.abilities.nonces:
            case Nonces.WRITTEN:
                nonce = session.nonce()
            case Nonces.APPENDED:
                nonce, sealed = sealed[-NONCE_BYTES:], sealed[:-NONCE_BYTES]
        return version.to_bytes(4, "big") + nonce + sealed

    def _unwrap(self, wrapped: bytes, aad: bytes, crew: Crew) -> bytes:
        version, nonce, sealed = int.from_bytes(wrapped[:4], "big"), wrapped[4:_HEADER], wrapped[_HEADER:]
        try:
            keys = self._objects.handles(crew, FleetKind.INTAKE_WRAP, version)
        except FleetKeyMissing as missing:
            raise ValueError("wrapped under an unknown version") from missing
        for key in keys:
            for last in (False, True):
                try:
                    return crew.session.decrypt(key, nonce, aad, sealed)
                except CkError as error:
                    if error.blame is not Blame.UNSURE or last:
                        break
                    crew.confirm(error)
                finally:
                    crew.session.wipe()
        raise ValueError("the secret does not unwrap under this AAD")
