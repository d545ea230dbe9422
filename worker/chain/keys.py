"""Commands on tenants and keys: create, show, list."""

from dataclasses import replace
from uuid import UUID

from worker.chain.lifecycle import Use
from worker.chain.plan import Case
from worker.chain.views import key_view
from worker.chain.work import Commanding, Step
from worker.model.bodies import KeyCreateBody, KeyListBody, KeyShowBody, TenantCreateBody
from worker.model.codes import Code
from worker.model.facts import Paging
from worker.model.hsm import CreateKey, CreateMaster, Purpose, Wrapping
from worker.model.ids import derived_id
from worker.model.outcomes import Commanded
from worker.model.replies import KeyListResult, KeyResult, TenantResult
from worker.model.rows import FLEET_TENANT, Alias, Key, Origin, RowRef, State, Table, Tenant, Version


def create_tenant(case: Case, body: TenantCreateBody) -> Step | Code:
    """A tenant with its L1 in the token; ids are derived from the request, so a redelivery finds the same object."""
    if body.tenant == FLEET_TENANT or _is_taken(case, body.tenant):
        return Code.EXISTS
    tenant = Tenant(body.tenant, body.layers, body.minimum_suite, enabled=True, revision=1)
    key = _new_key(case, tenant, None, "")
    alias = Alias(body.tenant, tenant.id, key.id, 1)
    material = derived(case, "material")
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


def create(case: Case, body: KeyCreateBody) -> Step | Code:
    """A key below a parent that wraps keys; its layer decides what it wraps (S5)."""
    tenant = case.facts.tenants.get(body.tenant)
    parent = find(case, body.tenant, body.parent)
    if tenant is None or isinstance(parent, Code):
        return parent if isinstance(parent, Code) else Code.NOT_FOUND
    if not body.alias.startswith(f"{tenant.id}/"):
        return Code.MALFORMED
    if body.alias in case.facts.aliases or RowRef(Table.ALIASES, body.alias) in case.facts.tampered:
        return Code.EXISTS
    if parent.purpose is not Purpose.WRAPS_KEYS:
        return Code.WRONG_LAYER
    above = case.chains.usable(parent, parent.active_version, Use.WRAP)
    if isinstance(above, Code):
        return above
    key = _new_key(case, tenant, parent, body.region or parent.region)
    alias = Alias(body.alias, tenant.id, key.id, 1)
    version = new_version(case, key, 1, above.version.number, None)
    if body.pre_active:
        version = replace(version, state=State.PRE_ACTIVE)
    return Commanding(
        op=CreateKey(above.kek, key.id, 1, key.purpose),
        version=version,
        rows=(key, alias),
        changes=(),
        rests=above.seen,
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
    return Commanded(KeyListResult(keys=views, more=len(found) > body.limit))


def key_paging(body: KeyListBody) -> Paging:
    """The page that this body asks for."""
    return Paging(body.tenant, "" if body.after is None else str(body.after), body.limit + 1)


def find(case: Case, tenant: str, name: str) -> Key | Code:
    """A tenant's key by alias or id, for an officer; another tenant's is not found."""
    alias = case.facts.aliases.get(name)
    try:
        key = case.facts.keys.get(alias.key if alias is not None else UUID(name))
    except ValueError:
        key = None
    if key is None:
        return Code.INTEGRITY if RowRef(Table.ALIASES, name) in case.facts.tampered else Code.NOT_FOUND
    return key if key.tenant == tenant else Code.NOT_FOUND


def _is_taken(case: Case, tenant: str) -> bool:
    facts = case.facts
    refs = {RowRef(Table.TENANTS, tenant), RowRef(Table.ALIASES, tenant)}
    return tenant in facts.tenants or tenant in facts.aliases or not refs.isdisjoint(facts.tampered)


def derived(case: Case, what: str) -> UUID:
    """An id that a redelivery of the request makes again."""
    key = case.request.key
    return derived_id(case.request.time_ms, key.tenant, key.client, key.source, key.id, what)


def _new_key(case: Case, tenant: Tenant, parent: Key | None, region: str) -> Key:
    layer = 1 if parent is None else parent.layer + 1
    return Key(
        id=derived(case, "key"),
        tenant=tenant.id,
        parent=None if parent is None else parent.id,
        layer=layer,
        purpose=Purpose.WRAPS_DEKS if layer == tenant.layers else Purpose.WRAPS_KEYS,
        origin=Origin.GENERATED,
        region=region,
        enabled=True,
        active_version=1,
        latest_version=1,
        revision=1,
    )


def new_version(case: Case, key: Key, number: int, parent_version: int, material: UUID | None) -> Version:
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
