"""What `decide` makes of one request, and what `conclude` makes of the plan once the HSM has answered."""

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from worker.chain.resolve import Chains
from worker.chain.work import WORK, Step
from worker.model.codes import Code
from worker.model.effects import LedgerEntry, Seen, Settlement
from worker.model.facts import Facts
from worker.model.hsm import HsmOp
from worker.model.imports import SAFE_ALGORITHMS, ImportAlgorithm
from worker.model.outcomes import Outcome
from worker.model.requests import Recipient, Request
from worker.model.rows import Approval, Client

NewIds = Callable[[int], list[UUID]]
"""Makes so many fresh UUIDv7."""

Unsealed = tuple[bytes, ...] | Code | None
"""The caller's DEKs out of their seal, why they can't be had, or None where the request brings none."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that `decide` applies, in milliseconds.

    `recoverable_ms`: how long backups and topics could still bring a destroyed key back (S15); None: nobody said.
    `import_life_ms`: how long import parameters hold; `import_algorithms`: how customers may wrap their keys (S12).
    """

    freshness_ms: int = 5 * 60_000
    deadline_ms: int = 10 * 60_000
    ledger_window_ms: int = 14 * 24 * 3_600_000
    shortest_grace_ms: int = 7 * 24 * 3_600_000
    longest_grace_ms: int = 30 * 24 * 3_600_000
    recoverable_ms: int | None = None
    import_life_ms: int = 24 * 3_600_000
    import_algorithms: frozenset[ImportAlgorithm] = SAFE_ALGORITHMS


@dataclass(frozen=True, slots=True)
class Case:
    """One request before the facts: everything that its decision may rest on.

    `approval` is set while the command that it approves is planned: then `request` is that command's.
    """

    request: Request
    client: Client
    facts: Facts
    chains: Chains
    unsealed: Unsealed = field(repr=False)
    opened: LedgerEntry | None
    limits: Limits = Limits()
    approval: Approval | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The whole request is refused. `retry_after_ms`: sooner it would be again."""

    request: Request
    code: Code
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Reopen:
    """The signature was checked against a client row that has changed since: `open` it again."""

    request: Request


@dataclass(frozen=True, slots=True)
class Plan:
    """One step per item, and the rows that the decision rests on. `recipient` is set when plaintext goes back."""

    request: Request
    steps: tuple[Step, ...]
    seen: tuple[Seen, ...]
    opened: LedgerEntry | None
    recipient: Recipient | None = None

    @property
    def ops(self) -> list[HsmOp]:
        """The HSM operations, in item order; items that need none are left out."""
        return [step.op for step in self.steps if isinstance(step, WORK) and step.op is not None]


Decision = Plan | Refused | Reopen


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The outcomes in item order, and what to settle."""

    plan: Plan
    outcomes: tuple[Outcome, ...]
    settlement: Settlement
