"""Lines of a binary stream, each of bounded length, with their number and offset; lines may be given back."""

from collections import deque
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

LONGEST = 1024 * 1024
"""Bytes. A blob has a few hundred; what is longer than this is no record of blobs, and memory stays bounded."""


class Line(NamedTuple):
    """A line with its end: its bytes, or nothing if they are too many; `size` counts them all, and is 0 at the end."""

    raw: bytes
    size: int


class Lines:
    """`offset`: bytes of the stream before the next line. `number`: lines before it."""

    def __init__(self, stream: BinaryIO, offset: int = 0, number: int = 0) -> None:
        self._stream = stream
        self._given_back: deque[Line] = deque()
        self.offset = offset
        self.number = number

    def next(self) -> Line:
        """The next line."""
        line = self._given_back.popleft() if self._given_back else self._read()
        self.offset += line.size
        self.number += line.size > 0
        return line

    def back(self, lines: Sequence[Line]) -> None:
        """Give back the lines that were taken last, in their order."""
        self._given_back.extendleft(reversed(lines))
        self.offset -= sum(line.size for line in lines)
        self.number -= sum(line.size > 0 for line in lines)

    def _read(self) -> Line:
        raw = self._stream.readline(LONGEST + 1)
        if len(raw) <= LONGEST:
            return Line(raw, len(raw))
        size, last = len(raw), raw
        while last and not last.endswith(b"\n"):
            last = self._stream.readline(LONGEST)
            size += len(last)
        return Line(b"", size)
