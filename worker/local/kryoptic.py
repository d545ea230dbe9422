"""kryoptic, the second token: built once from its published crate, kept in the cache, and a token in it.

It is crash-safe where SoftHSM2 is not, so kill storms run on it, and every contract of the HSM edge is proved on both.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

from worker.local.parts import PartMissing, Say, cache_dir, silent
from worker.local.token import LABEL, Token

VERSION = "1.5.4"
FEATURES = "minimal,kdf_all,kryoptic-lib/dynamic,kryoptic-lib/ffdh"
PACKAGES = ("gcc", "libc6-dev", "libssl-dev", "libsqlite3-dev", "pkg-config", "libclang1-14", "libclang-common-14-dev")
CURE = (
    "a Rust toolchain of 1.85 or newer, a C compiler and the headers of OpenSSL 3, SQLite and libclang "
    f"(on Debian: {' '.join(PACKAGES)}), then make install"
)


def module() -> Path | None:
    """The built module, or None: a machine without Rust goes without the second token."""
    named = os.environ.get("KEYRIVER_KRYOPTIC_MODULE")
    if named:
        return Path(named)
    return next(iter(_home().glob("libkryoptic_pkcs11.*")), None)


def must_have() -> bool:
    """Whether going without it is a failure: in CI, and where asked for by name."""
    return any(os.environ.get(name, "").lower() in ("1", "true") for name in ("CI", "KEYRIVER_REQUIRE_KRYOPTIC"))


def build(say: Say = silent) -> None:
    """Build it in the cache (under a minute); raise PartMissing if that can't be."""
    if not shutil.which("cargo"):
        raise PartMissing("kryoptic", CURE)
    if shutil.which("apt-get") and os.geteuid() == 0:
        say("kryoptic: installing the headers that it needs by apt")
        _run(["apt-get", "update", "-qq"], Path("/"))
        _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES], Path("/"))
    home = _home()
    home.mkdir(parents=True, exist_ok=True)
    say(f"kryoptic: building {VERSION} (once, about a minute)")
    source = home / "source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(_crate(home / "fetch"), source)
    build_command = ["cargo", "build", "--quiet", "--release", "--lib", "--locked", "--no-default-features"]
    _run([*build_command, "--features", FEATURES], source, _libclang())
    built = next((source / "target" / "release").glob("libkryoptic_pkcs11.[sd]*[oy]*"))
    shutil.copy2(built, home / f"{built.name}.new")
    (home / f"{built.name}.new").rename(home / built.name)
    shutil.rmtree(source)
    shutil.rmtree(home / "fetch")


def token(folder: Path, module_file: Path, label: str = LABEL) -> Token:
    """The token in `folder`, made if it is not there yet."""
    conf = folder / "kryoptic.conf"
    made = Token(module_file, folder, {"KRYOPTIC_CONF": str(conf)}, label)
    if not made.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        conf.write_text(f'[[slots]]\nslot = 0\ndbtype = "sqlite"\ndbargs = "{folder / "token.sql"}"\n')
        made.initialise()
    return made


def _home() -> Path:
    return cache_dir() / f"kryoptic-{VERSION}"


def _crate(scratch: Path) -> Path:
    """The unpacked source of the crate, fetched as a dependency of an empty one (cargo has no plain download)."""
    (scratch / "src").mkdir(parents=True, exist_ok=True)
    (scratch / "src" / "lib.rs").touch()
    (scratch / "Cargo.toml").write_text(
        f'[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n\n[dependencies]\nkryoptic = "={VERSION}"\n'
    )
    packages = json.loads(_run(["cargo", "metadata", "--quiet", "--format-version", "1"], scratch))["packages"]
    return Path(next(one["manifest_path"] for one in packages if one["name"] == "kryoptic")).parent


def _libclang() -> dict[str, str]:
    """Where bindgen finds libclang, unless it is told already."""
    folders = sorted(Path("/usr/lib").glob("llvm-*/lib"), reverse=True)
    found = next((str(folder) for folder in folders if any(folder.glob("libclang*.so*"))), None)
    return {"LIBCLANG_PATH": found} if found and "LIBCLANG_PATH" not in os.environ else {}


def _run(command: list[str], cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=os.environ | (env or {}), check=False)
    if done.returncode != 0:
        raise PartMissing("kryoptic", f"{CURE} ({' '.join(command[:2])} said: {done.stderr.strip()[-600:]})")
    return done.stdout
