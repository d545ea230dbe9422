"""What a caller gets back, one per item and in order: a value or an `ItemError`. Secrets stay out of repr."""

from dataclasses import dataclass, field
from uuid import UUID

from worker.seal.secrets import Unpicklable


@dataclass(frozen=True, slots=True)
class ItemError:
    """One item's refusal; its neighbours are not touched. `code` is of the contract's table (`worker.model.codes`)."""

    code: str
    message: str
    retry: bool


@dataclass(frozen=True, slots=True)
class WrappedDek(Unpicklable):
    """A wrapped DEK: `id` if stored, `blob` if not stored or asked for, `dek` if the plaintext was asked for."""

    key: UUID
    version: int
    id: UUID | None
    blob: bytes | None
    dek: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Unwrapped(Unpicklable):
    """A DEK in the clear, and the key version it was wrapped under.

    `blob`, if it was asked for and the version is not current: the DEK wrapped anew, under `blob_version`; keep it
    in the old one's place.
    """

    key: UUID
    version: int
    dek: bytes = field(repr=False)
    blob: bytes | None = None
    blob_version: int | None = None


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """Where the DEK is wrapped now. `unchanged`: it was current; the blob is byte-identical and was not verified."""

    key: UUID
    version: int
    id: UUID | None
    blob: bytes | None
    unchanged: bool
