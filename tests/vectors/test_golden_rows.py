"""The bytes under a row's MAC, read apart again by hand: a changed form would void every stored MAC."""

import json
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest
from pydantic import TypeAdapter

from worker.model.rows import Row, Table
from worker.seal.rowmac import mac_input

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "row_mac.json").read_text(encoding="utf-8"))["cases"]
KINDS = {kind.TABLE: kind for kind in get_args(Row)}
OF_BYTES = {
    "body",
    "wrapped",
    "public_key",
    "recipient_key",
    "wrapped_private",
    "predecessor",
    "by_predecessor",
    "by_itself",
}


def frames(raw: bytes) -> list[bytes]:
    found, position = [], 0
    while position < len(raw):
        start = position + 4
        position = start + int.from_bytes(raw[position:start], "big")
        found.append(raw[start:position])
    return found


def value_of(tagged: bytes) -> object:
    tag, rest = tagged[:1], tagged[1:]
    read: dict[bytes, object] = {b"n": None, b"b": rest == b"1", b"y": rest.hex()}
    if tag == b"u":
        return str(UUID(bytes=rest))
    if tag == b"t":
        return [part.decode() for part in frames(rest)]
    if tag in (b"s", b"i"):
        return rest.decode() if tag == b"s" else int(rest)
    return read[tag]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["table"])
def test_the_bytes_are_the_row(case: dict[str, Any]) -> None:
    first, table, *columns = frames(bytes.fromhex(case["mac_input"]))
    assert (first, table.decode()) == (b"keyriver-row/1", case["table"])
    names = [name.decode() for name in columns[::2]]
    assert dict(zip(names, map(value_of, columns[1::2]), strict=True)) == case["row"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["table"])
def test_mac_input(case: dict[str, Any]) -> None:
    columns = {name: bytes.fromhex(value) if name in OF_BYTES else value for name, value in case["row"].items()}
    row: Row = TypeAdapter[Row](KINDS[Table(case["table"])]).validate_python(columns)
    assert mac_input(row).hex() == case["mac_input"]


def test_every_table_is_here() -> None:
    assert {case["table"] for case in CASES} == set(Table)
