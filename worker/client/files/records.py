"""One record of a file, byte for byte, and where its blob stands in it. Pure."""

from base64 import b64decode, b64encode
from dataclasses import dataclass, field

from worker.model.codes import Code


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a record is rejected: a code of the contract's table, and a sentence without any of the record's data."""

    code: str
    message: str


class Unreadable(ValueError):
    """The record has no blob that can be read."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record with its line end. `blob` is None where there is none: a heading, an empty line, or a fault.

    `line` counts from 1; `start` and `end` bound the blob's base64 in `raw`, in bytes.
    """

    line: int
    raw: bytes = field(repr=False)
    blob: bytes | None = field(default=None, repr=False)
    start: int = 0
    end: int = 0
    fault: Fault | None = None

    def carrying(self, blob: bytes) -> bytes:
        """The record's bytes with another blob, all else as it was."""
        return self.raw[: self.start] + b64encode(blob) + self.raw[self.end :]


def faulty(line: int, raw: bytes, message: str, code: Code = Code.MALFORMED) -> Record:
    """A record that is rejected without asking anybody."""
    return Record(line, raw, fault=Fault(code, message))


def decoded(text: str | bytes) -> bytes:
    """The blob in strict standard base64 (RFC 4648, section 4). Raises `Unreadable`."""
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise Unreadable("the blob is not base64") from None
