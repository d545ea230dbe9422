"""Rows that carry a MAC, between Postgres and the model: composite values or JSON come in, JSON goes out.

What a column holds follows from the type of the row's field, so a new table needs nothing here.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from enum import StrEnum
from typing import Any, get_args, get_origin, get_type_hints
from uuid import UUID

from asyncpg import Record

from worker.model.effects import PutRow
from worker.model.facts import StoredRow
from worker.model.rows import Row

_REMEMBERED = 50_000
Parse = Callable[[Any], Any]


def _uuid(value: UUID | str) -> UUID:
    """Asyncpg's own UUID type stays on this side of the edge."""
    return UUID(value) if isinstance(value, str) else UUID(int=value.int)


def _bytes(value: bytes | str) -> bytes:
    return bytes.fromhex(value.removeprefix("\\x")) if isinstance(value, str) else value


_PARSE: Mapping[object, Parse] = {UUID: _uuid, bytes: _bytes}


def _parse_of(hint: object) -> Parse | None:
    """What makes the field's value of a column's; None where they are the same."""
    if get_origin(hint) is tuple:
        return tuple
    kind, *others = get_args(hint) or (hint,)
    parse = _PARSE.get(kind) or (kind if issubclass(kind, StrEnum) else None)
    if parse is None or not others:
        return parse
    return lambda value: None if value is None else parse(value)  # `kind | None`


def _parses(kind: type[Row]) -> Mapping[str, Parse]:
    hints = get_type_hints(kind)
    found = {field.name: _parse_of(hints[field.name]) for field in fields(kind)}
    return {name: parse for name, parse in found.items() if parse is not None}


_TYPES: dict[str, type[Row]] = {kind.TABLE.value: kind for kind in get_args(Row)}
_COLUMNS = {table: tuple(field.name for field in fields(kind)) for table, kind in _TYPES.items()}
_LATER = {
    table: {field.name: field.default for field in fields(kind) if field.default is not MISSING}
    for table, kind in _TYPES.items()
}
"""Columns that came later: NULL stands for the default."""
_PARSES = {table: _parses(kind) for table, kind in _TYPES.items()}
_WITH_LISTS = frozenset(table for table, parses in _PARSES.items() if tuple in parses.values())


class RowReader:
    """Makes rows. They repeat from batch to batch: what is equal in all columns is made once."""

    def __init__(self) -> None:
        self._known: dict[object, StoredRow | None] = {}

    def read(self, table: str, value: Record | str) -> StoredRow | None:
        """The row, or None when a column holds what no release ever wrote: such a row is as good as absent."""
        key: object = value
        if isinstance(value, str):
            key = (table, value)
        elif table in _WITH_LISTS:
            key = (table, *(tuple(one) if type(one) is list else one for one in value))
        try:
            return self._known[key]
        except KeyError:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            columns = json.loads(value) if isinstance(value, str) else value
            row = self._known[key] = _row_of(table, columns)
            return row


def _row_of(table: str, value: Record | Mapping[str, Any]) -> StoredRow | None:
    columns = {name: value[name] for name in _COLUMNS[table]}
    absent = {name: default for name, default in _LATER[table].items() if columns[name] is None}
    try:
        columns |= {name: parse(columns[name]) for name, parse in _PARSES[table].items() if name not in absent}
    except ValueError:
        return None
    return StoredRow(_TYPES[table](**columns | absent), value["mac_version"], _bytes(value["mac"]))


def json_of(put: PutRow) -> dict[str, Any]:
    """The row as `jsonb_populate_record` reads it: bytes in hex, ids as text, nothing where the default stands."""
    row, table = put.row, put.row.TABLE.value
    later = _LATER[table]
    columns = {name: _plain(getattr(row, name)) for name in _COLUMNS[table]}
    columns |= {name: None for name, default in later.items() if getattr(row, name) == default}
    return columns | {"mac_version": put.mac_version, "mac": _plain(put.mac)}


def _plain(value: object) -> object:
    match value:
        case bytes():
            return "\\x" + value.hex()
        case UUID():
            return str(value)
        case tuple():
            return list(value)
        case _:
            return value
