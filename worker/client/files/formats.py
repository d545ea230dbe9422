"""Formats of files: which lines are a record, and where its blob is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from worker.client.files import jsonlines
from worker.client.files.csvlines import NotCsv, Scan, Span
from worker.client.files.errors import FileRefused
from worker.client.files.lines import LONGEST, Line, Lines
from worker.client.files.records import Record, Unreadable, decoded, faulty
from worker.model.codes import Code

PACKED = frozenset({".gz", ".zst"})
_JSON = frozenset({".jsonl", ".ndjson", ".json"})
_CSV = {".csv": ",", ".tsv": "\t"}
_BOM = b"\xef\xbb\xbf"


class Reader(Protocol):
    """Reads the records of one file."""

    def heading(self, lines: Lines) -> Record | None:
        """What stands before the first record, if this format has such. Raises `FileRefused`."""

    def next(self, lines: Lines) -> Record | None:
        """The next record; None at the end."""


class Format(Protocol):
    """How records are written."""

    @property
    def name(self) -> str:
        """All that matters of it, as text: a job goes on only with the same."""

    def reader(self) -> Reader:
        """A reader for one file."""


@dataclass(frozen=True, slots=True)
class JsonLines:
    """One JSON object a line; the blob is the text of one of its fields."""

    column: str

    @property
    def name(self) -> str:
        """See `Format`."""
        return f"JSON Lines, field {self.column}"

    def reader(self) -> Reader:
        """See `Format`."""
        return _JsonReader(self.column)


@dataclass(frozen=True, slots=True)
class Csv:
    """CSV with a heading that names the column of blobs."""

    column: str
    delimiter: str = ","

    @property
    def name(self) -> str:
        """See `Format`."""
        return f"CSV by {self.delimiter!r}, column {self.column}"

    def reader(self) -> Reader:
        """See `Format`."""
        return _CsvReader(self)


def format_of(path: Path, column: str) -> Format | None:
    """The format that the file's name tells; None if it tells none."""
    suffix = Path(path.stem).suffix if path.suffix in PACKED else path.suffix
    if suffix in _JSON:
        return JsonLines(column)
    return Csv(column, _CSV[suffix]) if suffix in _CSV else None


class _JsonReader:
    def __init__(self, column: str) -> None:
        self._column = column

    def heading(self, lines: Lines) -> Record | None:
        del lines
        return None

    def next(self, lines: Lines) -> Record | None:
        line = lines.next()
        if line.raw:
            return jsonlines.read(lines.number, line.raw, self._column)
        return _too_long(lines.number) if line.size else None


class _CsvReader:
    def __init__(self, form: Csv) -> None:
        self._form = form
        self._delimiter = form.delimiter.encode()
        self._fields = self._place = 0

    def heading(self, lines: Lines) -> Record | None:
        took = _take(lines, self._delimiter)
        if not isinstance(took, _Taken):
            raise FileRefused("there is no heading that names the columns" if took is None else "the heading is no CSV")
        names = [
            took.raw[start:end].removeprefix(_BOM).strip(b'"').decode(errors="replace") for start, end in took.spans
        ]
        if names.count(self._form.column) != 1:
            how = "stands twice in" if self._form.column in names else "is not in"
            raise FileRefused(f"the column {self._form.column} {how} the heading")
        self._fields, self._place = len(names), names.index(self._form.column)
        return Record(took.line, took.raw)

    def next(self, lines: Lines) -> Record | None:
        took = _take(lines, self._delimiter, self._fields)
        return self._record(took) if isinstance(took, _Taken) else took

    def _record(self, took: "_Taken") -> Record:
        if not took.raw.strip(b"\r\n"):
            return Record(took.line, took.raw)
        start, end = took.spans[self._place]
        try:
            return Record(took.line, took.raw, decoded(took.raw[start:end]), start, end)
        except Unreadable as error:
            return faulty(took.line, took.raw, str(error))


@dataclass(frozen=True, slots=True)
class _Taken:
    line: int
    raw: bytes
    spans: list[Span]


def _take(lines: Lines, delimiter: bytes, fields: int = 0) -> _Taken | Record | None:
    """One record of so many fields (0: any number).

    A record of several lines that proves wrong is most likely a quote that was never closed: only its first line is
    rejected then, and the others are read on their own, for they may be good.
    """
    number, parts, scan = lines.number + 1, [lines.next()], Scan(delimiter)
    if not parts[0].raw:
        return _too_long(number) if parts[0].size else None
    wrong = _more(scan, lines, parts)
    if not wrong and fields and parts[0].raw.strip(b"\r\n") and len(scan.spans) != fields:
        wrong = f"there are {len(scan.spans)} fields, and {fields} in the heading"
    if wrong:
        lines.back(parts[1:])
        return faulty(number, parts[0].raw, wrong)
    return _Taken(number, b"".join(part.raw for part in parts), scan.spans)


def _more(scan: Scan, lines: Lines, parts: list[Line]) -> str:
    """Take lines until the record is complete; what is wrong with it, or nothing."""
    size = parts[0].size
    try:
        while not scan.more(parts[-1].raw):
            parts.append(lines.next())
            size += parts[-1].size
            if not parts[-1].raw or size > LONGEST:
                return "a quote is not closed"
    except NotCsv:
        return "something stands behind a closing quote"
    return ""


def _too_long(line: int) -> Record:
    return faulty(line, b"", f"the record is longer than {LONGEST} bytes", Code.TOO_LARGE)
