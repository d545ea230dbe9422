"""The demo's data: a bundled file of invented customers, the records it is cut into, and the encrypted file's lines.

A record is one line with its line end, named by its first column, so that joining the records gives the file's bytes.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

CUSTOMERS = Path(__file__).with_name("data") / "customers.csv"


@dataclass(frozen=True, slots=True)
class Row:
    """One record: its name in the clear, and its bytes, plain or as an envelope."""

    name: str
    data: bytes = field(repr=False)


def cut(file: bytes) -> list[Row]:
    """The records of a CSV file. Joining their data gives `file` again."""
    return [Row(line.partition(b",")[0].decode(), line) for line in file.splitlines(keepends=True)]


def joined(rows: Iterable[Row]) -> bytes:
    """The file that `cut` cut."""
    return b"".join(row.data for row in rows)


def written(rows: Iterable[Row]) -> bytes:
    """The encrypted file: `name,base64(envelope)`, a line each."""
    return b"".join(b"%s,%s\n" % (row.name.encode(), b64encode(row.data)) for row in rows)


def read(file: bytes) -> Iterator[Row]:
    """The envelopes of an encrypted file."""
    for line in file.splitlines():
        name, _, text = line.partition(b",")
        yield Row(name.decode(), b64decode(text))
