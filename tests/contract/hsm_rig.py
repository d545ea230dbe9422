"""What the HSM tests share: opening a token, building a chain on it, compiling the shim."""

import ctypes
import shutil
import subprocess
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from worker.edges.hsm import HsmConfig, Observer, Pin, Token, open_token
from worker.edges.hsm.binding import ORDER
from worker.edges.hsm.fake import FakeToken
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
