"""The files of a job that is not finished: OUT.part, its rejects, OUT.checkpoint. OUT itself appears when all is done.

OUT.part is also the lock: one process works on it. Its bytes beyond the checkpoint don't count; a job that goes on cuts
them off. Nothing that is not this job's own is ever written over.
"""

import fcntl
import json
import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from worker.client.files import checkpoint
from worker.client.files.checkpoint import Checkpoint, Counts, Task
from worker.client.files.errors import FileRefused, InputChanged
from worker.client.files.packing import Packed, packing_of
from worker.client.files.records import Fault, Record


@dataclass(frozen=True, slots=True)
class Places:
    """Where a job's files stand. Raises `FileRefused` if the rejects would lie where another of them does."""

    out: Path
    rejects: Path

    def __post_init__(self) -> None:
        others = (self.out, self.part, self.checkpoint, checkpoint.draft(self.checkpoint))
        if self.rejects.resolve() in [one.resolve() for one in others]:
            raise FileRefused(f"{self.rejects} can't hold the rejects, for the job writes there: name another file")

    @property
    def part(self) -> Path:
        """The output while it grows."""
        return self.out.with_name(f"{self.out.name}.part")

    @property
    def checkpoint(self) -> Path:
        """How far it has come."""
        return self.out.with_name(f"{self.out.name}.checkpoint")


class Unfinished:
    """An output that this process alone may write. `reached` is what is on disk for good."""

    def __init__(self, places: Places, task: Task) -> None:
        """Take it up where it was left, or begin. Raises `FileRefused` or `InputChanged`."""
        self._places = places
        self._files = ExitStack()
        self._file = self._files.enter_context(_locked(places.part))
        try:
            self.reached = self._reached(task)
            self._rejects = self._files.enter_context(self._opened_rejects())
            _cut(self._file, self.reached.output_bytes, places.part)
            _cut(self._rejects, self.reached.rejects_bytes, places.rejects)
        except BaseException:
            self._give_up()
            raise
        checkpoint.sync_folder(places.rejects.parent)
        self._packed = Packed(self._file, packing_of(places.out))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        """Let go of the files; what was not marked is cut off by who goes on."""
        self._files.close()

    def put(self, records: bytes, rejects: list[tuple[Record, Fault]]) -> None:
        """Append to the output and to the rejects."""
        self._packed.write(records)
        self._rejects.write(b"".join(_told(record, fault) for record, fault in rejects))

    def mark(self, offset: int, lines: int, counts: Counts, *, finished: bool = False) -> None:
        """Everything put so far is on disk when this returns, and a job that goes on goes on from here."""
        output_bytes = self._packed.mark(at_least_one=finished and self.reached.output_bytes == 0)
        self._rejects.flush()
        os.fsync(self._file.fileno())
        os.fsync(self._rejects.fileno())
        self.reached = Checkpoint(
            task=self.reached.task,
            offset=offset,
            lines=lines,
            output_bytes=output_bytes,
            rejects_bytes=self._rejects.tell(),
            counts=counts,
            finished=finished,
        )
        checkpoint.save(self._places.checkpoint, self.reached)

    def finish(self) -> None:
        """Give the finished output its name; the checkpoint has served. Raises `FileRefused`."""
        if self._places.out.exists():
            raise FileRefused(f"{self._places.out} appeared meanwhile: move it away and start the job again")
        self._places.part.rename(self._places.out)
        if not self.reached.rejects_bytes:
            self._places.rejects.unlink(missing_ok=True)
        checkpoint.sync_folder(self._places.out.parent)
        self._places.checkpoint.unlink(missing_ok=True)

    def _reached(self, task: Task) -> Checkpoint:
        places, found = self._places, checkpoint.load(self._places.checkpoint)
        if found is not None:
            _same(found.task, task, places)
        if places.out.exists():
            raise FileRefused(f"{places.out} is there already: move it away, or name another output")
        if found is not None:
            return found
        if self._file.seek(0, os.SEEK_END):
            raise FileRefused(f"{places.part} is no unfinished output of this job: move it away")
        if places.rejects.exists():
            raise FileRefused(f"{places.rejects} is there already: move it away, or name another file for rejects")
        begun = Checkpoint(task=task)
        checkpoint.save(places.checkpoint, begun)
        return begun

    def _opened_rejects(self) -> BinaryIO:
        path = self._places.rejects
        if self.reached.rejects_bytes and not path.exists():
            raise FileRefused(f"{path} is gone, and the job had rejects: bring it back, or begin anew")
        return _opened(path)

    def _give_up(self) -> None:
        """Leave no empty file behind that this process made just to look."""
        if os.fstat(self._file.fileno()).st_size == 0 and not self._places.checkpoint.exists():
            with suppress(FileNotFoundError):
                self._places.part.unlink()
        self._files.close()


def complete(places: Places, task: Task) -> Checkpoint | None:
    """What a process reached that died after it had given the output its name; then nothing is left to do."""
    found = checkpoint.load(places.checkpoint)
    if found is None or not found.finished or not places.out.exists() or places.part.exists():
        return None
    _same(found.task, task, places)
    if not found.rejects_bytes:
        places.rejects.unlink(missing_ok=True)
    places.checkpoint.unlink(missing_ok=True)
    return found


def _opened(path: Path) -> BinaryIO:
    try:
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b")
    except OSError as error:
        raise FileRefused(f"{path}: {error.strerror}") from None


def _locked(path: Path) -> BinaryIO:
    file = _opened(path)
    with suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(path.stat(), os.fstat(file.fileno())):  # else its owner finished it just now
            return file
    file.close()
    raise FileRefused(f"another process works on {path}")


def _cut(file: BinaryIO, length: int, path: Path) -> None:
    if file.seek(0, os.SEEK_END) < length:
        raise FileRefused(f"{path} is shorter than its checkpoint says: it was changed; begin anew")
    file.truncate(length)
    file.seek(length)


def _same(begun: Task, now: Task, places: Places) -> None:
    if begun.input != now.input:
        raise InputChanged(
            f"the input changed since {places.part} was begun: start with what it was, or remove {places.part}, "
            f"{places.checkpoint} and {places.rejects} to begin anew"
        )
    different = [name for name in Task.model_fields if getattr(begun, name) != getattr(now, name)]
    if different:
        raise FileRefused(f"{places.part} was begun with another {', '.join(different)}: start it as it was begun")


def _told(record: Record, fault: Fault) -> bytes:
    """A line of the rejects: where, why, and the record itself, so that it can be mended and tried again."""
    said: dict[str, object] = {"line": record.line, "code": fault.code, "message": fault.message}
    try:
        said["record"] = record.raw.decode()
    except UnicodeDecodeError:
        said["record_latin1"] = record.raw.decode("latin-1")
    return json.dumps(said, ensure_ascii=False).encode() + b"\n"
