"""Quotas (D10): what a request costs, which bounds hold it back, and the command that sets them."""

from worker.chain.listed import next_after, unbelieved
from worker.chain.plan import Case
from worker.chain.told import teller
from worker.chain.work import Commanding, Step
from worker.model.bodies import RewrapBody, UnwrapBody, WrapBody
from worker.model.codes import Code
from worker.model.effects import Seen
from worker.model.facts import Facts, RowPage
from worker.model.operations import SERVICE_OPERATIONS, Operation
from worker.model.outcomes import Commanded
from worker.model.policies import (
    PolicyChange,
    QuotaListResult,
    QuotaResult,
    QuotaView,
    TenantQuotaBody,
    TenantQuotasBody,
)
from worker.model.quotas import Quota, quota_ref
from worker.model.requests import Request
from worker.model.rows import FLEET_TENANT, Table
from worker.model.triggering import TriggerBody

REPORTS_S, REPORTS_AT_ONCE = 20, 400
"""How many events a client may report in a second, and at once after a rest, whatever else was agreed (S18)."""


def cost(request: Request) -> int:
    """What a request on DEKs costs: its items, each as often as it takes the token. Commands cost nothing.

    A rewrap decrypts and encrypts, and so does an unwrap that asks for the blob under the current version. A report of
    an event costs one.
    """
    match request.body:
        case TriggerBody():
            return 1
        case WrapBody(items=items) | UnwrapBody(items=items, rewrap=False):
            return len(items)
        case UnwrapBody(items=items) | RewrapBody(items=items):
            return 2 * len(items)
        case _:
            return 0


def quota_ids(tenant: str, client: str) -> tuple[str, str]:
    """The quotas that a client's requests count for: its tenant's, and its own."""
    return tenant, f"{tenant}/{client}"


def asked_of(request: Request) -> tuple[str, ...]:
    """The quotas that a request counts for. Officers' commands need none (D6)."""
    return quota_ids(request.key.tenant, request.key.client) if request.operation in SERVICE_OPERATIONS else ()


def of_reports(request: Request) -> tuple[Quota, ...]:
    """The bound on a client's reports that nobody has to set: it has no row. No client's name has a blank in it."""
    if request.operation is not Operation.TRIGGER:
        return ()
    key = request.key
    id_ = f"{key.tenant}/{key.client} reports"
    return (Quota(id_, key.tenant, key.client, REPORTS_S, REPORTS_AT_ONCE, "", "", 0),)


def met_by(request: Request) -> tuple[str, ...]:
    """The ids of all quotas that may bound a request, those without a row too."""
    return (*asked_of(request), *(quota.id for quota in of_reports(request)))


def bounds(request: Request, facts: Facts) -> tuple[Quota, ...]:
    """The quotas that bound this request."""
    fixed = of_reports(request)
    if not facts.rows:
        return fixed
    rows = [facts.rows.get(quota_ref(id_)) for id_ in asked_of(request)]
    return (*(row for row in rows if isinstance(row, Quota) and row.per_second > 0), *fixed)


def is_tampered(request: Request, facts: Facts) -> bool:
    """Whether somebody changed a quota that would bound it: then nothing is given out of it."""
    return bool(facts.tampered) and any(quota_ref(id_) in facts.tampered for id_ in asked_of(request))


def set_quota(case: Case, body: TenantQuotaBody) -> Step | Code:
    """Put a bound, another one, or none. One officer's: it may be the brake."""
    if body.tenant == FLEET_TENANT or body.tenant not in case.facts.tenants:
        return Code.NOT_FOUND
    if body.client is not None:
        client = case.facts.clients.get(body.client)
        if client is None or client.tenant != body.tenant:
            return Code.NOT_FOUND
    ref = quota_ref(quota_id(body))
    before = case.facts.rows.get(ref)
    if before is None and ref in case.facts.tampered:
        return Code.INTEGRITY
    rate = body.per_second or 0
    quota = Quota(
        id=ref.key,
        tenant=body.tenant,
        client=body.client or "",
        per_second=rate,
        burst=(body.burst or rate) if rate else 0,
        why=body.why,
        set_by=case.client.id,
        revision=1 if before is None else before.revision + 1,
    )
    rests = () if before is None else (Seen(ref, before.revision),)
    return _put(case, quota, rests, body.why)


def quota_id(body: TenantQuotaBody) -> str:
    """The id of the quota that a command is about."""
    return body.tenant if body.client is None else quota_ids(body.tenant, body.client)[1]


def list_page(case: Case, body: TenantQuotasBody) -> Step | Code:
    """One page of a tenant's quotas."""
    if body.tenant not in case.facts.tenants:
        return Code.NOT_FOUND
    found = case.facts.pages.get(quota_paging(body), ())
    shown, more = found[: body.limit], len(found) > body.limit
    rows = [case.facts.rows.get(ref) for ref in shown]
    views = [quota_view(row) for row in rows if isinstance(row, Quota)]
    return Commanded(
        QuotaListResult(
            quotas=views, more=more, tampered=unbelieved(case.facts, shown), next_after=next_after(shown, more=more)
        )
    )


def quota_paging(body: TenantQuotasBody) -> RowPage:
    """The page that this body asks for."""
    return RowPage(Table.QUOTAS, body.tenant, body.after, body.limit + 1)


def quota_view(quota: Quota) -> QuotaView:
    """One quota as people see it."""
    return QuotaView(
        tenant=quota.tenant,
        client=quota.client or None,
        per_second=quota.per_second or None,
        burst=quota.burst or None,
        why=quota.why,
        set_by=quota.set_by,
    )


def _put(case: Case, quota: Quota, rests: tuple[Seen, ...], why: str) -> Commanding:
    by, view = teller(case), quota_view(quota)
    change = PolicyChange(
        tenant=quota.tenant,
        quota=view,
        who=by.who,
        approved_by=by.approved_by,
        why=why,
        request=by.request,
        correlation=by.correlation,
        revision=quota.revision,
    )
    return Commanding(
        op=None,
        version=None,
        rows=(quota,),
        changes=tuple(seen.ref for seen in rests),
        rests=rests,
        result=QuotaResult(quota=view),
        event="keyriver.quota.set.v1",
        told=change,
    )
