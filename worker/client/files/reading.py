"""The input of a job: an open file of a known format, read record by record in portions of bounded size."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from worker.client.files.checkpoint import identify
from worker.client.files.errors import FileRefused, InputChanged
from worker.client.files.formats import Format
from worker.client.files.lines import Lines
from worker.client.files.packing import BROKEN, packing_of, unpacked
from worker.client.files.records import Record

PORTION_BYTES = 1024 * 1024
"""Of records; a portion is one request, and the contract's limit for that is 2 MB."""


@dataclass(frozen=True, slots=True)
class Portion:
    """Some records in a row. `offset` and `lines`: what of the unpacked input is read when it ends."""

    records: list[Record] = field(repr=False)
    offset: int
    lines: int


class Source:
    """One file. `identity` is what it was when it was opened."""

    def __init__(self, path: Path, form: Format) -> None:
        """Raises `FileRefused`."""
        self._path = path
        self._form = form
        try:
            self._file = path.open("rb")
            self.identity = identify(self._file)
        except OSError as error:
            raise FileRefused(f"{path}: {error.strerror}") from None
        self.progress = 0
        """Bytes of the file, as it is packed, that were read."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        """Close it."""
        self._file.close()

    def portions(self, most: int, offset: int = 0, lines: int = 0) -> Iterator[Portion]:
        """Everything from this place on, the heading first if it is the beginning.

        Raises `FileRefused` (no heading, a broken archive) or `InputChanged`.
        """
        try:
            yield from self._portions(most, offset, lines)
        except BROKEN as error:
            raise FileRefused(f"{self._path} is cut short or broken: {error}") from None
        except FileRefused as refused:
            raise type(refused)(f"{self._path}: {refused}") from None
        except OSError as error:
            raise FileRefused(f"{self._path}: {error.strerror}") from None

    def check(self) -> None:
        """Raises `InputChanged` if somebody writes the file while it is read."""
        about = os.fstat(self._file.fileno())
        if (about.st_size, about.st_mtime_ns) != (self.identity.bytes, self.identity.mtime_ns):
            raise InputChanged(f"{self._path} was changed while it was read: begin anew")

    def _portions(self, most: int, offset: int, lines: int) -> Iterator[Portion]:
        reader = self._form.reader()
        self._file.seek(0)
        first = Lines(unpacked(self._file, packing_of(self._path), 0))
        heading = reader.heading(first)
        if offset == 0:
            if heading is not None:
                yield Portion([heading], first.offset, first.number)
            source = first
        else:
            self._file.seek(0)
            source = Lines(unpacked(self._file, packing_of(self._path), offset), offset, lines)
        while True:
            begin = source.offset
            records: list[Record] = []
            while len(records) < most and source.offset - begin < PORTION_BYTES:
                record = reader.next(source)
                if record is None:
                    break
                records.append(record)
            self.progress = self._file.tell()
            if not records:
                return
            yield Portion(records, source.offset, source.number)
