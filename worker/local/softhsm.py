"""SoftHSM2: where its module is, how to get it, and a token in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from worker.local.parts import PartMissing, Say, cache_dir, silent
from worker.local.token import LABEL, Token

MODULE = "libsofthsm2.so"
PACKAGES = ("softhsm2", "libsofthsm2", "softhsm2-common")
CURE = "apt-get install softhsm2, dnf install softhsm, or brew install softhsm"
PLACES = (
    "/usr/lib/softhsm",
    "/usr/lib/*/softhsm",
    "/usr/lib64/softhsm",
    "/usr/lib64/pkcs11",
    "/usr/local/lib/softhsm",
    "/opt/homebrew/lib/softhsm",
)


def module() -> Path:
    """The module: KEYRIVER_SOFTHSM_MODULE, where systems put it, or our own unpacked copy."""
    named = os.environ.get("KEYRIVER_SOFTHSM_MODULE")
    if named:
        return Path(named)
    for place in (*PLACES, f"{_unpacked()}/usr/lib/softhsm", f"{_unpacked()}/usr/lib/*/softhsm"):
        for found in Path("/").glob(f"{place.lstrip('/')}/{MODULE}"):
            return found
    raise PartMissing("SoftHSM2", f"make install, or {CURE}")


def fetch(say: Say = silent) -> None:
    """Install SoftHSM2 as root by apt, else unpack Debian's packages into the cache, else by brew."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        say("SoftHSM2: installing by apt")
        _run(["apt-get", "update", "-qq"])
        _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "softhsm2"])
    elif shutil.which("apt-get") and shutil.which("dpkg"):
        say("SoftHSM2: unpacking the system's packages, no root needed")
        folder = _unpacked()
        folder.mkdir(parents=True, exist_ok=True)
        _run(["apt-get", "download", *PACKAGES], cwd=folder)
        for package in folder.glob("*.deb"):
            _run(["dpkg", "-x", package.name, "."], cwd=folder)
    elif sys.platform == "darwin" and shutil.which("brew"):
        say("SoftHSM2: installing by brew")
        _run(["brew", "install", "--quiet", "softhsm"])
    else:
        raise PartMissing("SoftHSM2", CURE)


def described(folder: Path, label: str = LABEL, module_file: Path | None = None) -> Token:
    """The token in `folder`, which may not be made yet."""
    return Token(module_file or module(), folder, {"SOFTHSM2_CONF": str(folder / "softhsm2.conf")}, label)


def token(folder: Path, label: str = LABEL, module_file: Path | None = None) -> Token:
    """The token in `folder`, made if it is not there yet."""
    made = described(folder, label, module_file)
    if not made.exists():
        shutil.rmtree(folder, ignore_errors=True)
        tokens = folder / "tokens"
        tokens.mkdir(parents=True)
        conf = f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
        (folder / "softhsm2.conf").write_text(conf)
        made.initialise()
    return made


def _unpacked() -> Path:
    return cache_dir() / "softhsm2"


def _run(command: list[str], cwd: Path | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    if done.returncode != 0:
        raise PartMissing("SoftHSM2", f"{CURE} ({' '.join(command[:2])} said: {done.stderr.strip()[-300:]})")
