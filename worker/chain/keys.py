"""Commands on tenants and keys: create, show, list."""

from dataclasses import replace
from typing import Protocol
from uuid import UUID

from worker.chain.bound import bound
from worker.chain.lifecycle import Use
from worker.chain.listed import next_after, unbelieved
from worker.chain.outside import to_make
from worker.chain.plan import Case
from worker.chain.resolve import Usable
from worker.chain.views import key_view
from worker.chain.work import Commanding, Step
from worker.model.bodies import KeyCreateBody, KeyListBody, KeyShowBody, TenantCreateBody
from worker.model.codes import Code
from worker.model.facts import Facts, Paging
from worker.model.hsm import CreateKey, CreateMaster, CreateOutside, Purpose, Wrapping
from worker.model.ids import derived_id, moment_of
from worker.model.outcomes import Commanded
from worker.model.replies import KeyListResult, KeyResult, TenantResult
from worker.model.rows import FLEET_TENANT, Alias, Key, Origin, RowRef, State, Table, Tenant, Version


class Known(Protocol):
    """What knows the facts: a case, or a duty that nobody asked."""

    @property
    def facts(self) -> Facts:
        """As of one moment."""
        ...


def create_tenant(case: Case, body: TenantCreateBody) -> Step | Code:
    """A tenant with its L1 in the token; ids are derived from the request, so a redelivery finds the same object."""
    if body.tenant == FLEET_TENANT or is_taken(case, body.tenant):
        return Code.EXISTS
    tenant = Tenant(body.tenant, body.layers, body.minimum_suite, enabled=True, revision=1)
    key = replace(new_key(case, tenant, None, ""), origin=body.origin)
    alias = Alias(body.tenant, tenant.id, key.id, 1)
    if body.origin is Origin.IMPORTED:
        return _awaiting(case, tenant, key, alias)
    material = material_of(key.id, 1)
    version = new_version(case, key, 1, 0, material)
    view = key_view(key, (alias.name,), (version,))
    return Commanding(
        op=CreateMaster(key.id, 1, material),
        version=version,
        rows=(tenant, key, alias),
        changes=(),
        rests=(),
        result=TenantResult(tenant=tenant.id, layers=tenant.layers, key=view),
        event="keyriver.tenant.created.v1",
    )


def _awaiting(case: Case, tenant: Tenant, key: Key, alias: Alias) -> Commanding:
    """Its L1 waits for the customer's material: a version that does nothing, and no object in the token (S12)."""
    version = replace(new_version(case, key, 1, 0, None), state=State.PRE_ACTIVE, wrapping=Wrapping.TOKEN, absent=True)
    view = key_view(key, (alias.name,), (version,))
    return Commanding(
        op=None,
        version=None,
        rows=(tenant, key, alias, version),
        changes=(),
        rests=(),
        result=TenantResult(tenant=tenant.id, layers=tenant.layers, key=view),
        event="keyriver.tenant.created.v1",
    )


def create(case: Case, body: KeyCreateBody) -> Step | Code:
    """A key below a parent that wraps keys; its layer decides what it wraps (S5)."""
    parent = find(case, body.tenant, body.parent)
    if isinstance(parent, Code):
        return parent
    tenant = case.facts.tenants.get(body.tenant)
    if tenant is None:
        return Code.INTEGRITY  # the parent's row names it
    if not body.alias.startswith(f"{tenant.id}/"):
        return Code.MALFORMED
    if body.alias in case.facts.aliases or RowRef(Table.ALIASES, body.alias) in case.facts.tampered:
        return Code.EXISTS
    if parent.purpose is not Purpose.WRAPS_KEYS:
        return Code.WRONG_LAYER
    above = case.chains.usable(parent, parent.active_version, Use.WRAP)
    if isinstance(above, Code):
        return above
    region = body.region or parent.region
    if parent.region not in ("", region):
        return Code.WRONG_REGION
    within = bound(case.facts, region, above.kek)
    if isinstance(within, Code):
        return within
    key = new_key(case, tenant, parent, region)
    alias = Alias(body.alias, tenant.id, key.id, 1)
    version = new_version(case, key, 1, above.version.number, None)
    if body.pre_active:
        version = replace(version, state=State.PRE_ACTIVE)
    return Commanding(
        op=creation(above, key, 1),
        version=version,
        rows=(key, alias),
        changes=(),
        rests=tuple(dict.fromkeys((*above.seen, *within))),
        result=KeyResult(key=key_view(key, (alias.name,), (version,))),
        event="keyriver.key.created.v1",
    )


def show(case: Case, body: KeyShowBody) -> Step | Code:
    """One key and all its versions."""
    key = find(case, body.tenant, body.key)
    if isinstance(key, Code):
        return key
    versions = [version for (owner, _), version in case.facts.versions.items() if owner == key.id]
    return Commanded(KeyResult(key=key_view(key, case.facts.names.get(key.id, ()), versions)))


def list_page(case: Case, body: KeyListBody) -> Step | Code:
    """One page of a tenant's keys. One more than the limit is read, to know whether there are others."""
    if body.tenant not in case.facts.tenants:
        return Code.NOT_FOUND
    found = case.facts.key_pages.get(key_paging(body), ())
    keys = [case.facts.keys[key] for key in found[: body.limit] if key in case.facts.keys]
    views = [key_view(key, case.facts.names.get(key.id, ())) for key in keys]
    shown = [RowRef(Table.KEYS, str(key)) for key in found[: body.limit]]
    more = len(found) > body.limit
    return Commanded(
        KeyListResult(
            keys=views, more=more, tampered=unbelieved(case.facts, shown), next_after=next_after(shown, more=more)
        )
    )


def key_paging(body: KeyListBody) -> Paging:
    """The page that this body asks for."""
    return Paging(body.tenant, "" if body.after is None else str(body.after), body.limit + 1)


def find(case: Case, tenant: str, name: str) -> Key | Code:
    """A tenant's key by alias or id, for an officer; another tenant's is not found."""
    facts = case.facts
    alias = facts.aliases.get(name)
    if alias is None and RowRef(Table.ALIASES, name) in facts.tampered:
        return Code.INTEGRITY
    try:
        id_ = UUID(name) if alias is None else alias.key
    except ValueError:
        return Code.NOT_FOUND
    key = facts.keys.get(id_)
    if key is None:
        is_lost = alias is not None or RowRef(Table.KEYS, str(id_)) in facts.tampered
        return Code.INTEGRITY if is_lost else Code.NOT_FOUND
    return key if key.tenant == tenant else Code.NOT_FOUND


def is_taken(case: Case, tenant: str) -> bool:
    """Whether a tenant or an alias of this name is there, or was."""
    facts = case.facts
    refs = {RowRef(Table.TENANTS, tenant), RowRef(Table.ALIASES, tenant)}
    return tenant in facts.tenants or tenant in facts.aliases or not refs.isdisjoint(facts.tampered)


def derived(case: Case, what: str) -> UUID:
    """An id that the request makes again however often it comes, also when its sender repeats it with a new time."""
    key = case.request.key
    return derived_id(_moment(key.id), key.tenant, key.client, key.source, key.id, what)


def _moment(request: str) -> int:
    """The time in the request's own id, if that is a UUIDv7 as our clients make them; else none."""
    try:
        return moment_of(UUID(request)) if UUID(request).version == 7 else 0  # noqa: PLR2004 - RFC 9562
    except ValueError:
        return 0


def material_of(key: UUID, number: int) -> UUID:
    """The token's label for one version of an L1: whoever makes it finds the same object, so none is left over."""
    return derived_id(moment_of(key), str(key), str(number), "material")


def new_key(case: Case, tenant: Tenant, parent: Key | None, region: str, origin: Origin = Origin.GENERATED) -> Key:
    """A key as it stands when it is made; its layer decides what it wraps (S5)."""
    layer = 1 if parent is None else parent.layer + 1
    return Key(
        id=derived(case, "key"),
        tenant=tenant.id,
        parent=None if parent is None else parent.id,
        layer=layer,
        purpose=Purpose.WRAPS_DEKS if layer == tenant.layers else Purpose.WRAPS_KEYS,
        origin=origin,
        region=region,
        enabled=True,
        active_version=1,
        latest_version=1,
        revision=1,
    )


def creation(above: Usable, key: Key, number: int) -> CreateKey | CreateOutside:
    """What makes a version under this parent; under an L1 that stays outside the customer's keystore takes part."""
    if above.link is None:
        return CreateKey(above.kek, key.id, number, key.purpose)
    outside = to_make(above.link, key.tenant, key.id, number)
    return CreateOutside(above.kek, key.id, number, key.purpose, outside)


def new_version(case: Known, key: Key, number: int, parent_version: int, material: UUID | None) -> Version:
    """A version as it stands before the token gave it its material; of a token object `material` is the label."""
    return Version(
        key=key.id,
        number=number,
        state=State.ACTIVE,
        wrapping=Wrapping.TOKEN if material is not None else Wrapping.AES_KWP,
        wrapped=b"",
        parent_version=parent_version,
        material=material,
        serial="",
        created_ms=case.facts.now_ms,
        revision=1,
    )
