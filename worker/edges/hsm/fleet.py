"""The fleet's own keys (SECURITY S5): versioned token objects, found by label, one purpose each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from hmac import compare_digest
from typing import Final, TypeVar

from worker.edges.hsm import templates
from worker.edges.hsm.ck import (
    CKA_EC_POINT,
    CKA_LABEL,
    CKM_AES_KEY_GEN,
    CKM_EC_KEY_PAIR_GEN,
    CKM_ECDSA,
    CKM_GENERIC_SECRET_KEY_GEN,
    CKM_SHA256_HMAC,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
    CKO_SECRET_KEY,
    Blame,
    CkError,
)
from worker.edges.hsm.config import HsmConfig
from worker.edges.hsm.crew import Crew
from worker.edges.hsm.locks import module_lock
from worker.edges.hsm.pool import Pool
from worker.edges.hsm.probe import Nonces
from worker.edges.hsm.session import NONCE_BYTES, TAG_BYTES
from worker.ports import Mac, TokenUnavailable

ROW_MAC, INTAKE_WRAP, SIGNING = "row-mac", "intake-wrap", "signing"
KINDS: Final = {ROW_MAC: CKO_SECRET_KEY, INTAKE_WRAP: CKO_SECRET_KEY, SIGNING: CKO_PRIVATE_KEY}
_MAX_VERSION: Final = 10_000
_HEADER: Final = 4 + NONCE_BYTES

T = TypeVar("T")


class FleetKeyMissing(TokenUnavailable):
    """The token has no such fleet key; `keyriver init` makes them."""


class TokenFleetKeys:
    """Implements `worker.ports.FleetKeys`."""

    def __init__(self, config: HsmConfig, pool: Pool) -> None:
        self._fleet, self._pool, self._timeout = config.fleet, pool, config.fleet_timeout_s
        self._start_timeout = config.start_timeout_s
        self._newest: dict[str, int] = {}
        self._handles: dict[tuple[str, int], int] = {}
        self._epoch = -1
        self._point = b""

    def label(self, kind: str, version: int) -> str:
        """CKA_LABEL of one version of a fleet key."""
        return f"keyriver/{self._fleet}/{kind}/{version}"

    async def create(self) -> None:
        """Make version 1 of each key that is not there."""
        await self._pool.call(self._create, self._start_timeout)

    async def load(self) -> None:
        """Find every key's newest version. Raises `FleetKeyMissing`."""
        await self._pool.call(self._load, self._start_timeout)

    @property
    def signing_key(self) -> bytes:
        """See `worker.ports.FleetKeys`."""
        return self._point

    async def mac(self, messages: Sequence[bytes]) -> list[Mac]:
        """See `worker.ports.FleetKeys`."""
        version = self._newest[ROW_MAC]
        made = await self._call(partial(self._macs, [version] * len(messages), messages))
        return [Mac(version, value) for value in made]

    async def verify(self, messages: Sequence[bytes], macs: Sequence[Mac]) -> list[bool]:
        """See `worker.ports.FleetKeys`."""
        made = await self._call(partial(self._macs, [mac.version for mac in macs], messages))
        return [value != b"" and compare_digest(value, mac.value) for value, mac in zip(made, macs, strict=True)]

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

    def _handle(self, crew: Crew, kind: str, version: int) -> int:
        """The object, its label read back: a handle of another login may be anybody's. Raises `FleetKeyMissing`."""
        label = self.label(kind, version)
        if self._epoch != crew.device.epoch:
            self._epoch, self._handles = crew.device.epoch, {}
        known = self._handles.get((kind, version))
        if known is not None:
            try:
                if crew.session.attribute(known, CKA_LABEL) == label.encode():
                    return known
            except CkError as error:
                if error.blame is not Blame.HANDLE:
                    raise
        found = crew.find(templates.by_label(KINDS[kind], label))
        if not found:
            raise FleetKeyMissing(f"the token has no {label}: run keyriver init")
        self._handles[kind, version] = found[0]
        return found[0]

    def _load(self, crew: Crew) -> None:
        for kind in KINDS:
            self._handle(crew, kind, 1)
            self._newest[kind] = next(v for v in range(1, _MAX_VERSION) if not self._has(crew, kind, v + 1))
        label = self.label(SIGNING, self._newest[SIGNING])
        public = crew.find(templates.by_label(CKO_PUBLIC_KEY, label))
        if not public:
            raise FleetKeyMissing(f"the token has no public half of {label}: run keyriver init")
        # CKA_EC_POINT is a DER OCTET STRING around the point.
        self._point = crew.session.attribute(public[0], CKA_EC_POINT)[-65:]

    def _has(self, crew: Crew, kind: str, version: int) -> bool:
        return bool(crew.find(templates.by_label(KINDS[kind], self.label(kind, version))))

    def _create(self, crew: Crew) -> None:
        restrict, session = crew.device.abilities.restricts, crew.session
        with module_lock(crew.device.module, self._start_timeout) as locked:
            if not locked:
                raise TokenUnavailable("another process is creating token objects")
            if not self._has(crew, ROW_MAC, 1):
                label = self.label(ROW_MAC, 1)
                session.generate(CKM_GENERIC_SECRET_KEY_GEN, templates.row_mac(label, restrict=restrict))
            if not self._has(crew, INTAKE_WRAP, 1):
                label = self.label(INTAKE_WRAP, 1)
                session.generate(CKM_AES_KEY_GEN, templates.intake_wrap(label, restrict=restrict))
            if not self._has(crew, SIGNING, 1):
                public, private = templates.signing_pair(self.label(SIGNING, 1), restrict=restrict)
                session.generate_pair(CKM_EC_KEY_PAIR_GEN, public, private)

    def _macs(self, versions: Sequence[int], messages: Sequence[bytes], crew: Crew) -> list[bytes]:
        """One MAC per message; empty where the version is unknown."""
        handles: dict[int, int | None] = {}
        for version in set(versions):
            try:
                handles[version] = self._handle(crew, ROW_MAC, version)
            except FleetKeyMissing:
                handles[version] = None
        made = []
        for version, message in zip(versions, messages, strict=True):
            handle = handles[version]
            made.append(b"" if handle is None else crew.session.sign(CKM_SHA256_HMAC, handle, message))
        return made

    def _sign(self, digest: bytes, crew: Crew) -> bytes:
        return crew.session.sign(CKM_ECDSA, self._handle(crew, SIGNING, self._newest[SIGNING]), digest)

    def _wrap(self, secret: bytes, aad: bytes, crew: Crew) -> bytes:
        version = self._newest[INTAKE_WRAP]
        key, session = self._handle(crew, INTAKE_WRAP, version), crew.session
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
            key = self._handle(crew, INTAKE_WRAP, version)
        except FleetKeyMissing as missing:
            raise ValueError("wrapped under an unknown version") from missing
        for last in (False, True):
            try:
                return crew.session.decrypt(key, nonce, aad, sealed)
            except CkError as error:
                if error.blame is Blame.UNSURE and not last:
                    crew.confirm(error)
                    continue
                raise ValueError("the secret does not unwrap under this AAD") from error
            finally:
                crew.session.wipe()
        raise AssertionError("unreachable")
