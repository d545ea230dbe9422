"""`decide`: request + facts → plan, or a refusal. The steps are numbered in the order in which they must come."""

from worker.chain import commands, deks, policy, quotas
from worker.chain.blob import BadBlob
from worker.chain.outcomes import BadOutcome
from worker.chain.plan import Case, Decision, Limits, Plan, Refused, Reopen, Unsealed
from worker.chain.resolve import Chains
from worker.model.codes import Code
from worker.model.effects import LedgerEntry, Seen
from worker.model.facts import Facts
from worker.model.operations import DATA_OPERATIONS
from worker.model.requests import Request
from worker.model.rows import RowRef, Table


def decide(
    request: Request, facts: Facts, chains: Chains, unsealed: Unsealed, limits: Limits, wait_ms: int | None = None
) -> Decision:
    """Decide one request; `wait_ms`: its quota is used up for so long.

    1. The client's row must be the one that verified the signature.
    2. It is live still, and its kind of signer may send this operation.
    3. The ledger is asked before age and deadline: a request that was answered is answered again.
    4. What is too old, not fresh or past its deadline is not begun, nor what there is no quota for (D10).
    5. The operation's own rules decide every item.
    """
    client = facts.clients.get(request.key.client)
    if client is None:  # 1
        tampered = RowRef(Table.CLIENTS, request.key.client) in facts.tampered
        return Refused(request, Code.INTEGRITY) if tampered else Reopen(request)
    if client.revision != request.client_revision:
        return Reopen(request)
    if not policy.is_live(client, facts.now_ms) or not policy.may_ask(client, request.operation):  # 2
        return Refused(request, Code.NOT_FOUND)
    opened = facts.ledger.get(request.key)  # 3
    if opened is not None and opened.operation is None:
        return Refused(request, Code.INTEGRITY)
    if opened is not None and (opened.digest != request.body_digest or opened.operation is not request.operation):
        return Refused(request, Code.ID_REUSED)
    late = None if is_answered(opened) else too_late(request, facts.now_ms, limits, known=opened is not None)  # 4
    if late is not None:
        return Refused(request, late)
    if wait_ms is not None:
        return Refused(request, Code.THROTTLED, wait_ms)
    if quotas.is_tampered(request, facts):
        return Refused(request, Code.INTEGRITY)
    case = Case(request, client, facts, chains, unsealed, opened, limits)  # 5
    try:
        decision = deks.plan(case) if request.operation in DATA_OPERATIONS else commands.plan(case)
    except (BadOutcome, BadBlob):  # of the ledger's row; callers' blobs are judged item by item
        return Refused(request, Code.INTEGRITY)
    return _resting_on_client(decision, Seen(client.ref, client.revision))


def is_answered(entry: LedgerEntry | None) -> bool:
    """Whether the ledger has a final outcome for every item."""
    return entry is not None and None not in entry.outcomes


def too_late(request: Request, now_ms: int, limits: Limits, *, known: bool) -> Code | None:
    """Why the request may not be begun any more (S3). An entry that is still open was fresh when it was first seen."""
    if not known:
        if now_ms - request.record.appended_ms > limits.ledger_window_ms:
            return Code.STALE
        if abs(request.time_ms - request.record.appended_ms) > limits.freshness_ms:
            return Code.STALE
    if request.deadline_ms is None:
        return None
    if request.deadline_ms - request.time_ms > limits.deadline_ms:
        return Code.DEADLINE_TOO_FAR
    return Code.DEADLINE_EXCEEDED if request.deadline_ms < now_ms else None


def _resting_on_client(decision: Decision, seen: Seen) -> Decision:
    if isinstance(decision, Plan):
        return Plan(decision.request, decision.steps, (seen, *decision.seen), decision.opened, decision.recipient)
    return decision
