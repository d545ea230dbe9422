"""What is told of every change of a row that carries a MAC, on the compacted `keyriver.sequences.v1` (S7)."""

from pydantic import Field

from worker.model.fields import MAX_INT, Answer, Base64
from worker.model.words import Table

SEQUENCE = "keyriver.sequence.v1"
"""Goes through the outbox like every fact, and to a topic of its own."""


class SequenceBody(Answer):
    """A row, its revision and its MAC; `tag` is the row MAC key's own word (of version `tag_version`) for all of it."""

    table: Table
    key: str
    revision: int = Field(ge=1, le=MAX_INT)
    mac_version: int = Field(ge=1, le=MAX_INT)
    mac: Base64
    tag_version: int = Field(ge=1, le=MAX_INT)
    tag: Base64
