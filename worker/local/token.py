"""A PKCS#11 token of this machine's own: its module, its environment, its label and its PIN files.

`python -m worker.local.token MODULE LABEL` initialises an empty token (SO-PIN and PIN, a line each, on standard
input). It runs in a process of its own because a module reads its configuration once, at C_Initialize, and a PIN must
not stand on a command line.
"""

import ctypes
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from ctypes import POINTER, byref, c_ubyte, c_ulong, c_void_p
from dataclasses import dataclass
from pathlib import Path

from worker.local.parts import PartFailed

LABEL = "keyriver"
# Positions in CK_FUNCTION_LIST (PKCS#11 2.40, section 3.6), counted after the version.
C_INITIALIZE, C_FINALIZE, C_GET_SLOT_LIST, C_GET_TOKEN_INFO = 0, 1, 4, 6
C_INIT_TOKEN, C_INIT_PIN, C_OPEN_SESSION, C_LOGIN = 9, 10, 12, 18
CKU_SO, CKF_RW_SERIAL_SESSION = 0, 2 | 4
LABEL_BYTES, TOKEN_INFO_BYTES = 32, 512


@dataclass(frozen=True, slots=True)
class Token:
    """An initialised token in `folder`; `env` must be set before the module is loaded by a process."""

    module: Path
    folder: Path
    env: Mapping[str, str]
    label: str = LABEL

    @property
    def pin_file(self) -> Path:
        """File of mode 0400 with the user PIN and nothing else."""
        return self.folder / "pin"

    def exists(self) -> bool:
        """Whether it was initialised to the end (the mark is written last)."""
        return (self.folder / "initialised").exists()

    def initialise(self) -> None:
        """Make PINs and an empty token."""
        pins = [_secret_file(self.folder / "so-pin"), _secret_file(self.pin_file)]
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(self.module), self.label],
            input="\n".join(pins),
            capture_output=True,
            text=True,
            env=os.environ | self.env,
            check=False,
        )
        if done.returncode != 0:
            raise PartFailed(f"the token in {self.folder} could not be initialised: {done.stderr.strip()}")
        (self.folder / "initialised").touch()

    def keep_pristine(self) -> None:
        """Copy the folder as it is now: a SIGKILL inside C_Login can destroy a SoftHSM2 token."""
        shutil.copytree(self.folder, self._pristine(), dirs_exist_ok=True)

    def restore_pristine(self) -> None:
        """Put the kept copy back. No process may have the module loaded."""
        shutil.rmtree(self.folder)
        shutil.copytree(self._pristine(), self.folder)

    def _pristine(self) -> Path:
        return self.folder.with_name(self.folder.name + ".pristine")


def _secret_file(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    secret = secrets.token_hex(12)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o400), "w") as new:
        new.write(secret)
    return secret


class _Module:
    """A loaded PKCS#11 module, as far as initialising a token needs it."""

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)
        table = POINTER(c_void_p)()
        self._library.C_GetFunctionList(byref(table))
        self._table = table

    def call(self, position: int, *arguments: object) -> None:
        """Call one function; PartFailed carries its CKR code."""
        # The table begins with a CK_VERSION, padded to the size of a pointer.
        code = ctypes.CFUNCTYPE(c_ulong)(self._table[position + 1] or 0)(*arguments)
        if code != 0:
            raise PartFailed(f"PKCS#11 function {position} answers {code:#x}")

    def slots(self, with_token: bool) -> list[int]:
        """Slot ids."""
        count = c_ulong()
        self.call(C_GET_SLOT_LIST, c_ubyte(with_token), None, byref(count))
        ids = (c_ulong * count.value)()
        self.call(C_GET_SLOT_LIST, c_ubyte(with_token), ids, byref(count))
        return list(ids)

    def label(self, slot: int) -> bytes:
        """The token's label, without its padding."""
        info = (c_ubyte * TOKEN_INFO_BYTES)()
        self.call(C_GET_TOKEN_INFO, c_ulong(slot), byref(info))
        return bytes(info[:LABEL_BYTES]).rstrip()


def initialise(module_path: str, label: bytes, so_pin: bytes, pin: bytes) -> None:
    """Initialise the last free slot of the module as a token with these PINs."""
    module = _Module(module_path)
    module.call(C_INITIALIZE, None)
    so = (so_pin, c_ulong(len(so_pin)))
    module.call(C_INIT_TOKEN, c_ulong(module.slots(with_token=False)[-1]), *so, label.ljust(LABEL_BYTES))
    # SoftHSM2 gives an initialised token another slot id.
    slot = next(slot for slot in module.slots(with_token=True) if module.label(slot) == label)
    session = c_ulong()
    module.call(C_OPEN_SESSION, c_ulong(slot), c_ulong(CKF_RW_SERIAL_SESSION), None, None, byref(session))
    module.call(C_LOGIN, session, c_ulong(CKU_SO), *so)
    module.call(C_INIT_PIN, session, pin, c_ulong(len(pin)))
    module.call(C_FINALIZE, None)


if __name__ == "__main__":
    _so_pin, _pin = sys.stdin.read().splitlines()
    initialise(sys.argv[1], sys.argv[2].encode(), _so_pin.encode(), _pin.encode())
