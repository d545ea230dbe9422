"""How far a file job has come: written beside its output, so that whoever starts it again goes on from there.

A checkpoint is saved only after everything that it counts is on disk, and replaces its forerunner whole or not at all.
"""

import os
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from worker.client.files.errors import FileRefused
from worker.model.fields import Body

HEAD_BYTES = 1024 * 1024


class Input(Body):
    """Which file is read. Any change to it shows in one of these."""

    bytes: int
    mtime_ns: int
    head_sha256: str


class Task(Body):
    """What is done to it. A job goes on only with the same task."""

    input: Input
    format: str
    to: str | None
    fleet: str
    tenant: str
    rejects: str


class Counts(Body):
    """Records so far. `copied`: headings and empty lines."""

    rewrapped: int = 0
    unchanged: int = 0
    rejected: int = 0
    copied: int = 0

    @property
    def records(self) -> int:
        """All that had a blob or should have had one."""
        return self.rewrapped + self.unchanged + self.rejected

    def plus(self, other: "Counts") -> "Counts":
        """Both together."""
        return Counts(
            rewrapped=self.rewrapped + other.rewrapped,
            unchanged=self.unchanged + other.unchanged,
            rejected=self.rejected + other.rejected,
            copied=self.copied + other.copied,
        )


class Checkpoint(Body):
    """`offset` and `lines` of the unpacked input are done; the files have this many bytes that count."""

    task: Task
    offset: int = 0
    lines: int = 0
    output_bytes: int = 0
    rejects_bytes: int = 0
    counts: Counts = Counts()
    finished: bool = False


def identify(file: BinaryIO) -> Input:
    """The identity of an open file. Leaves it at its beginning."""
    about = os.fstat(file.fileno())
    file.seek(0)
    head = file.read(HEAD_BYTES)
    file.seek(0)
    return Input(bytes=about.st_size, mtime_ns=about.st_mtime_ns, head_sha256=sha256(head).hexdigest())


def load(path: Path) -> Checkpoint | None:
    """The checkpoint in this file; None if there is no file. Raises `FileRefused`."""
    try:
        return Checkpoint.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        raise FileRefused(f"{path} is no checkpoint that can be read: move it away to begin anew") from None


def draft(path: Path) -> Path:
    """Where a checkpoint is written before it takes its place."""
    return path.with_name(f"{path.name}.new")


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Put it in the place of the last one, durably."""
    part = draft(path)
    with part.open("wb") as file:
        file.write(checkpoint.model_dump_json(indent=1).encode())
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names in this folder durable."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
