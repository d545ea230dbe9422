"""One lock for all processes of this machine that use one PKCS#11 module: an advisory lock on the module's own file.

SoftHSM2 rewrites its token at every login, and six processes that start at once fail in a third of the cases
(FACTS section 2). Nothing is written anywhere; whoever can read the module can take part.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep


@contextmanager
def module_lock(module: Path, patience_s: float = 5.0) -> Iterator[bool]:
    """Hold the lock; yields False when it was not to be had within `patience_s` seconds."""
    descriptor = os.open(module, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield _locked(descriptor, monotonic() + patience_s)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, until: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if monotonic() > until:
                return False
            sleep(0.005)
        else:
            return True
