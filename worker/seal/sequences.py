"""What is told of a row's change as bytes: which revision it has, and under which MAC it stands (S7).

The words of a run's key would be good for a day, and these are read for ever: so the row MAC key itself, which never
leaves the token, vouches for them. Its input begins with a format of its own, so no row's MAC is ever such a word.
"""

from dataclasses import dataclass
from typing import Self

from pydantic import ValidationError

from worker.model.sequences import SequenceBody
from worker.model.words import RowRef
from worker.seal.errors import SealError
from worker.seal.frames import framed

FORMAT = b"keyriver-sequence/1"


class BadSequence(SealError):
    """The fleet never said this of a row."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """A row's revision, and its MAC of one version of the row MAC key."""

    ref: RowRef
    revision: int
    mac_version: int
    mac: bytes

    def payload(self) -> bytes:
        """What the row MAC key authenticates."""
        head = (self.ref.table.value, self.ref.key, str(self.revision), str(self.mac_version))
        return framed(FORMAT, *[text.encode() for text in head], self.mac)

    def to_json(self, tag_version: int, tag: bytes) -> bytes:
        """The record's value."""
        body = SequenceBody(
            table=self.ref.table,
            key=self.ref.key,
            revision=self.revision,
            mac_version=self.mac_version,
            mac=self.mac,
            tag_version=tag_version,
            tag=tag,
        )
        return body.model_dump_json().encode()

    @classmethod
    def parse(cls, value: bytes) -> tuple[Self, int, bytes]:
        """What is said, and the version and value of the tag that is still to be verified. Raises `BadSequence`."""
        try:
            body = SequenceBody.model_validate_json(value)
        except ValidationError:
            raise BadSequence("it is not readable") from None
        return (
            cls(RowRef(body.table, body.key), body.revision, body.mac_version, body.mac),
            body.tag_version,
            body.tag,
        )


def record_key(ref: RowRef) -> bytes:
    """The key of the Kafka record: the newest of each row survives compaction."""
    return f"{ref.table}/{ref.key}".encode()


def record_key_of(value: bytes) -> bytes:
    """The same, of a record's value. Raises `BadSequence`."""
    return record_key(Sequence.parse(value)[0].ref)
