"""Bodies of answers, read by the operation that was asked: `{key, version}` alone does not say which result it is.

Pure. A client lives longer than one release of the fleet: error codes are text here, and fields of data results that
it does not know are ignored.
"""

from typing import Generic, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from worker.model.campaign_replies import (
    CampaignExposedResult,
    CampaignFailuresResult,
    CampaignListResult,
    CampaignPlanResult,
    CampaignResult,
)
from worker.model.fields import Body
from worker.model.fleet import FleetKeyResult, FleetShowResult
from worker.model.imported import ImportParametersResult
from worker.model.linked import LinkListResult, LinkReport, LinkResult, MoveResult, UnlinkResult
from worker.model.operations import DATA_OPERATIONS, Operation
from worker.model.policies import (
    CheckResult,
    GrantListResult,
    GrantResult,
    QuotaListResult,
    QuotaResult,
    RuleListResult,
    RuleResult,
)
from worker.model.regional import RegionListResult, RegionResult
from worker.model.replies import (
    ApprovalListResult,
    ApprovalResult,
    ApprovalView,
    ClientListResult,
    ClientResult,
    CommandResult,
    DestroyResult,
    DisableResult,
    KeyListResult,
    KeyResult,
    RewrapResult,
    SealedReply,
    TenantResult,
    UnwrapResult,
    WrapResult,
)
from worker.model.triggering import TriggerCheckResult, TriggerListResult, TriggerResult, TriggerRuleResult

_R = TypeVar("_R")


class Refusal(Body):
    """An error as the wire has it."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    code: str
    message: str
    retry: bool
    pending: ApprovalView | None = None
    retry_after_ms: int | None = None


class Wrap(WrapResult):
    """A result of `wrap`."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Unwrap(UnwrapResult):
    """A result of `unwrap`."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Rewrap(RewrapResult):
    """A result of `rewrap`."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _Answer(Body, Generic[_R]):
    results: list[_R | Refusal] = Field(default=[])
    sealed: SealedReply | None = None
    error: Refusal | None = None


Result = Wrap | Unwrap | Rewrap | CommandResult | Refusal
Answer = (
    _Answer[Wrap]
    | _Answer[Unwrap]
    | _Answer[Rewrap]
    | _Answer[TenantResult]
    | _Answer[KeyResult]
    | _Answer[KeyListResult]
    | _Answer[ClientResult]
    | _Answer[ClientListResult]
    | _Answer[DisableResult]
    | _Answer[DestroyResult]
    | _Answer[ImportParametersResult]
    | _Answer[ApprovalResult]
    | _Answer[ApprovalListResult]
    | _Answer[RegionResult]
    | _Answer[RegionListResult]
    | _Answer[CampaignPlanResult]
    | _Answer[CampaignResult]
    | _Answer[CampaignListResult]
    | _Answer[CampaignFailuresResult]
    | _Answer[CampaignExposedResult]
    | _Answer[LinkResult]
    | _Answer[LinkReport]
    | _Answer[LinkListResult]
    | _Answer[UnlinkResult]
    | _Answer[MoveResult]
    | _Answer[RuleResult]
    | _Answer[RuleListResult]
    | _Answer[CheckResult]
    | _Answer[GrantResult]
    | _Answer[GrantListResult]
    | _Answer[QuotaResult]
    | _Answer[QuotaListResult]
    | _Answer[TriggerResult]
    | _Answer[TriggerRuleResult]
    | _Answer[TriggerListResult]
    | _Answer[TriggerCheckResult]
    | _Answer[FleetKeyResult]
    | _Answer[FleetShowResult]
)

_ANSWERS: dict[Operation, type[Answer]] = {
    Operation.WRAP: _Answer[Wrap],
    Operation.UNWRAP: _Answer[Unwrap],
    Operation.REWRAP: _Answer[Rewrap],
    Operation.TENANT_CREATE: _Answer[TenantResult],
    Operation.KEY_CREATE: _Answer[KeyResult],
    Operation.KEY_ROTATE: _Answer[KeyResult],
    Operation.KEY_SHOW: _Answer[KeyResult],
    Operation.KEY_LIST: _Answer[KeyListResult],
    Operation.KEY_ACTIVATE: _Answer[KeyResult],
    Operation.KEY_SUSPEND: _Answer[KeyResult],
    Operation.KEY_RESUME: _Answer[KeyResult],
    Operation.KEY_DEACTIVATE: _Answer[KeyResult],
    Operation.KEY_COMPROMISE: _Answer[KeyResult],
    Operation.KEY_DISABLE: _Answer[DisableResult],
    Operation.KEY_ENABLE: _Answer[KeyResult],
    Operation.KEY_DESTROY: _Answer[DestroyResult],
    Operation.KEY_CANCEL_DESTROY: _Answer[KeyResult],
    Operation.KEY_IMPORT_PARAMETERS: _Answer[ImportParametersResult],
    Operation.KEY_IMPORT: _Answer[KeyResult],
    Operation.LINK_CREATE: _Answer[LinkResult],
    Operation.LINK_SHOW: _Answer[LinkReport],
    Operation.LINK_LIST: _Answer[LinkListResult],
    Operation.LINK_CUT: _Answer[LinkResult],
    Operation.LINK_RESTORE: _Answer[LinkResult],
    Operation.LINK_UNLINK: _Answer[UnlinkResult],
    Operation.LINK_DECLARE: _Answer[LinkResult],
    Operation.TENANT_MOVE: _Answer[MoveResult],
    Operation.REGION_SET: _Answer[RegionResult],
    Operation.REGION_LIST: _Answer[RegionListResult],
    Operation.FLEET_ROTATE: _Answer[FleetKeyResult],
    Operation.FLEET_RETIRE: _Answer[FleetKeyResult],
    Operation.FLEET_SHOW: _Answer[FleetShowResult],
    Operation.APPROVAL_APPROVE: _Answer[ApprovalResult],
    Operation.APPROVAL_REJECT: _Answer[ApprovalResult],
    Operation.APPROVAL_LIST: _Answer[ApprovalListResult],
    Operation.CLIENT_ADD: _Answer[ClientResult],
    Operation.CLIENT_ROTATE: _Answer[ClientResult],
    Operation.CLIENT_REVOKE: _Answer[ClientResult],
    Operation.CLIENT_LIST: _Answer[ClientListResult],
    Operation.POLICY_ALLOW: _Answer[RuleResult],
    Operation.POLICY_REVOKE: _Answer[RuleResult],
    Operation.POLICY_LIST: _Answer[RuleListResult],
    Operation.POLICY_CHECK: _Answer[CheckResult],
    Operation.GRANT_GIVE: _Answer[GrantResult],
    Operation.GRANT_REVOKE: _Answer[GrantResult],
    Operation.GRANT_LIST: _Answer[GrantListResult],
    Operation.TENANT_QUOTA: _Answer[QuotaResult],
    Operation.TENANT_QUOTAS: _Answer[QuotaListResult],
    Operation.TRIGGER: _Answer[TriggerResult],
    Operation.TRIGGER_ADD: _Answer[TriggerRuleResult],
    Operation.TRIGGER_REMOVE: _Answer[TriggerRuleResult],
    Operation.TRIGGER_LIST: _Answer[TriggerListResult],
    Operation.TRIGGER_CHECK: _Answer[TriggerCheckResult],
    Operation.CAMPAIGN_PLAN: _Answer[CampaignPlanResult],
    Operation.CAMPAIGN_START: _Answer[CampaignResult],
    Operation.CAMPAIGN_SHOW: _Answer[CampaignResult],
    Operation.CAMPAIGN_LIST: _Answer[CampaignListResult],
    Operation.CAMPAIGN_PAUSE: _Answer[CampaignResult],
    Operation.CAMPAIGN_RESUME: _Answer[CampaignResult],
    Operation.CAMPAIGN_CANCEL: _Answer[CampaignResult],
    Operation.CAMPAIGN_THROTTLE: _Answer[CampaignResult],
    Operation.CAMPAIGN_REPLAY: _Answer[CampaignResult],
    Operation.CAMPAIGN_FAILURES: _Answer[CampaignFailuresResult],
    Operation.CAMPAIGN_EXPOSED: _Answer[CampaignExposedResult],
}


def parse(operation: Operation, value: bytes, items: int) -> Answer:
    """The answer to a request of so many items. Raises `ValueError` if it is not one: one result each, or one error."""
    try:
        answer = _ANSWERS[operation].model_validate_json(value)
    except ValidationError:
        raise ValueError("the body is not an answer to this operation") from None
    wanted = 0 if answer.error is not None else items if operation in DATA_OPERATIONS else 1
    if len(answer.results) != wanted:
        raise ValueError("the number of results is not the number of items")
    return answer
