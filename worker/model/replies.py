"""The bodies of answers, as they stand on the wire: one result per item, in order, or one error for the whole request.

Who reads an answer ignores what it doesn't know, so that workers may be newer than clients.
"""

from typing import Literal
from uuid import UUID

from pydantic import Field, create_model

from worker.model.campaign_replies import CAMPAIGN_RESULTS, CampaignCommandResult, CampaignResult
from worker.model.codes import MEANINGS, Code
from worker.model.fields import Answer, Base64, Page
from worker.model.fleet import FleetKeyResult, FleetShowResult
from worker.model.imported import ImportParametersResult
from worker.model.linked import LinkListResult, LinkReport, LinkResult, MoveResult, UnlinkResult
from worker.model.operations import Operation
from worker.model.policies import POLICY_RESULTS, GrantResult, PolicyCommandResult, RuleResult
from worker.model.regional import RegionListResult, RegionResult
from worker.model.rows import Suite
from worker.model.triggering import TRIGGER_RESULTS, TriggerCommandResult, TriggerRuleResult
from worker.model.views import (
    ApprovalView,
    Blast,
    BlastLayer,
    BlastService,
    ClientView,
    Destruction,
    KeyView,
    Transition,
    VersionView,
)

__all__ = [
    "ERRORS",
    "REPLIES",
    "RESULTS",
    "ApprovalListResult",
    "ApprovalResult",
    "ApprovalView",
    "Blast",
    "BlastLayer",
    "BlastService",
    "ClientListResult",
    "ClientResult",
    "ClientView",
    "CommandResult",
    "DestroyResult",
    "Destruction",
    "DisableResult",
    "ErrorResult",
    "Hint",
    "KeyListResult",
    "KeyResult",
    "KeyView",
    "PendingResult",
    "Reply",
    "Result",
    "RewrapResult",
    "SealedReply",
    "TenantResult",
    "Transition",
    "UnwrapResult",
    "VersionView",
    "WrapResult",
]


class ErrorResult(Answer):
    """A refusal. `retry`: the identical request may succeed later. Readers take codes that came after them as text.

    `pending` is there with the code PENDING: what a second officer has to approve. `retry_after_ms`: sooner is in vain.
    """

    code: Code | str = Field(union_mode="left_to_right")
    message: str
    retry: bool
    pending: ApprovalView | None = None
    retry_after_ms: int | None = None


ERRORS: dict[Code, ErrorResult] = {
    code: ErrorResult(code=code, message=meaning.message, retry=meaning.retry) for code, meaning in MEANINGS.items()
}


class WrapResult(Answer):
    """A wrapped DEK. `id` names the stored one; `blob` is there if it was not stored or was asked for."""

    id: UUID | None = None
    key: UUID
    version: int
    blob: Base64 | None = None


class UnwrapResult(Answer):
    """The DEK itself stands in the sealed part, in the slot of this item.

    `blob` is the DEK wrapped anew, under `blob_version`; there when that was asked for and `version` is not current.
    """

    key: UUID
    version: int
    blob: Base64 | None = None
    blob_version: int | None = None


class RewrapResult(Answer):
    """`unchanged`: it was current already; then the blob is byte-identical and was not verified."""

    id: UUID | None = None
    key: UUID
    version: int
    blob: Base64 | None = None
    unchanged: bool = False


class TenantResult(Answer):
    """A tenant and its L1."""

    tenant: str
    layers: int
    key: KeyView


class KeyResult(Answer):
    """The key after the command."""

    key: KeyView


class KeyListResult(Page):
    """One page of keys; `more` says that there are others after the last."""

    keys: list[KeyView]
    more: bool


class DisableResult(Answer):
    """The key's switch and what hangs on it. After a dry run `press` is the command that does it."""

    key: KeyView
    blast: Blast
    press: str | None = None


class DestroyResult(Answer):
    """The key after a destruction was scheduled."""

    key: KeyView
    destruction: Destruction


class Hint(Answer):
    """Broadcast: the handles of these keys, and of all keys below them, must go. No fact, and never needed (D7)."""

    keys: list[UUID]


class PendingResult(ErrorResult):
    """What an officer is told whose command needs a second one: an error to readers that know no better."""

    code: Literal[Code.PENDING] = Code.PENDING
    message: str = MEANINGS[Code.PENDING].message
    retry: bool = False
    pending: ApprovalView


class ClientResult(Answer):
    """The client after the command."""

    client: ClientView


class ClientListResult(Page):
    """One page of clients."""

    clients: list[ClientView]
    more: bool


class ApprovalListResult(Page):
    """One page of approvals."""

    approvals: list[ApprovalView]
    more: bool


Approved = (
    DisableResult
    | DestroyResult
    | KeyResult
    | ClientResult
    | UnlinkResult
    | MoveResult
    | LinkResult
    | RuleResult
    | GrantResult
    | FleetKeyResult
    | RegionResult
    | TriggerRuleResult
    | CampaignResult
)
"""What commands answer that may need a second officer."""


class ApprovalResult(Answer):
    """The approval after the command; once it is approved, with what the approved command answers."""

    approval: ApprovalView
    result: Approved | None = None


CommandResult = (
    TenantResult
    | KeyResult
    | KeyListResult
    | ClientResult
    | ClientListResult
    | DisableResult
    | DestroyResult
    | PendingResult
    | ApprovalResult
    | ApprovalListResult
    | FleetKeyResult
    | FleetShowResult
    | ImportParametersResult
    | RegionResult
    | RegionListResult
    | PolicyCommandResult
    | TriggerCommandResult
    | CampaignCommandResult
    | LinkReport
    | LinkListResult
    | UnlinkResult
    | MoveResult
    | LinkResult
)
Result = ErrorResult | WrapResult | UnwrapResult | RewrapResult | CommandResult


class SealedReply(Answer):
    """DEKs in item order, sealed to the recipient key (HPKE `enc`, ciphertext); a failed item leaves an empty slot."""

    suite: Suite
    ciphertext: Base64


class Reply(Answer):
    """The answer to one request: `results`, or `error` when the request was refused as a whole."""

    results: list[Result] = Field(default=[])
    sealed: SealedReply | None = None
    error: ErrorResult | None = None


RESULTS: dict[Operation, type[Answer]] = {
    Operation.WRAP: WrapResult,
    Operation.UNWRAP: UnwrapResult,
    Operation.REWRAP: RewrapResult,
    Operation.TENANT_CREATE: TenantResult,
    Operation.KEY_CREATE: KeyResult,
    Operation.KEY_ROTATE: KeyResult,
    Operation.KEY_SHOW: KeyResult,
    Operation.KEY_LIST: KeyListResult,
    Operation.KEY_ACTIVATE: KeyResult,
    Operation.KEY_SUSPEND: KeyResult,
    Operation.KEY_RESUME: KeyResult,
    Operation.KEY_DEACTIVATE: KeyResult,
    Operation.KEY_COMPROMISE: KeyResult,
    Operation.KEY_DISABLE: DisableResult,
    Operation.KEY_ENABLE: KeyResult,
    Operation.KEY_DESTROY: DestroyResult,
    Operation.KEY_CANCEL_DESTROY: KeyResult,
    Operation.KEY_IMPORT_PARAMETERS: ImportParametersResult,
    Operation.KEY_IMPORT: KeyResult,
    Operation.LINK_CREATE: LinkResult,
    Operation.LINK_SHOW: LinkReport,
    Operation.LINK_LIST: LinkListResult,
    Operation.LINK_CUT: LinkResult,
    Operation.LINK_RESTORE: LinkResult,
    Operation.LINK_UNLINK: UnlinkResult,
    Operation.LINK_DECLARE: LinkResult,
    Operation.TENANT_MOVE: MoveResult,
    Operation.REGION_SET: RegionResult,
    Operation.REGION_LIST: RegionListResult,
    Operation.APPROVAL_APPROVE: ApprovalResult,
    Operation.APPROVAL_REJECT: ApprovalResult,
    Operation.APPROVAL_LIST: ApprovalListResult,
    Operation.CLIENT_ADD: ClientResult,
    Operation.CLIENT_ROTATE: ClientResult,
    Operation.CLIENT_REVOKE: ClientResult,
    Operation.CLIENT_LIST: ClientListResult,
    Operation.FLEET_ROTATE: FleetKeyResult,
    Operation.FLEET_RETIRE: FleetKeyResult,
    Operation.FLEET_SHOW: FleetShowResult,
    **POLICY_RESULTS,
    **TRIGGER_RESULTS,
    **CAMPAIGN_RESULTS,
}
"""What an item of each operation's answer is, if it is no `ErrorResult`."""


def _reply_of(operation: Operation) -> type[Reply]:
    item: object = RESULTS[operation] | ErrorResult
    name = "".join(word.capitalize() for word in operation.split(".")) + "Reply"
    return create_model(name, __base__=Reply, __doc__=Reply.__doc__, results=(list[item], Field(default=[])))  # type: ignore[valid-type]


REPLIES: dict[Operation, type[Reply]] = {operation: _reply_of(operation) for operation in Operation}
"""What a reader parses each operation's answer with: the results of two operations may look alike."""
