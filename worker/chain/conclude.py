"""`conclude`: plan + HSM results → outcomes, and everything that must be settled with them."""

import json
from collections.abc import Iterable, Iterator, Sequence
from uuid import UUID

from pydantic_core import to_json

from worker.chain.outcomes import encode
from worker.chain.plan import Conclusion, NewIds, Plan
from worker.chain.work import ITEM_WORK, Commanding, Refreshing, Rewrapping, Step, Wrapping
from worker.model.bodies import RewrapBody, WrapBody
from worker.model.codes import Code
from worker.model.effects import (
    Announce,
    Count,
    Effect,
    Leaf,
    LedgerEntry,
    MoveDek,
    PutRow,
    Settlement,
    StoreDeks,
)
from worker.model.fields import Answer
from worker.model.hsm import HsmResult
from worker.model.ids import NO_ID
from worker.model.outcomes import Commanded, Failed, Outcome, Rewrapped, Unwrapped, Wrapped
from worker.model.replies import ApprovalResult, Hint
from worker.model.requests import Envelope, Request
from worker.model.rows import FLEET_TENANT, ApprovalState, Dek, Row, RowRef, Version

_LEAF_FORM = 1
HINT = "keyriver.hint.v1"
"""Goes through the outbox like every fact, and to a topic of its own."""


def conclude(plan: Plan, results: Sequence[HsmResult], new_ids: NewIds) -> Conclusion:
    """Turn the HSM's results (one per operation of `plan.ops`, in order) into outcomes and a settlement."""
    answers = iter(results)
    outcomes: list[Outcome] = []
    rows: tuple[Row, ...] = ()
    for step in plan.steps:
        if isinstance(step, ITEM_WORK):
            outcomes.append(step.outcome(next(answers)))
        elif isinstance(step, Commanding):
            result = None if step.op is None else next(answers)
            outcomes.append(step.outcome(result))
            rows = step.written(result)
        else:
            outcomes.append(step)
    effects = (*_effects(plan, outcomes, rows), *_leaves(plan, outcomes, new_ids))
    ledger = _ledger(plan, outcomes)
    return Conclusion(plan, tuple(outcomes), Settlement(ledger, plan.opened, plan.seen, _changes(plan), effects))


def _changes(plan: Plan) -> tuple[RowRef, ...]:
    return tuple(ref for step in plan.steps if isinstance(step, Commanding) for ref in step.changes)


def is_ledgered(request: Request) -> bool:
    """Whether the outcomes are kept: of what makes or changes something (D1). A stateless rewrap makes nothing."""
    if isinstance(request.body, RewrapBody):
        return any(item.id is not None for item in request.body.items)
    return request.operation.is_ledgered


def _ledger(plan: Plan, outcomes: Iterable[Outcome]) -> LedgerEntry | None:
    """The entry to write, or None if nothing new became final."""
    request = plan.request
    if not is_ledgered(request):
        return None
    pairs = zip(_kept(plan), outcomes, strict=True)
    encoded = tuple(old if old is not None else encode(new) for old, new in pairs)
    if plan.opened is not None and encoded == plan.opened.outcomes:
        return None
    return LedgerEntry(request.key, request.operation, request.body_digest, encoded)


def _kept(plan: Plan) -> tuple[bytes | None, ...]:
    """What the ledger has of each item: those are told again."""
    return (None,) * len(plan.steps) if plan.opened is None else plan.opened.outcomes


def _effects(plan: Plan, outcomes: Sequence[Outcome], rows: tuple[Row, ...]) -> Iterator[Effect]:
    """Rows and census deltas of the items that were done now; what was told again changes nothing."""
    body = plan.request.body
    leaves_us = isinstance(body, WrapBody | RewrapBody) and body.return_blob
    deks: list[Dek] = []
    moved: dict[UUID, MoveDek] = {}
    census: dict[tuple[UUID, int], list[int]] = {}
    for step, outcome, kept in zip(plan.steps, outcomes, _kept(plan), strict=True):
        if isinstance(outcome, Wrapped) and isinstance(step, Wrapping):
            stored = outcome.id != NO_ID
            if stored:
                deks.append(Dek(outcome.id, outcome.key, outcome.version, outcome.blob))
            _add(census, outcome.key, outcome.version, int(stored), int(leaves_us or not stored))
        elif isinstance(outcome, Rewrapped) and isinstance(step, Rewrapping):
            moves = bool(step.stored) and outcome.id not in moved  # a request may name one DEK twice; it moves once
            if step.stored:
                moved[outcome.id] = MoveDek(Dek(outcome.id, outcome.key, outcome.version, outcome.blob), step.stored)
            if moves:
                _add(census, step.op.source.key, step.op.source.version, -1, 0)
            _add(census, outcome.key, outcome.version, int(moves), int(leaves_us or not step.stored))
        elif (issued := _issued(outcome, asked=leaves_us and kept is None)) is not None:
            _add(census, *issued, 0, 1)
    yield from moved.values()
    if deks:
        yield StoreDeks(tuple(deks))
    for (key, version), (stored_delta, outside) in census.items():
        yield Count(key, version, stored_delta, outside)
    yield from map(PutRow, rows)


def _issued(outcome: Outcome, *, asked: bool) -> tuple[UUID, int] | None:
    """The version of a blob that goes out beside a row: a lazy rewrap's, or that of a row which a rewrap left."""
    if isinstance(outcome, Unwrapped):
        return (outcome.key, outcome.blob_version) if outcome.blob else None
    if asked and isinstance(outcome, Rewrapped) and outcome.unchanged and outcome.id != NO_ID:
        return outcome.key, outcome.version
    return None


def _add(census: dict[tuple[UUID, int], list[int]], key: UUID, version: int, stored: int, outside: int) -> None:
    delta = census.setdefault((key, version), [0, 0])
    delta[0] += stored
    delta[1] += outside


def _leaves(plan: Plan, outcomes: Sequence[Outcome], new_ids: NewIds) -> Iterator[Effect]:
    """One audit leaf per key version, one for items that touched none (S16), and the command's event."""
    groups: dict[tuple[UUID, int] | None, dict[str, int]] = {}
    for step, outcome, kept in zip(plan.steps, outcomes, _kept(plan), strict=True):
        counts = groups.setdefault(_place(step, outcome), {})
        word = _word(outcome, is_told_again=kept is not None)
        counts[word] = counts.get(word, 0) + 1
        if isinstance(outcome, Unwrapped) and outcome.blob:  # two versions were used
            anew = groups.setdefault((outcome.key, outcome.blob_version), {})
            anew[word] = anew.get(word, 0) + 1
    tenant = _tenant(plan.request)
    for place, leaf_id in zip(groups, new_ids(len(groups)), strict=True):
        yield Leaf(leaf_id, tenant, leaf_body(plan.request, tenant, place, groups[place], _told(plan, outcomes)))
    for step, outcome in zip(plan.steps, outcomes, strict=True):
        if isinstance(step, Commanding):
            for type_, said in step.facts(outcome):
                yield Announce(new_ids(1)[0], type_, tenant, said.model_dump_json(exclude_none=True).encode())
            if step.drops and isinstance(outcome, Commanded):
                yield Announce(new_ids(1)[0], HINT, tenant, hint(step.drops))


def hint(keys: Iterable[UUID]) -> bytes:
    """The body of the broadcast that these keys' handles, and those of all keys below them, must go (D7)."""
    return Hint(keys=list(keys)).model_dump_json().encode()


def _told(plan: Plan, outcomes: Iterable[Outcome]) -> Answer | None:
    """What a command's leaf tells besides the counts: the transition, or the approval."""
    pairs = zip(plan.steps, outcomes, strict=True)
    return next((step.tells(outcome) for step, outcome in pairs if isinstance(step, Commanding)), None)


def refuse(envelope: Envelope, code: Code, new_ids: NewIds) -> Settlement:
    """What a request that is refused as a whole leaves behind: its audit leaf."""
    tenant = _tenant(envelope)
    leaf = Leaf(new_ids(1)[0], tenant, leaf_body(envelope, tenant, None, {code.value: 1}))
    return Settlement(None, None, (), (), (leaf,))


def leaf_body(
    request: Envelope, tenant: str, place: tuple[UUID, int] | None, counts: dict[str, int], told: Answer | None = None
) -> bytes:
    """Who, what, key and version, outcome counts, item digest, algorithm: canonical JSON without secrets."""
    leaf: dict[str, object] = {  # in the order of names, which is the canonical one
        "algorithm": "AES-256-GCM",
        "appended_ms": request.record.appended_ms,
        "client": request.key.client,
        "correlation": request.route.correlation,
        "counts": dict(sorted(counts.items())),
        "form": _LEAF_FORM,
        "items": request.body_digest.hex(),
        "key": None if place is None else str(place[0]),
        "request": request.key.id,
        "signed": request.signed_digest.hex(),
        "source": request.key.source,
        "tenant": tenant,
        "time_ms": request.time_ms,
        "type": request.type,
        "version": None if place is None else place[1] or None,
    }
    if told is not None:
        leaf["told"] = told.model_dump(mode="json", exclude_none=True)
        return json.dumps(leaf, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return to_json(leaf)


def _tenant(request: Envelope) -> str:
    """Whose log it belongs to: an officer's command stands in the affected tenant's (S14), a service's in its own."""
    if request.key.tenant == FLEET_TENANT and isinstance(request, Request):
        return str(getattr(request.body, "tenant", None) or FLEET_TENANT)
    return request.key.tenant


def _place(step: Step, outcome: Outcome) -> tuple[UUID, int] | None:
    """The key version that the item used or would have used; 0 when it came to no version."""
    if isinstance(outcome, Wrapped | Unwrapped | Rewrapped):
        return outcome.key, outcome.version
    if isinstance(step, Commanding):
        version = step.version or next((row for row in step.rows if isinstance(row, Version)), None)
        return None if version is None else (version.key, version.number)
    if isinstance(step, Rewrapping | Refreshing):
        return step.op.source.key, step.op.source.version
    if isinstance(step, ITEM_WORK):
        return step.op.kek.key, step.op.kek.version
    return (outcome.key, 0) if isinstance(outcome, Failed) and outcome.key is not None else None


def _word(outcome: Outcome, *, is_told_again: bool) -> str:
    if isinstance(outcome, Failed):
        return f"{outcome.code.value}: {outcome.why}" if outcome.why else outcome.code.value
    if is_told_again:
        return "REPEATED"
    if isinstance(outcome, Commanded) and isinstance(outcome.result, ApprovalResult):
        return "APPROVAL_EXPIRED" if outcome.result.approval.state is ApprovalState.EXPIRED else "OK"
    if isinstance(outcome, Commanded) and getattr(outcome.result, "tampered", None):
        return Code.INTEGRITY.value  # a list on which rows had to be left out
    return "UNCHANGED" if isinstance(outcome, Rewrapped) and outcome.unchanged else "OK"
