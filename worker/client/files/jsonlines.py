"""A line of JSON Lines: where the blob stands in it, so that everything else stays byte for byte. Pure."""

import json
import re
from collections.abc import Iterator
from json import JSONDecoder

from worker.client.files.records import Record, Unreadable, decoded, faulty

_SPACE = re.compile(r"[ \t\r\n]*")


def _refuse(name: str) -> object:
    raise ValueError(name)


# Numbers are of no interest, so none is too long; NaN and its like are not JSON.
_DECODER = JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse)


def read(line: int, raw: bytes, column: str) -> Record:
    """The record of one line; `column` is a field of the object itself. An empty line is copied as it is."""
    if not raw.strip():
        return Record(line, raw)
    try:
        text = raw.decode()
        value, start, end = _field(text, column)
        blob = decoded(value)
    except Unreadable as error:
        return faulty(line, raw, str(error))
    except (ValueError, RecursionError):  # of UTF-8 or of JSON
        return faulty(line, raw, "the line is not JSON")
    first = start if text.isascii() else len(text[:start].encode())
    return Record(line, raw, blob, first, first + end - start if text.isascii() else len(text[:end].encode()))


def _field(text: str, column: str) -> tuple[str, int, int]:
    """The field's text, and where it stands between its quotes. Raises `Unreadable` or `ValueError`."""
    begin = _skip(text, text.startswith("\ufeff"))
    if text[begin : begin + 1] != "{":
        json.loads(text[begin:])  # not JSON at all is another fault
        raise Unreadable("the line is not a JSON object")
    found = [(value, start, end) for name, value, start, end in _members(text, begin) if name == column]
    if len(found) != 1:
        raise Unreadable(f"the field {column} stands there twice" if found else f"there is no field {column}")
    ((value, start, end),) = found
    if not isinstance(value, str) or text[start] != '"':
        raise Unreadable(f"the field {column} is not a text")
    return value, start + 1, end - 1


def _members(text: str, begin: int) -> Iterator[tuple[str, object, int, int]]:
    """Name, value, and where the value stands. Raises `ValueError` where it is not JSON."""
    at = _skip(text, begin + 1)
    more = text[at : at + 1] != "}"
    while more:
        name, at = _DECODER.raw_decode(text, at)
        if not isinstance(name, str) or text[at - 1] != '"':
            raise ValueError("a name that is no text")
        start = _expect(text, _skip(text, at), ":")
        value, end = _DECODER.raw_decode(text, start)
        yield name, value, start, end
        at = _skip(text, end)
        more = text[at : at + 1] == ","
        if more:
            at = _skip(text, at + 1)
    if text[at : at + 1] != "}" or _skip(text, at + 1) != len(text):
        raise ValueError("the object does not end here")


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _expect(text: str, at: int, sign: str) -> int:
    """Past the sign and the space behind it."""
    if text[at : at + 1] != sign:
        raise ValueError(sign)
    return _skip(text, at + 1)
