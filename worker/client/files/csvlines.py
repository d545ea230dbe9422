"""Records of CSV (RFC 4180): where their fields stand, so that all but one stay byte for byte. Pure.

A quote opens a field only at its beginning; within a quoted field two quotes are one, and line ends are text.
"""

from collections.abc import Iterator

_QUOTE = b'"'
Span = tuple[int, int]


class NotCsv(ValueError):
    """Something stands behind a closing quote."""


class Scan:
    """The fields of one record, line by line. `spans`: where each field's text stands, without its quotes."""

    def __init__(self, delimiter: bytes) -> None:
        self._delimiter = delimiter
        self._before = 0
        self._begin = -1
        self.spans: list[Span] = []

    def more(self, raw: bytes) -> bool:
        """Take one line with its end; whether the record is complete. Raises `NotCsv`."""
        text = raw.rstrip(b"\r\n")
        if self._begin < 0 and _QUOTE not in text:
            self.spans += _plain(text, self._delimiter)
            return True
        at: int | None = 0
        if self._begin >= 0:
            at = self._close(raw, text, 0)
        while at is not None and at >= 0:
            at = self._field(raw, text, at)
        if at is None:
            self._before += len(raw)
        return at is not None

    def _field(self, raw: bytes, text: bytes, at: int) -> int | None:
        """Past the field that begins at `at`: the next one's begin, -1 after the last, None inside quotes."""
        if text[at : at + 1] == _QUOTE:
            self._begin = self._before + at + 1
            return self._close(raw, text, at + 1)
        end = text.find(self._delimiter, at)
        self.spans.append((self._before + at, self._before + (len(text) if end < 0 else end)))
        return -1 if end < 0 else end + 1

    def _close(self, raw: bytes, text: bytes, at: int) -> int | None:
        """Find the quote that closes the field."""
        while True:
            quote = raw.find(_QUOTE, at)
            if quote < 0:
                return None
            if raw[quote + 1 : quote + 2] != _QUOTE:
                break
            at = quote + 2
        self.spans.append((self._begin, self._before + quote))
        self._begin = -1
        if quote + 1 >= len(text):
            return -1
        if text[quote + 1 : quote + 2] != self._delimiter:
            raise NotCsv
        return quote + 2


def _plain(text: bytes, delimiter: bytes) -> Iterator[Span]:
    begin = 0
    for field in text.split(delimiter):
        yield begin, begin + len(field)
        begin += len(field) + 1
