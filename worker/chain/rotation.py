"""Rotation of any layer: a new version made in the token; the old one is retired with it, or waits for it."""

from dataclasses import dataclass, replace

from worker.chain.bound import bound
from worker.chain.keys import creation, find, material_of, new_version
from worker.chain.lifecycle import Change, Use
from worker.chain.outside import is_outside
from worker.chain.plan import Case
from worker.chain.resolve import Chains, Usable
from worker.chain.told import Teller, teller
from worker.chain.versions import retiring
from worker.chain.work import Commanding, Step
from worker.model.bodies import KeyRotateBody
from worker.model.codes import Code
from worker.model.effects import Seen
from worker.model.facts import Facts
from worker.model.fields import Reason
from worker.model.hsm import CreateKey, CreateMaster, CreateOutside
from worker.model.replies import KeyResult
from worker.model.rows import Key, Origin, State, Version


@dataclass(frozen=True, slots=True)
class Ground:
    """What a rotation rests on, whoever wants it."""

    facts: Facts
    chains: Chains
    tells: Teller


def rotate(case: Case, body: KeyRotateBody) -> Step | Code:
    """A new version, whatever state the present one is in; in an emergency the present one is compromised."""
    key = find(case, body.tenant, body.key)
    if isinstance(key, Code):
        return key
    if body.reason is Reason.COMPROMISE and body.pre_active:
        return Code.MALFORMED
    ground = Ground(case.facts, case.chains, teller(case))
    return rotated(ground, key, body.reason, body.why, pre_active=body.pre_active)


def rotated(ground: Ground, key: Key, reason: Reason, why: str, *, pre_active: bool = False) -> Commanding | Code:
    """The rotation itself."""
    if key.origin is Origin.IMPORTED:
        return Code.WRONG_ORIGIN
    if not key.enabled:
        return Code.KEY_DISABLED
    current = ground.facts.versions.get((key.id, key.active_version))
    above = _above(ground, key)
    if current is None or isinstance(above, Code):
        return above if isinstance(above, Code) else Code.INTEGRITY
    if is_outside(current):
        return Code.LINKED  # a version in our token would take the key from the customer's hand
    how = Change.COMPROMISE if reason is Reason.COMPROMISE else Change.RETIRE
    retired, also = ((), ()) if pre_active else retiring(ground.tells, key, current, how, why, reason)
    version, op = _made(ground, key, *above)
    if pre_active:
        version = replace(version, state=State.PRE_ACTIVE)
    active = key.active_version if pre_active else version.number
    moved = replace(key, active_version=active, latest_version=version.number, revision=key.revision + 1)
    touched = (Seen(key.ref, key.revision), Seen(current.ref, current.revision))
    return Commanding(
        op=op,
        version=version,
        rows=(moved, *retired),
        changes=tuple(seen.ref for seen in (touched if retired else touched[:1])),
        rests=tuple(dict.fromkeys((*above[1], *touched))),
        result=KeyResult(key=ground.tells.view(moved, *retired, version)),
        event="keyriver.key.rotated.v1",
        also=also,
        drops=(key.id,) if retired else (),
    )


def _above(ground: Ground, key: Key) -> tuple[Usable | None, tuple[Seen, ...]] | Code:
    """What the new version is made under, and the rows that say so: of an L1 its tenant."""
    if key.parent is None:
        tenant = ground.facts.tenants.get(key.tenant)
        if tenant is None:
            return Code.INTEGRITY
        return (None, (Seen(tenant.ref, tenant.revision),)) if tenant.enabled else Code.KEY_DISABLED
    parent = ground.facts.keys.get(key.parent)
    if parent is None:
        return Code.INTEGRITY
    usable = ground.chains.usable(parent, parent.active_version, Use.WRAP)
    if isinstance(usable, Code):
        return usable
    within = bound(ground.facts, key.region, usable.kek)
    return within if isinstance(within, Code) else (usable, usable.seen + within)


def _made(
    ground: Ground, key: Key, parent: Usable | None, _seen: tuple[Seen, ...]
) -> tuple[Version, CreateKey | CreateMaster | CreateOutside]:
    number = key.latest_version + 1
    if parent is None:
        material = material_of(key.id, number)
        return new_version(ground, key, number, 0, material), CreateMaster(key.id, number, material)
    return new_version(ground, key, number, parent.version.number, None), creation(parent, key, number)
