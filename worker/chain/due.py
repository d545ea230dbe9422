"""What falls due without a request: activations, destructions, approvals that expire. Pure; a duty carries it out.

A destruction takes two steps where a token object is involved. First the row says destroyed, so that no cancellation
can come between; then the object goes, and only then is it told. Each step may be repeated: ids follow from the row.
"""

from dataclasses import dataclass, replace
from uuid import UUID

from worker.chain import lifecycle
from worker.chain.approvals import ended
from worker.chain.conclude import HINT, hint
from worker.chain.leaves import ACTOR, OK, own_leaf
from worker.chain.lifecycle import Change
from worker.chain.told import Teller
from worker.chain.versions import destruction, promoted
from worker.chain.work import Commanding
from worker.model.effects import Announce, Effect, PutRow, Seen, Settlement
from worker.model.facts import Facts
from worker.model.fields import Answer
from worker.model.hsm import (
    DestroyMaster,
)
from worker.model.ids import derived_id
from worker.model.import_ops import (
    DestroyImportPair,
)
from worker.model.rows import Approval, ApprovalState, Key, Row, RowRef, State, Version

DESTROYED = "keyriver.key.destroyed.v1"
BEGUN = "keyriver.key.destruction.begun.v1"
"""The row says destroyed and there is no way back; the token object is still to go."""
LAPSED = "keyriver.key.activation.lapsed.v1"
_WORDS = {"keyriver.approval.expired.v1": "APPROVAL_EXPIRED"}
"""What is a security event on the audit trail."""


@dataclass(frozen=True, slots=True)
class Due:
    """One thing to carry out: what the token has to do first, and then what to settle."""

    op: DestroyMaster | DestroyImportPair | None
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
            op = DestroyMaster(key.id, version.number, version.material, version.serial)
            settlement = _told_destroyed(facts, key, version, done, recoverable_ms)
            return None if settlement is None else Due(op, settlement)
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
        told = _teller(facts, version).transition(key, version, lapsed, "a newer version is active")
        return Due(None, _put(version, lapsed, key.tenant, LAPSED, told))
    step = promoted(_teller(facts, version), key, version, "its time has come")
    if not isinstance(step, Commanding):
        return None
    return Due(None, _settlement(version.due_ms, key.tenant, version.ref, step))


def _end(facts: Facts, key: Key, version: Version, recoverable_ms: int) -> Due | None:
    """The wrapped bytes go with the row; of a token object only the way back is closed. Never while it is needed."""
    needs = facts.needs.get((key.id, version.number))
    state = lifecycle.after(Change.CARRY_OUT_DESTROY, version.state)
    if state is None or needs is None or (needs.anything and not version.forced):
        return None
    waits_for_token = version.material is not None
    gone = replace(
        version,
        state=state,
        wrapped=b"",
        prior=None,
        due_ms=version.due_ms if waits_for_token else 0,
        not_after_ms=0,
        revision=version.revision + 1,
    )
    if waits_for_token:
        told = _teller(facts, version).transition(key, version, gone, "its time has come")
        return Due(None, _put(version, gone, key.tenant, BEGUN, told))
    settlement = _told_destroyed(facts, key, version, gone, recoverable_ms)
    return None if settlement is None else Due(None, settlement)


def _told_destroyed(facts: Facts, key: Key, version: Version, gone: Version, recoverable_ms: int) -> Settlement | None:
    """The end, with its report; None when nobody asked what needed the version."""
    needs = facts.needs.get((key.id, version.number))
    if needs is None:
        return None
    report = destruction(replace(gone, due_ms=version.due_ms), needs, recoverable_ms)
    told = _teller(facts, version).transition(key, version, gone, "its time has come", destruction=report)
    rests = (Seen(version.ref, version.revision),)
    done = effects(version.due_ms, key.tenant, version.ref, (gone,), ((DESTROYED, told),), (key.id,))
    return Settlement(None, None, rests, (version.ref,), done)


def _put(version: Version, changed: Version, tenant: str, event: str, told: Answer) -> Settlement:
    """One row, and the fact that tells of it."""
    rests = (Seen(version.ref, version.revision),)
    done = effects(version.due_ms, tenant, version.ref, (changed,), ((event, told),), ())
    return Settlement(None, None, rests, (version.ref,), done)


def _settlement(at_ms: int, tenant: str, ref: RowRef, step: Commanding) -> Settlement:
    facts = ((step.event, step.told or step.result), *step.also)
    return Settlement(None, None, step.rests, step.changes, effects(at_ms, tenant, ref, step.rows, facts, step.drops))


def effects(
    at_ms: int,
    tenant: str,
    ref: RowRef,
    rows: tuple[Row, ...],
    facts: tuple[tuple[str, Answer], ...],
    drops: tuple[UUID, ...],
) -> tuple[Effect, ...]:
    """Rows, events, hints and a leaf. Whoever does it again does it with the same ids."""
    made: list[Effect] = [PutRow(row) for row in rows]
    place = next(((row.key, row.number) for row in rows if isinstance(row, Version)), None)
    for type_, told in facts:
        body = told.model_dump_json(exclude_none=True).encode()
        made.append(Announce(derived_id(at_ms, ref.table, ref.key, type_), type_, tenant, body))
        leaf_id, name = derived_id(at_ms, ref.table, ref.key, type_, "leaf"), f"{ref.table} {ref.key}"
        made.append(own_leaf(leaf_id, tenant, at_ms, type_, name, {_WORDS.get(type_, OK): 1}, place, told))
    if drops:
        made.append(Announce(derived_id(at_ms, ref.table, ref.key, HINT), HINT, tenant, hint(drops)))
    return tuple(made)


def _teller(facts: Facts, version: Version) -> Teller:
    return teller_of(facts, version, version.due_ms)


def teller_of(facts: Facts, version: Version, at_ms: int) -> Teller:
    """Tells of what nobody asked for just now."""
    name = f"due {version.key}/{version.number} at {at_ms}"
    return Teller(facts, ACTOR, None, name, name)
