"""Identity files: who signs a command, and where new identities are put. Mode 0600, written whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from worker.cli.errors import Refused
from worker.client import BadIdentityFile, load_identity
from worker.model.rows import FLEET_TENANT
from worker.seal.identity import Identity, dump_identity


def path_of(folder: Path, name: str) -> Path:
    """Where the identity of this name is kept."""
    return folder / f"{name}.json"


def write(path: Path, identity: Identity) -> None:
    """Write it durably, readable for its owner alone. Never over another one: raises `Refused`."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        part.unlink()
    with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(dump_identity(identity))
        file.flush()
        os.fsync(file.fileno())
    try:
        path.hardlink_to(part)
    except FileExistsError:
        raise Refused(f"{path} is there already: move it away, or name another file") from None
    finally:
        part.unlink()


def officer(named: Path | None, folder: Path) -> Identity:
    """The identity that signs: the one named, or the first officer's that `init` left in the folder."""
    if named is not None:
        return load_identity(named)
    for path in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
        with suppress(BadIdentityFile):
            identity = load_identity(path)
            if identity.tenant == FLEET_TENANT:
                return identity
    raise Refused(
        f"no officer's identity in {folder}: name one with --as FILE or KEYRIVER_IDENTITY, or run `keyriver init`"
    )
