"""Rows that carry a MAC, between Postgres and the model: composite values come in, JSON goes out."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any
from uuid import UUID

from worker.model.effects import PutRow
from worker.model.facts import StoredRow
from worker.model.hsm import Purpose, Wrapping
from worker.model.rows import (
    Algorithm,
    Alias,
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

_TYPES: dict[str, type[Row]] = {
    Table.TENANTS.value: Tenant,
    Table.KEYS.value: Key,
    Table.VERSIONS.value: Version,
    Table.ALIASES.value: Alias,
    Table.CLIENTS.value: Client,
    Table.INTAKE_KEYS.value: IntakeKey,
}
_COLUMNS: dict[str, tuple[str, ...]] = {
    table: tuple(field.name for field in fields(kind)) for table, kind in _TYPES.items()
}
_READ: dict[str, dict[str, Any]] = {
    Table.TENANTS.value: {"minimum_suite": Suite},
    Table.KEYS.value: {"purpose": Purpose, "origin": Origin},
    Table.VERSIONS.value: {"state": State, "wrapping": Wrapping},
    Table.ALIASES.value: {},
    Table.CLIENTS.value: {
        "role": Role,
        "algorithm": Algorithm,
        "permissions": tuple,
        "reply_topics": tuple,
        "recipient_suite": lambda suite: None if suite is None else Suite(suite),
    },
    Table.INTAKE_KEYS.value: {"suite": Suite},
}


def row_of(table: str, values: Mapping[str, Any]) -> StoredRow | None:
    """The row, or None when a column holds what no release ever wrote: such a row is as good as absent."""
    read = _READ[table]
    try:
        columns = {name: read[name](values[name]) if name in read else values[name] for name in _COLUMNS[table]}
    except ValueError:
        return None
    return StoredRow(_TYPES[table](**columns), values["mac_version"], values["mac"])


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
