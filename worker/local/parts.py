"""What the one-machine stack is made of, where it is kept, and what is said when a part is missing."""

import os
from collections.abc import Callable
from pathlib import Path

Say = Callable[[str], None]
"""Takes one line of progress for a person to read."""


class PartMissing(Exception):
    """A part of the stack is not on this machine; the message ends with how to get it."""

    def __init__(self, part: str, cure: str) -> None:
        super().__init__(f"{part} is missing. To get it: {cure}")
        self.part = part
        self.cure = cure


class PartFailed(Exception):
    """A part is there but did not start, answer or stop; the message ends with its last words."""


def cache_dir() -> Path:
    """The folder that all checkouts of one person share: jars, built tokens."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "keyriver"


def silent(_text: str) -> None:
    """Say nothing."""
