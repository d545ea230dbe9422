"""Packed streams: plain, gzip (RFC 1952) and zstd (RFC 8878).

What is written can be cut at marks: each mark ends a gzip member or a zstd frame, and readers of both formats take
several in a row for one stream. A mark's offset in the file is where an unfinished output may be cut and continued.
"""

import gzip
import io
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

import zstandard

from worker.client.files.errors import FileRefused

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_GZIP_WINDOW = 31
"""zlib's number for the largest window in a gzip member; its heading then has no time, so equal input packs equally."""
_SKIP_BYTES = 1024 * 1024
_PACKED_BYTES = 8 * 1024
"""Of a zstd file at once: little, for a hostile one unpacks to thirty thousand times as much."""
BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)


class _Packer(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


class Packed:
    """Packs what is written, member by member; `suffix` is that of the finished file's name."""

    def __init__(self, file: BinaryIO, suffix: str) -> None:
        self._file = file
        self._suffix = suffix
        self._packer: _Packer | None = None

    def write(self, data: bytes) -> None:
        """Pack these bytes."""
        if data:
            self._file.write(self._open().compress(data))

    def mark(self, *, at_least_one: bool = False) -> int:
        """End the member, if one is open or there must be one; the file's length in bytes up to here."""
        if at_least_one:
            self._open()
        if self._packer is not None:
            self._file.write(self._packer.flush())
            self._packer = None
        self._file.flush()
        return self._file.tell()

    def _open(self) -> _Packer:
        if self._packer is None:
            if self._suffix == ".gz":
                self._packer = zlib.compressobj(wbits=_GZIP_WINDOW)
            else:
                self._packer = zstandard.ZstdCompressor().compressobj() if self._suffix == ".zst" else _Plain()
        return self._packer


class _Frames(io.RawIOBase):
    """The frames of a zstd file, one after the other. zstandard's own reader takes one that is cut short for whole."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._packed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        while not self._ready and (packed := self._packed or self._file.read(_PACKED_BYTES)):
            frame = self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._ready, self._packed = memoryview(frame.decompress(packed)), b""
            if frame.eof:
                self._frame, self._packed = None, frame.unused_data
        if not self._ready and self._frame is not None:
            raise EOFError("it ends within a frame")
        room = memoryview(buffer).cast("B")
        count = min(len(room), len(self._ready))
        room[:count], self._ready = self._ready[:count], self._ready[count:]
        return count


def unpacked(file: BinaryIO, suffix: str, offset: int) -> BinaryIO:
    """The stream of unpacked bytes from this offset of theirs on. Raises `FileRefused` if it ends before."""
    if suffix not in {".gz", ".zst"}:
        file.seek(offset)
        return file
    if suffix == ".gz":
        stream = cast("BinaryIO", gzip.GzipFile(fileobj=file))
    else:
        stream = io.BufferedReader(_Frames(file), _SKIP_BYTES)
    left = offset
    while left:
        skipped = len(stream.read(min(left, _SKIP_BYTES)))
        if not skipped:
            raise FileRefused("the input ends before the place where the job stopped")
        left -= skipped
    return stream


def packing_of(path: Path) -> str:
    """The suffix that says how the file is packed; empty if it is not."""
    return path.suffix if path.suffix in {".gz", ".zst"} else ""
