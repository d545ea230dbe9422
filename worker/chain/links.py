"""Commands on HYOK links (SECURITY S13): create, show, list, cut, restore, unlink, declare."""

from collections.abc import Iterable
from dataclasses import replace

from worker.chain import lifecycle
from worker.chain.keys import derived, find, is_taken, material_of, new_key, new_version
from worker.chain.lifecycle import Change
from worker.chain.listed import next_after, unbelieved
from worker.chain.outside import is_outside
from worker.chain.plan import Case
from worker.chain.told import teller
from worker.chain.views import key_view, link_view
from worker.chain.work import Commanding, Step
from worker.model.codes import Code
from worker.model.effects import Seen
from worker.model.facts import Needs, RowPage
from worker.model.hsm import CreateLink, Wrapping
from worker.model.linked import (
    LinkChange,
    LinkEnd,
    LinkListResult,
    LinkReport,
    LinkResult,
    Standing,
    UnlinkResult,
)
from worker.model.linking import (
    KeystoreTarget,
    LinkBody,
    LinkCreateBody,
    LinkCutBody,
    LinkDeclareBody,
    LinkListBody,
    LinkRestoreBody,
    LinkUnlinkBody,
)
from worker.model.outcomes import Commanded
from worker.model.replies import TenantResult
from worker.model.rows import (
    FLEET_TENANT,
    Alias,
    Key,
    Link,
    Origin,
    Row,
    RowRef,
    State,
    Table,
    Tenant,
    Version,
)
from worker.model.words import LinkState


def create(case: Case, body: LinkCreateBody) -> Step | Code:
    """A tenant whose L1 stays in its customer's keystore. Nothing else ever opened its keys: sovereign at once."""
    if body.tenant == FLEET_TENANT or is_taken(case, body.tenant):
        return Code.EXISTS
    tenant = Tenant(body.tenant, body.layers, body.minimum_suite, enabled=True, revision=1)
    key = new_key(case, tenant, None, "", Origin.EXTERNAL)
    alias = Alias(body.tenant, tenant.id, key.id, 1)
    link, version = linked(case, key, 1, body.keystore, sovereign=True)
    told = TenantResult(tenant=tenant.id, layers=tenant.layers, key=key_view(key, (alias.name,), (version,)))
    return Commanding(
        op=CreateLink(link.address, key.id, 1, link.inner),
        version=version,
        rows=(tenant, key, alias, link),
        changes=(),
        rests=(),
        result=LinkResult(link=link_view(link)),
        event="keyriver.link.created.v1",
        told=_told(case, link, None, link, body.tenant, ""),
        also=(("keyriver.tenant.created.v1", told),),
    )


def linked(case: Case, key: Key, number: int, keystore: KeystoreTarget, *, sovereign: bool) -> tuple[Link, Version]:
    """A new version of an L1 that stays outside, and its link; the token and the keystore fill in the rest."""
    inner = material_of(key.id, number)
    link = Link(
        id=derived(case, "link"),
        tenant=key.tenant,
        key=key.id,
        version=number,
        provider=keystore.provider,
        endpoint=keystore.endpoint,
        external_key=keystore.key,
        credential=keystore.credential,
        state=LinkState.LINKED,
        inner=inner,
        serial="",
        external_version="",
        sovereign=sovereign,
        created_ms=case.facts.now_ms,
        revision=1,
    )
    version = new_version(case, key, number, 0, inner)
    return link, replace(version, wrapping=Wrapping.EXTERNAL, link=link.id)


def change(case: Case, body: LinkBody) -> Step | Code:
    """A command on one link, found by its L1 and version."""
    key = find(case, body.tenant, body.key)
    if isinstance(key, Code):
        return key
    number = key.active_version if body.version is None else body.version
    version = case.facts.versions.get((key.id, number))
    if version is None:
        tampered = RowRef(Table.VERSIONS, f"{key.id}/{number}") in case.facts.tampered
        return Code.INTEGRITY if tampered else Code.NOT_FOUND
    if not is_outside(version):
        return Code.NOT_FOUND
    link = case.facts.rows.get(RowRef(Table.LINKS, str(version.link)))
    if not isinstance(link, Link) or (link.key, link.version) != (key.id, number):
        return Code.INTEGRITY
    match body:
        case LinkCutBody():
            return _cut(case, body, key, link)
        case LinkRestoreBody():
            return _restore(case, body, key, link)
        case LinkUnlinkBody():
            return _unlink(case, body, key, version, link)
        case LinkDeclareBody():
            return _declare(case, body, key, link)
        case _:
            report = standing(case, key)
            could = _could_be_sovereign(case, key, link)
            return Commanded(LinkReport(link=link_view(link), versions=report, could_be_sovereign=could))


def list_page(case: Case, body: LinkListBody) -> Step | Code:
    """One page of links."""
    found = case.facts.pages.get(link_paging(body), ())
    shown, more = found[: body.limit], len(found) > body.limit
    rows = (case.facts.rows.get(ref) for ref in shown)
    views = [link_view(row) for row in rows if isinstance(row, Link)]
    return Commanded(
        LinkListResult(
            links=views, more=more, tampered=unbelieved(case.facts, shown), next_after=next_after(shown, more=more)
        )
    )


def link_paging(body: LinkListBody) -> RowPage:
    """The page that this body asks for."""
    return RowPage(Table.LINKS, body.tenant or "", "" if body.after is None else str(body.after), body.limit + 1)


def standing(case: Case, key: Key, *changed: Version) -> list[Standing]:
    """Every version of an L1 as it stands after the change, and how much is still wrapped under it."""
    put = {version.number: version for version in changed}
    known = {number: row for (owner, number), row in case.facts.versions.items() if owner == key.id} | put
    return [
        Standing(
            version=number,
            state=version.state,
            link=version.link,
            children=case.facts.needs.get((key.id, number), Needs()).children,
        )
        for number, version in sorted(known.items())
    ]


def _cut(case: Case, body: LinkCutBody, key: Key, link: Link) -> Step | Code:
    """Cutting again is a cut of its own: a restore that waits for the first must not lift the second."""
    if link.state is LinkState.UNLINKED:
        return Code.CONFLICT
    cut = replace(link, state=LinkState.CUT, cut_revision=link.revision + 1, revision=link.revision + 1)
    result = LinkResult(link=link_view(cut))
    told = _told(case, link, link, cut, body.key, body.why)
    return _putting((link,), (cut,), result, "keyriver.link.severed.v1", told, drops=key)


def _restore(case: Case, body: LinkRestoreBody, _key: Key, link: Link) -> Step | Code:
    """Lift the cut that the body names by its revision."""
    if link.state is not LinkState.CUT or link.cut_revision != body.revision:
        return Code.CONFLICT
    whole = replace(link, state=LinkState.LINKED, cut_revision=0, revision=link.revision + 1)
    result = LinkResult(link=link_view(whole))
    told = _told(case, link, link, whole, body.key, body.why)
    return _putting((link,), (whole,), result, "keyriver.link.restored.v1", told)


def _unlink(case: Case, body: LinkUnlinkBody, key: Key, version: Version, link: Link) -> Step | Code:
    """The end. From the next settle on nothing opens; the inner key goes like any destroyed L1, when it is safe to.

    It is due at once and can't be called off, for the row has no state to go back to.
    """
    if link.state is LinkState.UNLINKED or version.state in (State.DESTROY_SCHEDULED, State.DESTROYED):
        return Code.CONFLICT
    if case.limits.recoverable_ms is None:
        return Code.RECOVERY_UNKNOWN
    needs = case.facts.needs.get((key.id, version.number), Needs())
    forced = body.force is not None and body.force == body.key
    if not forced and (needs.anything or lifecycle.after(Change.SCHEDULE_DESTROY, version.state) is None):
        return Code.STILL_NEEDED
    now = case.facts.now_ms
    gone = replace(
        version, state=State.DESTROY_SCHEDULED, due_ms=now, prior=None, forced=forced, revision=version.revision + 1
    )
    ended = replace(link, state=LinkState.UNLINKED, cut_revision=0, revision=link.revision + 1)
    end = LinkEnd(
        due_ms=now,
        recoverable_until_ms=now + case.limits.recoverable_ms,
        children=needs.children,
        forced=forced,
    )
    told = _told(case, link, link, ended, body.key, body.why).model_copy(update={"end": end})
    result = UnlinkResult(link=link_view(ended), end=end)
    return _putting((link, version), (ended, gone), result, "keyriver.link.unlinked.v1", told, drops=key)


def _declare(case: Case, body: LinkDeclareBody, key: Key, link: Link) -> Step | Code:
    """Sovereign: only once whatever opened the tenant's keys before is destroyed, and nothing stands under it (S13)."""
    if link.sovereign or link.state is not LinkState.LINKED or link.version != key.active_version:
        return Code.CONFLICT
    if case.limits.recoverable_ms is None:
        return Code.RECOVERY_UNKNOWN
    if not _could_be_sovereign(case, key, link):
        return Code.STILL_NEEDED
    sovereign = replace(link, sovereign=True, revision=link.revision + 1)
    horizon = case.facts.now_ms + case.limits.recoverable_ms
    told = _told(case, link, link, sovereign, body.key, body.why)
    told = told.model_copy(update={"recoverable_until_ms": horizon, "was": "linked", "now": "sovereign"})
    result = LinkResult(link=link_view(sovereign))
    step = _putting((link,), (sovereign,), result, "keyriver.link.sovereign.v1", told)
    others = [row for (owner, _), row in case.facts.versions.items() if owner == key.id]
    return replace(step, rests=(*step.rests, Seen(key.ref, key.revision), *_seen(others)))


def _could_be_sovereign(case: Case, key: Key, link: Link) -> bool:
    """Whether every other version of the L1 is destroyed, and no version of an L2 under one is left."""
    others = [one for one in standing(case, key) if one.version != link.version]
    complete = len(others) == key.latest_version - 1
    return complete and all(one.state is State.DESTROYED and not one.children for one in others)


def _told(case: Case, link: Link, was: Link | None, now: Link, alias: str, why: str) -> LinkChange:
    tells = teller(case)
    return LinkChange(
        tenant=link.tenant,
        link=link.id,
        key=link.key,
        alias=alias,
        version=link.version,
        was="" if was is None else was.state.value,
        now=now.state.value,
        who=tells.who,
        approved_by=tells.approved_by,
        why=why,
        request=tells.request,
        correlation=tells.correlation,
        revision=now.revision,
    )


def _seen(rows: Iterable[Row]) -> tuple[Seen, ...]:
    return tuple(Seen(row.ref, row.revision) for row in rows)


def _putting(
    before: tuple[Row, ...],
    rows: tuple[Row, ...],
    result: LinkResult | UnlinkResult,
    event: str,
    told: LinkChange,
    *,
    drops: Key | None = None,
) -> Commanding:
    return Commanding(
        op=None,
        version=None,
        rows=rows,
        changes=tuple(row.ref for row in before),
        rests=_seen(before),
        result=result,
        event=event,
        told=told,
        drops=() if drops is None else (drops.id,),
    )
