"""Rows that carry a MAC, between Postgres and the model: composite values come in, JSON goes out."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any
from uuid import UUID

from asyncpg import Record

from worker.model.effects import PutRow
from worker.model.facts import StoredRow
from worker.model.hsm import Purpose, Wrapping
from worker.model.rows import (
    Algorithm,
    Alias,
    Approval,
    ApprovalState,
    Client,
    IntakeKey,
    Key,
    Origin,
    Role,
    Row,
    State,
    Suite,
    Table,
    Tenant,
    Version,
)

_REMEMBERED = 50_000


def _suite_or_none(text: str | None) -> Suite | None:
    return None if text is None else Suite(text)


def _state_or_none(text: str | None) -> State | None:
    return None if text is None else State(text)


def _plain_uuid(value: UUID | None) -> UUID | None:
    """Asyncpg's own UUID type stays on this side of the edge."""
    return None if value is None else UUID(int=value.int)


_TYPES: dict[str, type[Row]] = {
    kind.TABLE.value: kind for kind in (Tenant, Key, Version, Alias, Client, IntakeKey, Approval)
}
_COLUMNS = {table: tuple(field.name for field in fields(kind)) for table, kind in _TYPES.items()}
_LATER = {
    table: {field.name: field.default for field in fields(kind) if field.default is not MISSING}
    for table, kind in _TYPES.items()
}
"""Columns that came later: NULL stands for the default."""
_READ: dict[str, Mapping[str, Callable[[Any], Any]]] = {
    Table.TENANTS.value: {"minimum_suite": Suite},
    Table.KEYS.value: {"id": _plain_uuid, "parent": _plain_uuid, "purpose": Purpose, "origin": Origin},
    Table.VERSIONS.value: {
        "key": _plain_uuid,
        "material": _plain_uuid,
        "state": State,
        "wrapping": Wrapping,
        "prior": _state_or_none,
    },
    Table.ALIASES.value: {"key": _plain_uuid},
    Table.CLIENTS.value: {
        "role": Role,
        "algorithm": Algorithm,
        "permissions": tuple,
        "reply_topics": tuple,
        "recipient_suite": _suite_or_none,
    },
    Table.INTAKE_KEYS.value: {"suite": Suite},
    Table.APPROVALS.value: {"id": _plain_uuid, "touched": tuple, "state": ApprovalState},
}


_WITH_LISTS = (Table.CLIENTS.value, Table.APPROVALS.value)


class RowReader:
    """Makes rows of composite values. Rows repeat from batch to batch: what is equal in all columns is made once."""

    def __init__(self) -> None:
        self._known: dict[object, StoredRow | None] = {}

    def read(self, table: str, value: Record) -> StoredRow | None:
        """The row, or None when a column holds what no release ever wrote: such a row is as good as absent."""
        key = (table, *(tuple(one) if type(one) is list else one for one in value)) if table in _WITH_LISTS else value
        try:
            return self._known[key]
        except KeyError:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            row = self._known[key] = _row_of(table, value)
            return row


def _row_of(table: str, value: Record) -> StoredRow | None:
    read = _READ[table]
    columns = {name: value[name] for name in _COLUMNS[table]}
    columns |= {name: default for name, default in _LATER[table].items() if columns[name] is None}
    try:
        columns |= {name: parse(columns[name]) for name, parse in read.items()}
    except ValueError:
        return None
    return StoredRow(_TYPES[table](**columns), value["mac_version"], value["mac"])


def json_of(put: PutRow) -> dict[str, Any]:
    """The row as `jsonb_populate_record` reads it: bytes in hex, ids as text."""
    row = put.row
    columns = {name: _plain(getattr(row, name)) for name in _COLUMNS[row.TABLE.value]}
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
