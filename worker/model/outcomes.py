"""What became of one item. An outcome is final or retryable; the ledger keeps the final ones, without any plaintext."""

from dataclasses import dataclass, field
from uuid import UUID

from worker.model.codes import Code
from worker.model.replies import CommandResult


@dataclass(frozen=True, slots=True)
class Failed:
    """Refused with a code. `why` and `key` are for the audit trail alone: callers learn one code per class (S9)."""

    code: Code
    why: str = field(default="", compare=False)
    key: UUID | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A DEK was wrapped. `id` is `NO_ID` when it is not stored; `dek` is there for the time of one batch."""

    id: UUID
    key: UUID
    version: int
    blob: bytes
    dek: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """A DEK was unwrapped; `blob` is not empty when it was also wrapped anew, under `blob_version`."""

    key: UUID
    version: int
    dek: bytes = field(repr=False)
    blob: bytes = b""
    blob_version: int = 0


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """A wrapped DEK was moved, or was current already."""

    id: UUID
    key: UUID
    version: int
    blob: bytes
    unchanged: bool


@dataclass(frozen=True, slots=True)
class Commanded:
    """A key, tenant or client command was carried out, or a read was answered."""

    result: CommandResult


Outcome = Failed | Wrapped | Unwrapped | Rewrapped | Commanded
