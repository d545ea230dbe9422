"""What falls due without a request: activations, destructions, approvals that expire. Pure; a duty carries it out.

A destruction takes two steps where a token object is involved. First the row says destroyed, so that no cancellation
can come between; then the object goes, and only then is it told. Each step may be repeated: ids follow from the row.
"""

import json
from dataclasses import dataclass, replace
from uuid import UUID

from worker.chain import lifecycle
from worker.chain.approvals import ended
from worker.chain.conclude import HINT, hint
from worker.chain.lifecycle import Change
from worker.chain.told import Teller
from worker.chain.versions import destruction, promoted
from worker.chain.work import Commanding
from worker.model.effects import Announce, Effect, Leaf, PutRow, Seen, Settlement
from worker.model.facts import Facts, Needs
from worker.model.fields import Answer
from worker.model.hsm import DestroyMaster
from worker.model.ids import derived_id
from worker.model.rows import Approval, ApprovalState, Key, Row, RowRef, State, Version

ACTOR = "keyriver"
"""Who acts when a time has come; the officer who set the time stands in the event of that command."""
DESTROYED = "keyriver.key.destroyed.v1"


@dataclass(frozen=True, slots=True)
class Due:
    """One thing to carry out: what the token has to do first, and then what to settle."""

    op: DestroyMaster | None
    settlement: Settlement


def version_due(facts: Facts, key: Key, version: Version, recoverable_ms: int) -> Due | None:
    """What is to be done with this version now, or None."""
    if not 0 < version.due_ms <= facts.now_ms:
        return None
    match version.state:
        case State.PRE_ACTIVE:
            return _activation(facts, key, version)
        case State.DESTROY_SCHEDULED:
            return _end(facts, key, version, recoverable_ms)
        case State.DESTROYED if version.material is not None:
            done = replace(version, due_ms=0, revision=version.revision + 1)
            op = DestroyMaster(key.id, version.number, version.material)
            return Due(op, _told_destroyed(facts, key, version, done, recoverable_ms))
        case _:
            return None


def approval_due(facts: Facts, approval: Approval) -> Due | None:
    """A pending approval whose time is over."""
    if approval.state is not ApprovalState.PENDING or facts.now_ms < approval.expires_ms:
        return None
    step = ended(approval, ApprovalState.EXPIRED, "")
    return Due(None, _settlement(approval.expires_ms, approval.tenant, approval.ref, step))


def _activation(facts: Facts, key: Key, version: Version) -> Due | None:
    """A newer version may have become active meanwhile; then this one waits for nothing any more."""
    if version.number < key.active_version:
        lapsed = replace(version, due_ms=0, revision=version.revision + 1)
        return Due(None, _quiet(version, lapsed))
    step = promoted(_teller(facts, version), key, version, "its time has come")
    if not isinstance(step, Commanding):
        return None
    return Due(None, _settlement(version.due_ms, key.tenant, version.ref, step))


def _end(facts: Facts, key: Key, version: Version, recoverable_ms: int) -> Due | None:
    """The wrapped bytes go with the row; of a token object only the way back is closed. Never while it is needed."""
    needs = facts.needs.get((key.id, version.number), Needs())
    state = lifecycle.after(Change.CARRY_OUT_DESTROY, version.state)
    if state is None or (needs.anything and not version.forced):
        return None
    waits_for_token = version.material is not None
    gone = replace(
        version,
        state=state,
        wrapped=b"",
        prior=None,
        due_ms=version.due_ms if waits_for_token else 0,
        revision=version.revision + 1,
    )
    if waits_for_token:
        return Due(None, _quiet(version, gone))
    return Due(None, _told_destroyed(facts, key, version, gone, recoverable_ms))


def _told_destroyed(facts: Facts, key: Key, version: Version, gone: Version, recoverable_ms: int) -> Settlement:
    needs = facts.needs.get((key.id, version.number), Needs())
    report = destruction(replace(gone, due_ms=version.due_ms), needs, recoverable_ms)
    told = _teller(facts, version).transition(key, version, gone, "its time has come", destruction=report)
    rests = (Seen(version.ref, version.revision),)
    effects = _effects(version.due_ms, key.tenant, version.ref, (gone,), ((DESTROYED, told),), (key.id,))
    return Settlement(None, None, rests, (version.ref,), effects)


def _quiet(version: Version, changed: Version) -> Settlement:
    """A step that is told with the next one, or not at all."""
    return Settlement(None, None, (Seen(version.ref, version.revision),), (version.ref,), (PutRow(changed),))


def _settlement(at_ms: int, tenant: str, ref: RowRef, step: Commanding) -> Settlement:
    facts = ((step.event, step.told or step.result), *step.also)
    return Settlement(None, None, step.rests, step.changes, _effects(at_ms, tenant, ref, step.rows, facts, step.drops))


def _effects(
    at_ms: int,
    tenant: str,
    ref: RowRef,
    rows: tuple[Row, ...],
    facts: tuple[tuple[str, Answer], ...],
    drops: tuple[UUID, ...],
) -> tuple[Effect, ...]:
    """Rows, events, hints and a leaf. Whoever does it again does it with the same ids."""
    effects: list[Effect] = [PutRow(row) for row in rows]
    for type_, told in facts:
        body = told.model_dump_json(exclude_none=True).encode()
        effects.append(Announce(derived_id(at_ms, ref.table, ref.key, type_), type_, tenant, body))
        leaf = {"form": 1, "tenant": tenant, "client": ACTOR, "type": type_, "row": f"{ref.table} {ref.key}"}
        leaf |= {"told": told.model_dump(mode="json", exclude_none=True)}
        text = json.dumps(leaf, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        effects.append(Leaf(derived_id(at_ms, ref.table, ref.key, type_, "leaf"), tenant, text))
    if drops:
        effects.append(Announce(derived_id(at_ms, ref.table, ref.key, HINT), HINT, tenant, hint(drops)))
    return tuple(effects)


def _teller(facts: Facts, version: Version) -> Teller:
    name = f"due {version.key}/{version.number} at {version.due_ms}"
    return Teller(facts, ACTOR, None, name, name)
