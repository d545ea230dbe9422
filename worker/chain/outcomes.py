"""Outcomes as the ledger keeps them: bytes without plaintext. Released forms are readable for ever.

outcome   = failed / wrapped / rewrapped / commanded
failed    = %x01 code              ; the code's name in ASCII
wrapped   = %x02 place blob
rewrapped = %x03 unchanged place blob
commanded = %x04 json              ; the result as it stood in the answer
place     = dek-id key-id version  ; 16, 16 and 4 octets
unchanged = %x00 / %x01
"""

from uuid import UUID

from pydantic import TypeAdapter

from worker.model.codes import Code, is_retryable
from worker.model.effects import LedgerEntry
from worker.model.outcomes import Commanded, Failed, Outcome, Rewrapped, Wrapped
from worker.model.replies import CommandResult

_COMMANDED: TypeAdapter[CommandResult] = TypeAdapter(CommandResult)


def encode(outcome: Outcome) -> bytes | None:
    """The bytes to keep, or None for an item that stays open (a retryable refusal)."""
    if isinstance(outcome, Wrapped):
        return b"\x02" + _packed(outcome) + outcome.blob
    if isinstance(outcome, Rewrapped):
        return b"\x03" + bytes((outcome.unchanged,)) + _packed(outcome) + outcome.blob
    if isinstance(outcome, Failed):
        return None if is_retryable(outcome.code) else b"\x01" + outcome.code.value.encode()
    if isinstance(outcome, Commanded):
        return b"\x04" + _COMMANDED.dump_json(outcome.result)
    raise TypeError("an unwrap makes nothing and is never ledgered")


class BadOutcome(ValueError):
    """A ledger row holds what no release ever wrote."""


def decode(raw: bytes) -> Outcome:
    """Read what `encode` wrote. Raises `BadOutcome` for anything else: somebody edited the ledger."""
    try:
        return _decode(raw)
    except (ValueError, IndexError):
        raise BadOutcome("not an outcome that any release wrote") from None


def recall(entry: LedgerEntry | None, count: int, kind: type[Wrapped | Rewrapped | Commanded]) -> list[Outcome | None]:
    """The kept outcomes of a request of so many items, None for what is open still.

    Raises `BadOutcome` unless there is one place for each item, and in it what such a request may end in.
    """
    if entry is None:
        return [None] * count
    if len(entry.outcomes) != count:
        raise BadOutcome("not one outcome for each item")
    kept = [None if raw is None else decode(raw) for raw in entry.outcomes]
    if not all(outcome is None or isinstance(outcome, kind | Failed) for outcome in kept):
        raise BadOutcome("the outcome of another operation")
    return kept


def _decode(raw: bytes) -> Outcome:
    kind, rest = raw[:1], raw[1:]
    if kind == b"\x01":
        return Failed(Code(rest.decode()))
    if kind == b"\x02":
        return Wrapped(*_place(rest), blob=rest[36:])
    if kind == b"\x03":
        return Rewrapped(*_place(rest[1:]), blob=rest[37:], unchanged=rest[:1] == b"\x01")
    if kind == b"\x04":
        return Commanded(_COMMANDED.validate_json(rest))
    raise ValueError(f"unknown outcome form {kind.hex()}")


def _packed(outcome: Wrapped | Rewrapped) -> bytes:
    return outcome.id.bytes + outcome.key.bytes + outcome.version.to_bytes(4, "big")


def _place(raw: bytes) -> tuple[UUID, UUID, int]:
    return UUID(bytes=raw[:16]), UUID(bytes=raw[16:32]), int.from_bytes(raw[32:36], "big")
