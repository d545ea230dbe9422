"""The bytes under a row's MAC (S7): its table and every column by name, type and value, so no two rows share them.

A column that has a default and still holds it is left out: a row written before the column existed keeps its MAC.
"""

from collections.abc import Callable
from dataclasses import MISSING, fields
from enum import StrEnum
from operator import attrgetter
from typing import Any, NamedTuple, get_args
from uuid import UUID

from worker.model.rows import Row
from worker.seal.frames import framed

FORMAT = b"keyriver-row/1"


def _text(value: str) -> bytes:
    return b"s" + value.encode()


# One tag for each kind of value, so that 1, "1", b"1", true and nothing all differ.
_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    str: _text,
    int: lambda value: b"i%d" % value,
    bool: lambda value: b"b1" if value else b"b0",
    bytes: lambda value: b"y" + value,
    UUID: lambda value: b"u" + value.bytes,
    type(None): lambda _: b"n",
    tuple: lambda value: b"t" + framed(*[text.encode() for text in value]),
}


def _encode(value: object) -> bytes:
    """One column; words of a fixed list count as text."""
    kind = type(value)
    return _ENCODERS[str if issubclass(kind, StrEnum) else kind](value)


class _Columns(NamedTuple):
    head: bytes
    names: tuple[bytes, ...]
    defaults: tuple[object, ...]
    values: Callable[[object], tuple[object, ...]]


def _columns(kind: type[Row]) -> _Columns:
    columns = fields(kind)
    return _Columns(
        framed(FORMAT, kind.TABLE.encode()),
        tuple(framed(column.name.encode()) for column in columns),
        tuple(column.default for column in columns),
        attrgetter(*[column.name for column in columns]),
    )


_COLUMNS: dict[type, _Columns] = {kind: _columns(kind) for kind in get_args(Row)}


def mac_input(row: Row) -> bytes:
    """The bytes that the fleet's row key authenticates, primary key and revision included."""
    head, names, defaults, values = _COLUMNS[type(row)]
    pieces = [head]
    for name, default, value in zip(names, defaults, values(row), strict=True):
        if default is MISSING or value != default:
            encoded = _encode(value)
            pieces += name, len(encoded).to_bytes(4, "big"), encoded
    return b"".join(pieces)
