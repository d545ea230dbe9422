"""The officers' commands: tenants, keys and clients. Each has one item and one result."""

from collections.abc import Callable
from typing import Any, get_args

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
from worker.model.fleet import FleetRetireBody, FleetRotateBody, FleetShowBody
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


def _step(case: Case, body: AnyBody) -> Step | Code:
    """The nearest kind of body that the table knows decides."""
    command = next((_COMMANDS[kind] for kind in type(body).__mro__ if kind in _COMMANDS), None)
    return Code.MALFORMED if command is None else command(case, body)


_COMMANDS: dict[type, Callable[[Case, Any], Step | Code]] = {
    TenantCreateBody: keys.create_tenant,
    KeyCreateBody: keys.create,
    KeyRotateBody: rotation.rotate,
    KeyShowBody: keys.show,
    KeyActivateBody: versions.activate,
    KeyDestroyBody: versions.destroy,
    KeyCancelDestroyBody: versions.cancel_destroy,
    VersionBody: versions.change,
    KeyImportParametersBody: importing.offer,
    KeyImportBody: importing.accept,
    KeyDisableBody: switch.disable,
    KeyEnableBody: switch.enable,
    LinkCreateBody: links.create,
    LinkListBody: links.list_page,
    LinkBody: links.change,
    TenantMoveBody: moving.move,
    RegionSetBody: regions.set_region,
    RegionListBody: regions.list_page,
    ApprovalApproveBody: lambda case, body: approvals.approve(case, body, _step),
    ApprovalRejectBody: approvals.reject,
    ApprovalListBody: approvals.list_page,
    KeyListBody: keys.list_page,
    ClientAddBody: clients.add,
    ClientRotateBody: clients.rotate,
    ClientRevokeBody: clients.revoke,
    ClientListBody: clients.list_page,
    FleetRotateBody: fleet.rotate,
    FleetRetireBody: fleet.retire,
    FleetShowBody: fleet.show,
    PolicyAllowBody: rules.allow,
    GrantGiveBody: rules.give,
    PolicyRevokeBody: rules.revoke,
    GrantRevokeBody: rules.revoke,
    PolicyListBody: rules.list_page,
    GrantListBody: rules.list_page,
    PolicyCheckBody: rules.check,
    TenantQuotaBody: quotas.set_quota,
    TenantQuotasBody: quotas.list_page,
    **dict.fromkeys(get_args(AnyTriggerBody), trigger_commands.command),
    **dict.fromkeys(get_args(AnyCampaignBody), campaign_commands.command),
}
"""Every command. A kind of body stands for all its subclasses that have no line of their own."""


def _seen(case: Case, step: Step) -> tuple[Seen, ...]:
    """A command rests on the rows that it changes, on its tenant and on its parent's whole chain."""
    if not isinstance(step, Commanding):
        return ()
    facts = case.facts
    tenant = facts.tenants.get(getattr(case.request.body, "tenant", ""))
    rests = [Seen(tenant.ref, tenant.revision)] if tenant is not None else []
    return (*rests, *step.rests)
