"""Commands on version states: activate, suspend, resume, deactivate, compromise, destroy, cancel-destroy."""

from collections.abc import Callable
from dataclasses import replace

from worker.chain import lifecycle
from worker.chain.keys import find
from worker.chain.lifecycle import Change
from worker.chain.outside import is_outside
from worker.chain.plan import Case, Limits
from worker.chain.told import Teller, teller
from worker.chain.work import Commanding, Step
from worker.model.codes import Code
from worker.model.control import (
    KeyActivateBody,
    KeyCancelDestroyBody,
    KeyCompromiseBody,
    KeyDeactivateBody,
    KeyDestroyBody,
    KeyResumeBody,
    KeySuspendBody,
    VersionBody,
)
from worker.model.effects import Seen
from worker.model.facts import Needs
from worker.model.fields import Answer, Reason
from worker.model.outcomes import Commanded
from worker.model.replies import CommandResult, DestroyResult, KeyResult, Transition
from worker.model.rows import Key, RowRef, State, Table, Version
from worker.model.views import Destruction

_CHANGES: dict[type[VersionBody], tuple[Change, str]] = {
    KeySuspendBody: (Change.SUSPEND, "keyriver.key.suspended.v1"),
    KeyResumeBody: (Change.RESUME, "keyriver.key.resumed.v1"),
    KeyDeactivateBody: (Change.DEACTIVATE, "keyriver.key.deactivated.v1"),
    KeyCompromiseBody: (Change.COMPROMISE, "keyriver.key.compromised.v1"),
}


def change(case: Case, body: VersionBody) -> Step | Code:
    """Suspend, resume, deactivate or compromise; a stop that is done already changes nothing and is no error."""
    found = _found(case, body, lambda key: key.active_version)
    if isinstance(found, Code):
        return found
    key, version = found
    kind, event = _CHANGES[type(body)]
    state = lifecycle.after(kind, version.state)
    if state is None or (kind is Change.RESUME and version.number != key.active_version):
        return Code.KEY_STATE
    if state is version.state:
        return Commanded(KeyResult(key=teller(case).view(key)))
    changed = replace(version, state=state, due_ms=0, revision=version.revision + 1)
    told = teller(case).transition(key, version, changed, body.why)
    return _putting(key, (version,), (changed,), KeyResult(key=teller(case).view(key, changed)), event, told)


def activate(case: Case, body: KeyActivateBody) -> Step | Code:
    """Make a pre-active version the active one, now or when it is due; never one that is older than the active one."""
    found = _found(case, body, lambda key: key.latest_version)
    if isinstance(found, Code):
        return found
    key, version = found
    if lifecycle.after(Change.ACTIVATE, version.state) is None or version.number < key.active_version or version.absent:
        return Code.KEY_STATE
    if body.at_ms is not None and body.at_ms > case.facts.now_ms:
        due = replace(version, due_ms=body.at_ms, revision=version.revision + 1)
        told = teller(case).transition(key, version, due, body.why)
        result = KeyResult(key=teller(case).view(key, due))
        return _putting(key, (version,), (due,), result, "keyriver.key.activation.scheduled.v1", told)
    return promoted(teller(case), key, version, body.why)


def promoted(tells: Teller, key: Key, version: Version, why: str) -> Commanding | Code:
    """The pre-active version becomes the key's active one; the one before it is deactivated with it."""
    active = replace(version, state=State.ACTIVE, due_ms=0, revision=version.revision + 1)
    told = tells.transition(key, version, active, why)
    event = "keyriver.key.activated.v1"
    if version.number == key.active_version:
        result = KeyResult(key=tells.view(key, active))
        step = _putting(key, (version,), (active,), result, event, told)
        return replace(step, rests=(Seen(key.ref, key.revision), *step.rests))  # no rotation may come between
    before = tells.facts.versions.get((key.id, key.active_version))
    if before is None:
        return Code.INTEGRITY
    moved = replace(key, active_version=version.number, revision=key.revision + 1)
    retired, also = retiring(tells, key, before, Change.RETIRE, why)
    result = KeyResult(key=tells.view(moved, active, *retired))
    step = _putting(key, (version, *([before] if retired else [])), (active, *retired), result, event, told)
    seen = Seen(key.ref, key.revision)
    return replace(
        step, rows=(moved, *step.rows), changes=(key.ref, *step.changes), rests=(seen, *step.rests), also=also
    )


def retiring(
    tells: Teller, key: Key, before: Version, how: Change, why: str, reason: Reason | None = None
) -> tuple[tuple[Version, ...], tuple[tuple[str, Answer], ...]]:
    """The version that a newer one replaces, if that changes it, and the fact that tells of it."""
    state = lifecycle.after(how, before.state)
    if state is None or state is before.state:
        return (), ()
    retired = replace(before, state=state, due_ms=0, revision=before.revision + 1)
    event = "keyriver.key.compromised.v1" if state is State.COMPROMISED else "keyriver.key.deactivated.v1"
    return (retired,), ((event, tells.transition(key, before, retired, why, reason=reason)),)


def destroy(case: Case, body: KeyDestroyBody) -> Step | Code:
    """Schedule a destruction, unless something needs the version: in its state nothing new can."""
    found = _found(case, body, lambda _: body.version)
    if isinstance(found, Code):
        return found
    key, version = found
    if is_outside(version):
        return Code.LINKED
    limits = case.limits
    if lifecycle.after(Change.SCHEDULE_DESTROY, version.state) is None:
        return Code.KEY_STATE
    if limits.recoverable_ms is None:
        return Code.RECOVERY_UNKNOWN
    grace_ms = limits.shortest_grace_ms if body.grace_s is None else body.grace_s * 1000
    if not limits.shortest_grace_ms <= grace_ms <= limits.longest_grace_ms:
        return Code.GRACE_REFUSED
    needs = case.facts.needs.get((key.id, version.number))
    if needs is None:
        return Code.INTEGRITY  # nobody asked what needs it: a fault of ours, and never a reason to destroy
    forced = body.force is not None and body.force == body.key
    if needs.anything and not forced:
        return Code.STILL_NEEDED
    due_ms = case.facts.now_ms + grace_ms
    scheduled = replace(
        version,
        state=State.DESTROY_SCHEDULED,
        due_ms=due_ms,
        prior=version.state,
        forced=forced and needs.anything,
        revision=version.revision + 1,
    )
    report = destruction(scheduled, needs, limits.recoverable_ms)
    told = teller(case).transition(key, version, scheduled, body.why, destruction=report)
    result = DestroyResult(key=teller(case).view(key, scheduled), destruction=report)
    return _putting(key, (version,), (scheduled,), result, "keyriver.key.destruction.scheduled.v1", told)


def grace_refused(destroy_after_s: int, limits: Limits) -> Code | None:
    """Why nothing may be scheduled for destruction with this grace later on; 0: nothing is to be."""
    if not destroy_after_s:
        return None
    if limits.recoverable_ms is None:
        return Code.RECOVERY_UNKNOWN
    fits = limits.shortest_grace_ms <= destroy_after_s * 1000 <= limits.longest_grace_ms
    return None if fits else Code.GRACE_REFUSED


def destruction(version: Version, needs: Needs, recoverable_ms: int) -> Destruction:
    """What the destruction takes, and until when it could be undone from backups (S15)."""
    return Destruction(
        version=version.number,
        due_ms=version.due_ms,
        recoverable_until_ms=version.due_ms + recoverable_ms,
        deks=needs.deks,
        issued_outside=needs.issued_outside,
        children=needs.children,
        forced=version.forced,
    )


def cancel_destroy(case: Case, body: KeyCancelDestroyBody) -> Step | Code:
    """Call a scheduled destruction off while it is not carried out."""
    found = _found(case, body, lambda _: body.version)
    if isinstance(found, Code):
        return found
    key, version = found
    if version.state is not State.DESTROY_SCHEDULED or version.prior is None:
        return Code.KEY_STATE
    kept = replace(version, state=version.prior, due_ms=0, prior=None, forced=False, revision=version.revision + 1)
    told = teller(case).transition(key, version, kept, body.why)
    result = KeyResult(key=teller(case).view(key, kept))
    return _putting(key, (version,), (kept,), result, "keyriver.key.destruction.cancelled.v1", told)


def _found(case: Case, body: VersionBody, default: Callable[[Key], int]) -> tuple[Key, Version] | Code:
    key = find(case, body.tenant, body.key)
    if isinstance(key, Code):
        return key
    number = default(key) if body.version is None else body.version
    version = case.facts.versions.get((key.id, number))
    if version is None:
        tampered = RowRef(Table.VERSIONS, f"{key.id}/{number}") in case.facts.tampered
        return Code.INTEGRITY if tampered else Code.NOT_FOUND
    return key, version


def _putting(
    key: Key,
    before: tuple[Version, ...],
    rows: tuple[Version, ...],
    result: CommandResult,
    event: str,
    told: Transition,
) -> Commanding:
    rests = tuple(Seen(version.ref, version.revision) for version in before)
    return Commanding(
        op=None,
        version=None,
        rows=rows,
        changes=tuple(seen.ref for seen in rests),
        rests=rests,
        result=result,
        event=event,
        told=told,
        drops=(key.id,),
    )
