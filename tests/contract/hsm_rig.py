"""What the HSM tests share: opening a token, building a chain on it, compiling the shim."""

import asyncio
import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pytest

from worker.edges.hsm import HsmConfig, Observer, Pin, Token, TokenState, Unobserved, open_token
from worker.edges.hsm.binding import ORDER, Attribute
from worker.edges.hsm.ck import CKA_CLASS, CKO_SECRET_KEY
from worker.edges.hsm.fake import FakeToken
from worker.edges.hsm.keeper import Keeper
from worker.local import Token as LocalToken
from worker.model.hsm import (
    CreatedKey,
    CreatedMaster,
    CreateKey,
    CreateMaster,
    Fault,
    HsmFault,
    HsmResult,
    Kek,
    Purpose,
    UnwrapDek,
    UnwrappedDek,
    WrapDek,
    WrappedDek,
    Wrapping,
)
from worker.ports import Hsm

AAD = b"header and tenant"
DIGEST = sha256(b"a context").digest()
SHIM_SOURCE = Path(__file__).parents[1] / "shim" / "shim.c"
_ORDER = ORDER.split()
AnyToken = Token | FakeToken


def config(local: LocalToken, module: Path | None = None, **more: object) -> HsmConfig:
    """For a token of this machine."""
    settings = {"fleet": "dev-test", "label": local.label, "sessions": 4} | more
    return HsmConfig(module=module or local.module, pin=Pin(local.pin_file.read_text().strip()), **settings)  # type: ignore[arg-type]


async def opened(
    local: LocalToken, module: Path | None = None, observer: Observer | None = None, **more: object
) -> Token:
    """An open token with fleet keys in it."""
    return await open_token(config(local, module, **more), observer, create_fleet_keys=True)


@dataclass(frozen=True)
class Chain:
    """L1, L2, L3 of one tenant."""

    l1: Kek
    l2: Kek
    l3: Kek


async def master(hsm: Hsm, serial: str) -> Kek:
    """A new L1."""
    key, material = uuid4(), uuid4()
    assert await hsm.run([CreateMaster(key, 1, material)], 20) == [CreatedMaster(serial)]
    return Kek(key, 1, 1, Purpose.WRAPS_KEYS, Wrapping.TOKEN, material=material, serial=serial)


async def child(hsm: Hsm, parent: Kek, purpose: Purpose) -> Kek:
    """A new key under `parent`."""
    key = uuid4()
    [made] = await hsm.run([CreateKey(parent, key, 1, purpose)], 20)
    assert isinstance(made, CreatedKey), made
    return Kek(key, 1, 1, purpose, made.wrapping, made.wrapped, parent)


async def chain(token: AnyToken) -> Chain:
    """A new tenant's three layers."""
    l1 = await master(token.hsm, token.serial)
    l2 = await child(token.hsm, l1, Purpose.WRAPS_KEYS)
    return Chain(l1, l2, await child(token.hsm, l2, Purpose.WRAPS_DEKS))


async def generated(hsm: Hsm, kek: Kek, count: int, timeout_s: float = 20) -> list[WrappedDek]:
    """So many new DEKs under `kek`."""
    done = await hsm.run([WrapDek(kek, AAD, DIGEST, 32)] * count, timeout_s)
    return [one for one in done if isinstance(one, WrappedDek)]


def unwrap(kek: Kek, wrapped: WrappedDek) -> UnwrapDek:
    """The operation that undoes one."""
    return UnwrapDek(kek, AAD, wrapped.nonce, wrapped.ciphertext)


def flipped(raw: bytes) -> bytes:
    """The same bytes with one bit turned."""
    return bytes([raw[0] ^ 1]) + raw[1:]


def deks(results: list[HsmResult]) -> list[bytes]:
    """The DEKs of unwrapped items; a fault fails the test."""
    found = [one.dek if isinstance(one, UnwrappedDek) else one for one in results]
    assert all(isinstance(one, bytes) for one in found), [one for one in found if not isinstance(one, bytes)]
    return [one for one in found if isinstance(one, bytes)]


def faults(results: list[HsmResult]) -> dict[int, Fault]:
    """The faults by position."""
    return {i: one.fault for i, one in enumerate(results) if isinstance(one, HsmFault)}


class Shim:
    """The PKCS#11 shim, loaded beside the edge that uses it; see tests/shim/shim.c."""

    def __init__(self, module: Path, down_file: Path) -> None:
        self.module, self.down_file = module, down_file
        self._library = ctypes.CDLL(str(module))

    def fail(self, function: str, code: int, *, every: int = 1, times: int = 1) -> None:
        """Let every nth call of a function (counted from now) answer `code`, so many times."""
        arguments = ctypes.c_long(every), ctypes.c_ulong(code), ctypes.c_long(times)
        self._library.shim_fail(ctypes.c_int(_ORDER.index(function)), *arguments)

    def count(self, function: str) -> int:
        """Calls of a function since `fail` named it, or since the start."""
        return int(self._library.shim_count(ctypes.c_int(_ORDER.index(function))))

    def delay(self, microseconds: int) -> None:
        """Let every crypto call take so much longer."""
        self._library.shim_delay(ctypes.c_long(microseconds))

    def lose_sessions(self) -> None:
        """As an HSM that was restarted: all sessions are closed, and everybody is logged out."""
        self._library.shim_logout()


def compiled_shim(folder: Path) -> Path:
    """Compile the shim; a machine without a compiler is told what it lacks."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    assert compiler, "the PKCS#11 shim needs a C compiler (apt-get install gcc)"
    made = folder / "shim.so"
    shared = ["-shared", "-fPIC", "-fvisibility=hidden"]
    subprocess.run([compiler, "-O2", *shared, "-o", str(made), str(SHIM_SOURCE), "-ldl", "-lpthread"], check=True)
    return made


class Watcher(Unobserved):
    """Remembers what the edge told."""

    def __init__(self) -> None:
        self.states: list[TokenState] = []
        self.busiest = 0
        self.ended: list[tuple[str, int, Fault | None]] = []

    def done(self, operation: str, count: int, seconds: float, fault: Fault | None) -> None:
        assert seconds >= 0
        self.ended.append((operation, count, fault))

    def sessions(self, in_use: int) -> None:
        self.busiest = max(self.busiest, in_use)

    def token(self, state: TokenState, detail: str) -> None:
        assert detail
        self.states.append(state)


class Closing:
    """Close a token whatever happens."""

    def __init__(self, token: Token) -> None:
        self._token = token

    async def __aenter__(self) -> Token:
        return self._token

    async def __aexit__(self, *_: object) -> None:
        await self._token.close()


async def works(token: Token, tenant: Chain) -> None:
    """Wrap and unwrap, and the fleet's keys too."""
    wrapped = await generated(token.hsm, tenant.l3, 20)
    assert deks(await token.hsm.run([unwrap(tenant.l3, one) for one in wrapped], 20)) == [w.dek for w in wrapped]
    [mac] = await token.fleet_keys.mac([b"row"])
    assert await token.fleet_keys.verify([b"row"], [mac]) == [True]


def keeper_of(token: Token) -> Keeper:
    """The cache of handles."""
    return token.hsm._keeper


async def count(token: Token) -> int:
    """Objects that the application sees, session keys included."""
    everything: list[Attribute] = [(CKA_CLASS, CKO_SECRET_KEY)]
    return await token.hsm.call(lambda crew: len(crew.session.find(everything, 4096)), 10)


async def counts(token: Token, wanted: int) -> None:
    """Wait until there are so many: what was dropped is buried by the next free thread."""
    async with asyncio.timeout(60):
        while await count(token) != wanted:
            await asyncio.sleep(0.005)


@contextmanager
def shimmed(token: LocalToken, folder: Path) -> Iterator[Shim]:
    """The real token behind the shim, whose environment is set meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHIM_MODULE", str(token.module))
        patch.setenv("SHIM_DOWN_FILE", str(folder / "down"))
        yield Shim(compiled_shim(folder), folder / "down")
