"""The identity file: JSON with private keys, so it is refused unless its owner alone may read it."""

import os
import stat
from pathlib import Path

from worker.client.errors import BadIdentityFile
from worker.seal.errors import BadIdentity
from worker.seal.identity import Identity, parse_identity

ALLOWED = frozenset({0o400, 0o600})


def load_identity(path: Path) -> Identity:
    """The identity in the file. Raises `BadIdentityFile`, naming the file and what is wrong, never a value."""
    try:
        with path.open("rb") as file:
            # On the open file: what is checked is what is read.
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode not in ALLOWED:
                raise BadIdentityFile(f"{path}: its mode is {mode:04o}; it must be 0400 or 0600 (chmod 600)")
            document = file.read()
        return parse_identity(document)
    except OSError as error:
        raise BadIdentityFile(f"{path}: {error.strerror}") from None
    except BadIdentity as error:
        raise BadIdentityFile(f"{path}: {error}") from None
