"""One item on its way through the HSM: the operation, and what its result means."""

from dataclasses import dataclass, replace
from hmac import compare_digest
from uuid import UUID

from worker.model.codes import Code
from worker.model.effects import Seen
from worker.model.fields import Answer
from worker.model.fleet import FleetKey, FleetKeyState
from worker.model.hsm import (
    CreatedFleetKey,
    CreatedKey,
    CreatedMaster,
    CreateFleetKey,
    CreateKey,
    CreateLink,
    CreateMaster,
    CreateOutside,
    Fault,
    HsmFault,
    HsmResult,
    RewrapDek,
    UnwrapDek,
    UnwrappedDek,
    WrapDek,
    WrappedDek,
)
from worker.model.import_ops import (
    CreateImportPair,
    ImportMaster,
)
from worker.model.outcomes import Commanded, Failed, Outcome, Rewrapped, Unwrapped, Wrapped
from worker.model.replies import CommandResult
from worker.model.rows import Link, Row, RowRef, Version

_CODES = {
    Fault.BAD_CIPHERTEXT: Code.UNWRAP_FAILED,
    Fault.UNSUPPORTED: Code.UNSUPPORTED,
    Fault.INTEGRITY: Code.INTEGRITY,
    Fault.UNAVAILABLE: Code.DEFERRED,
    Fault.ELSEWHERE: Code.WRONG_TOKEN,
    Fault.COLD: Code.KEK_OPENING,
    Fault.FORBIDDEN: Code.KEYSTORE_FORBIDDEN,
    Fault.UNREACHABLE: Code.KEYSTORE_UNREACHABLE,
    Fault.BUSY: Code.THROTTLED,
    Fault.UNFIT: Code.KEYSTORE_UNFIT,
}


def failed(fault: HsmFault) -> Failed:
    """The code for a fault of the token."""
    return Failed(_CODES[fault.fault], fault.fault.value if fault.fault is Fault.BAD_CIPHERTEXT else "")


@dataclass(frozen=True, slots=True)
class Wrapping:
    """A DEK to be wrapped; `header` is already what the blob will begin with."""

    op: WrapDek
    header: bytes
    id: UUID

    def outcome(self, result: HsmResult) -> Outcome:
        """The wrapped DEK, with its plaintext for as long as the batch lives."""
        if isinstance(result, WrappedDek):
            blob = self.header + result.nonce + result.ciphertext
            return Wrapped(self.id, self.op.kek.key, self.op.kek.version, blob, result.dek)
        return _unexpected(result)


@dataclass(frozen=True, slots=True)
class Unwrapping:
    """A DEK to be unwrapped and its context compared."""

    op: UnwrapDek
    context_digest: bytes

    def outcome(self, result: HsmResult) -> Outcome:
        """The DEK, or one code for every way in which blob, key and context don't fit."""
        if isinstance(result, UnwrappedDek):
            if not compare_digest(result.context_digest, self.context_digest):
                return Failed(Code.UNWRAP_FAILED, "context")
            return Unwrapped(self.op.kek.key, self.op.kek.version, result.dek)
        return _unexpected(result)


@dataclass(frozen=True, slots=True)
class Replaying:
    """A DEK that was wrapped before and whose plaintext is asked for again (D1): the same id, version and blob."""

    op: UnwrapDek
    kept: Wrapped
    context_digest: bytes

    def outcome(self, result: HsmResult) -> Outcome:
        """The kept outcome, with its plaintext again; a blob with another context is not what was kept."""
        if isinstance(result, UnwrappedDek):
            if not compare_digest(result.context_digest, self.context_digest):
                return Failed(Code.INTEGRITY, "ledger")
            return Wrapped(self.kept.id, self.kept.key, self.kept.version, self.kept.blob, result.dek)
        return _unexpected(result)


@dataclass(frozen=True, slots=True)
class Rewrapping:
    """A DEK to be moved to `op.target`. `stored` is the row's blob before, empty if it is the caller's."""

    op: RewrapDek
    header: bytes
    id: UUID
    stored: bytes = b""

    def outcome(self, result: HsmResult) -> Outcome:
        """The moved blob."""
        if isinstance(result, WrappedDek):
            blob = self.header + result.nonce + result.ciphertext
            return Rewrapped(self.id, self.op.target.key, self.op.target.version, blob, unchanged=False)
        return _unexpected(result)


@dataclass(frozen=True, slots=True)
class Refreshing:
    """A DEK to be unwrapped and, on the way, wrapped anew; `plain` is the same without the latter."""

    op: RewrapDek
    header: bytes
    plain: Unwrapping

    def outcome(self, result: HsmResult) -> Outcome:
        """The DEK and its new blob; no blob is made for whoever does not know the context."""
        if isinstance(result, WrappedDek):
            if not compare_digest(result.context_digest, self.plain.context_digest):
                return Failed(Code.UNWRAP_FAILED, "context")
            blob = self.header + result.nonce + result.ciphertext
            return Unwrapped(self.op.source.key, self.op.source.version, result.dek, blob, self.op.target.version)
        return _unexpected(result)


@dataclass(frozen=True, slots=True)
class Commanding:
    """A command that makes or changes rows. The version that `op` makes lacks its material until the token answers.

    `rests` are rows that must not have moved, `changes` those among them that `rows` replace;
    `event` is the type of the fact that is announced when the rows stand, with `told` as its body (else the result);
    `also` are more such facts. `told` stands in the audit leaf, too. `drops` are keys whose handles must go.
    """

    op: CreateKey | CreateMaster | CreateOutside | CreateLink | CreateImportPair | ImportMaster | CreateFleetKey | None
    version: Version | None
    rows: tuple[Row, ...]
    changes: tuple[RowRef, ...]
    rests: tuple[Seen, ...]
    result: CommandResult
    event: str
    told: Answer | None = None
    also: tuple[tuple[str, Answer], ...] = ()
    drops: tuple[UUID, ...] = ()

    def outcome(self, result: HsmResult | None) -> Outcome:
        """The command's result."""
        if result is None or isinstance(result, CreatedKey | CreatedMaster | CreatedFleetKey):
            return Commanded(self.result)
        return _unexpected(result)

    def written(self, result: HsmResult | None) -> tuple[Row, ...]:
        """All rows to put, the new version with what the token gave; none where it failed."""
        match result, self.version:
            case HsmFault(), _:
                return ()
            case CreatedKey() as made, Version() as version:
                return (*self.rows, replace(version, wrapped=made.wrapped, wrapping=made.wrapping, digest=made.digest))
            case CreatedMaster() as made, Version() as version:
                return (*[_linked(row, made) for row in self.rows], replace(version, serial=made.serial))
            case CreatedFleetKey(), _:
                return tuple(_signed(row, result) if isinstance(row, FleetKey) else row for row in self.rows)
            case _:
                return self.rows

    def facts(self, outcome: Outcome) -> tuple[tuple[str, Answer], ...]:
        """What is announced: of what was not done, nothing."""
        if not isinstance(outcome, Commanded):
            return ()
        return ((self.event, self.told or self.result), *self.also)

    def tells(self, outcome: Outcome) -> Answer | None:
        """What the audit leaf tells besides the counts: the transition, or the approval."""
        return self.told if isinstance(outcome, Commanded) else None


def _signed(row: FleetKey, made: CreatedFleetKey) -> FleetKey:
    """The new version's row with what the token gave."""
    if row.state is not FleetKeyState.ACTIVE:
        return row
    return replace(
        row,
        public_key=made.public_key,
        predecessor=made.predecessor,
        by_predecessor=made.by_predecessor,
        by_itself=made.by_itself,
    )


Work = Wrapping | Unwrapping | Replaying | Rewrapping | Refreshing | Commanding
ITEM_WORK = (Wrapping, Unwrapping, Replaying, Rewrapping, Refreshing)
"""Work on one DEK; each has an operation."""
WORK = (*ITEM_WORK, Commanding)
Step = Outcome | Work
"""One item after `decide`: an outcome already, or work for the HSM."""


def _linked(row: Row, made: CreatedMaster) -> Row:
    """A new link learns which token holds its inner key, and what the keystore said."""
    if not isinstance(row, Link) or row.serial:
        return row
    return replace(row, serial=made.serial, external_version=made.external_version)


def _unexpected(result: HsmResult) -> Failed:
    if isinstance(result, HsmFault):
        return failed(result)
    raise TypeError(f"the HSM answered {type(result).__name__} to another kind of operation")
