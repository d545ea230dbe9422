"""Provider move (SECURITY S13): the L1 gets a new version elsewhere; campaigns move what stands under the old one."""

from dataclasses import replace

from worker.chain.keys import find, material_of, new_version
from worker.chain.lifecycle import Change
from worker.chain.links import linked, standing
from worker.chain.outside import is_outside
from worker.chain.plan import Case
from worker.chain.told import teller
from worker.chain.versions import retiring
from worker.chain.views import link_view
from worker.chain.work import Commanding, Step
from worker.model.codes import Code
from worker.model.effects import Seen
from worker.model.hsm import CreateLink, CreateMaster
from worker.model.linked import MoveResult
from worker.model.linking import TenantMoveBody
from worker.model.rows import Key, Link, Origin, RowRef, Table, Version


def move(case: Case, body: TenantMoveBody) -> Step | Code:
    """A new active version of the L1 in a keystore or in our token. The one before still opens what it wrapped."""
    key = find(case, body.tenant, body.key)
    if isinstance(key, Code):
        return key
    if key.parent is not None:
        return Code.WRONG_LAYER
    tenant, current = case.facts.tenants.get(key.tenant), case.facts.versions.get((key.id, key.active_version))
    if tenant is None or current is None:
        return Code.INTEGRITY
    if not key.enabled or not tenant.enabled:
        return Code.KEY_DISABLED
    if body.keystore is None and not is_outside(current):
        return Code.CONFLICT  # it is in our token already: that is a rotation
    left = _left(case, current)
    if isinstance(left, Code):
        return left
    link_seen, link_left = left
    retired, also = retiring(teller(case), key, current, Change.RETIRE, body.why)
    version, link, op = _made(case, key, body)
    origin = Origin.GENERATED if link is None else Origin.EXTERNAL
    number, revision = version.number, key.revision + 1
    moved = replace(key, origin=origin, active_version=number, latest_version=number, revision=revision)
    touched = (Seen(key.ref, key.revision), Seen(current.ref, current.revision))
    changed = (*(touched if retired else touched[:1]), *(link_seen if link_left else ()))
    return Commanding(
        op=op,
        version=version,
        rows=(moved, *retired, *link_left, *([] if link is None else [link])),
        changes=tuple(seen.ref for seen in changed),
        rests=tuple(dict.fromkeys((Seen(tenant.ref, tenant.revision), *touched, *link_seen))),
        result=MoveResult(
            tenant=tenant.id,
            moved_key=key.id,
            to_version=number,
            link=None if link is None else link_view(link),
            versions=standing(case, key, *retired, version),
        ),
        event="keyriver.tenant.moved.v1",
        also=also,
        drops=(key.id,),
    )


def _left(case: Case, current: Version) -> tuple[tuple[Seen, ...], tuple[Link, ...]] | Code:
    """The link that is left, and how it will stand if that changes it: who has a key elsewhere is sovereign no more."""
    if not is_outside(current):
        return (), ()
    link = case.facts.rows.get(RowRef(Table.LINKS, str(current.link)))
    if not isinstance(link, Link):
        return Code.INTEGRITY
    left = (replace(link, sovereign=False, revision=link.revision + 1),) if link.sovereign else ()
    return (Seen(link.ref, link.revision),), left


def _made(case: Case, key: Key, body: TenantMoveBody) -> tuple[Version, Link | None, CreateLink | CreateMaster]:
    number = key.latest_version + 1
    if body.keystore is None:
        material = material_of(key.id, number)
        return new_version(case, key, number, 0, material), None, CreateMaster(key.id, number, material)
    link, version = linked(case, key, number, body.keystore, sovereign=False)
    return version, link, CreateLink(link.address, key.id, number, link.inner)
