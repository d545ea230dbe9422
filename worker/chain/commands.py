"""The officers' commands: tenants, keys and clients. Each has one item and one result."""

from worker.chain import (
    approvals,
    campaign_commands,
    clients,
    fleet,
    importing,
    keys,
    links,
    moving,
    quotas,
    regions,
    rotation,
    rules,
    switch,
    trigger_commands,
    versions,
)
from worker.chain.outcomes import recall
from worker.chain.plan import Case, Decision, Plan
from worker.chain.work import Commanding, Step
from worker.model.bodies import (
    AnyBody,
    ClientAddBody,
    ClientListBody,
    ClientRevokeBody,
    ClientRotateBody,
    KeyCreateBody,
    KeyListBody,
    KeyRotateBody,
    KeyShowBody,
    TenantCreateBody,
)
from worker.model.campaign_bodies import AnyCampaignBody
from worker.model.codes import Code
from worker.model.control import (
    ApprovalApproveBody,
    ApprovalListBody,
    ApprovalRejectBody,
    KeyActivateBody,
    KeyCancelDestroyBody,
    KeyDestroyBody,
    KeyDisableBody,
    KeyEnableBody,
    VersionBody,
)
from worker.model.effects import Seen
from worker.model.fleet import FleetRotateBody, FleetShowBody
from worker.model.importing import KeyImportBody, KeyImportParametersBody
from worker.model.linking import LinkBody, LinkCreateBody, LinkListBody, TenantMoveBody
from worker.model.outcomes import Commanded, Failed
from worker.model.policies import (
    GrantGiveBody,
    GrantListBody,
    GrantRevokeBody,
    PolicyAllowBody,
    PolicyCheckBody,
    PolicyListBody,
    PolicyRevokeBody,
    TenantQuotaBody,
    TenantQuotasBody,
)
from worker.model.regional import RegionListBody, RegionSetBody
from worker.model.triggering import AnyTriggerBody


def plan(case: Case) -> Decision:
    """Plan a command; one that was answered before is answered with what the ledger kept."""
    (kept,) = recall(case.opened, 1, Commanded)
    decided = _decided(case, case.request.body) if kept is None else kept
    step: Step = Failed(decided) if isinstance(decided, Code) else decided
    return Plan(case.request, (step,), _seen(case, step), case.opened)


def _decided(case: Case, body: AnyBody) -> Step | Code:
    """The command itself, or, where one officer is not enough, the row that waits for a second one (S14)."""
    step = _step(case, body)
    if isinstance(step, Commanding) and approvals.needs_second(body, step):
        return approvals.asked(case, body, step)
    return step


def _step(case: Case, body: AnyBody) -> Step | Code:  # noqa: C901, PLR0911, PLR0912 - one table of all commands
    match body:
        case TenantCreateBody():
            return keys.create_tenant(case, body)
        case KeyCreateBody():
            return keys.create(case, body)
        case KeyRotateBody():
            return rotation.rotate(case, body)
        case KeyShowBody():
            return keys.show(case, body)
        case KeyActivateBody():
            return versions.activate(case, body)
        case KeyDestroyBody():
            return versions.destroy(case, body)
        case KeyCancelDestroyBody():
            return versions.cancel_destroy(case, body)
        case VersionBody():
            return versions.change(case, body)
        case KeyImportParametersBody():
            return importing.offer(case, body)
        case KeyImportBody():
            return importing.accept(case, body)
        case KeyDisableBody():
            return switch.disable(case, body)
        case KeyEnableBody():
            return switch.enable(case, body)
        case LinkCreateBody():
            return links.create(case, body)
        case LinkListBody():
            return links.list_page(case, body)
        case LinkBody():
            return links.change(case, body)
        case TenantMoveBody():
            return moving.move(case, body)
        case RegionSetBody():
            return regions.set_region(case, body)
        case RegionListBody():
            return regions.list_page(case, body)
        case ApprovalApproveBody():
            return approvals.approve(case, body, _step)
        case ApprovalRejectBody():
            return approvals.reject(case, body)
        case ApprovalListBody():
            return approvals.list_page(case, body)
        case KeyListBody():
            return keys.list_page(case, body)
        case ClientAddBody():
            return clients.add(case, body)
        case ClientRotateBody():
            return clients.rotate(case, body)
        case ClientRevokeBody():
            return clients.revoke(case, body)
        case ClientListBody():
            return clients.list_page(case, body)
        case FleetRotateBody():
            return fleet.rotate(case, body)
        case FleetShowBody():
            return fleet.show(case, body)
        case PolicyAllowBody():
            return rules.allow(case, body)
        case GrantGiveBody():
            return rules.give(case, body)
        case PolicyRevokeBody() | GrantRevokeBody():
            return rules.revoke(case, body)
        case PolicyListBody() | GrantListBody():
            return rules.list_page(case, body)
        case PolicyCheckBody():
            return rules.check(case, body)
        case TenantQuotaBody():
            return quotas.set_quota(case, body)
        case TenantQuotasBody():
            return quotas.list_page(case, body)
        case _ if isinstance(body, AnyTriggerBody):
            return trigger_commands.command(case, body)
        case _ if isinstance(body, AnyCampaignBody):
            return campaign_commands.command(case, body)
        case _:
            return Code.MALFORMED


def _seen(case: Case, step: Step) -> tuple[Seen, ...]:
    """A command rests on the rows that it changes, on its tenant and on its parent's whole chain."""
    if not isinstance(step, Commanding):
        return ()
    facts = case.facts
    tenant = facts.tenants.get(getattr(case.request.body, "tenant", ""))
    rests = [Seen(tenant.ref, tenant.revision)] if tenant is not None else []
    return (*rests, *step.rests)
