"""The bodies of requests, as they stand on the wire. The JSON Schemas in `schemas/` are generated from these.

Bytes are standard base64 (RFC 4648, section 4). Unknown fields are refused. Limits that are settings are not here
but in `flow.opening`; the bounds here are the format's own.
"""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from worker.model.campaign_bodies import (
    AnyCampaignBody,
    CampaignCancelBody,
    CampaignExposedBody,
    CampaignFailuresBody,
    CampaignListBody,
    CampaignPauseBody,
    CampaignPlanBody,
    CampaignReplayBody,
    CampaignResumeBody,
    CampaignShowBody,
    CampaignStartBody,
    CampaignThrottleBody,
)
from worker.model.control import (
    ApprovalApproveBody,
    ApprovalListBody,
    ApprovalRejectBody,
    KeyActivateBody,
    KeyCancelDestroyBody,
    KeyCompromiseBody,
    KeyDeactivateBody,
    KeyDestroyBody,
    KeyDisableBody,
    KeyEnableBody,
    KeyResumeBody,
    KeySuspendBody,
)
from worker.model.fields import (
    MAX_INT,
    AliasName,
    AliasPattern,
    Base64,
    Body,
    ClientName,
    Context,
    Reason,
    TenantName,
    TopicName,
    Why,
)
from worker.model.fleet import FleetRetireBody, FleetRotateBody, FleetShowBody
from worker.model.importing import KeyImportBody, KeyImportParametersBody
from worker.model.linking import (
    LinkCreateBody,
    LinkCutBody,
    LinkDeclareBody,
    LinkListBody,
    LinkRestoreBody,
    LinkShowBody,
    LinkUnlinkBody,
    TenantMoveBody,
)
from worker.model.operations import Operation, Permission
from worker.model.policies import POLICY_BODIES, AnyPolicyBody
from worker.model.regional import RegionListBody, RegionSetBody
from worker.model.rows import Algorithm, Origin, Suite
from worker.model.triggering import TRIGGER_BODIES, AnyTriggerBody


class SealedDeks(Body):
    """The caller's own DEKs, sealed to the intake key of this sequence: HPKE `enc` then ciphertext (S4)."""

    sequence: int = Field(ge=1, le=MAX_INT)
    ciphertext: Base64


class WrapItem(Body):
    """One DEK to make or to wrap. `bits` counts only for DEKs that the token generates."""

    bits: Literal[128, 192, 256] = 256
    context: Context = Field(default_factory=dict, json_schema_extra={"default": {}})


class WrapBody(Body):
    """Make DEKs (`sealed` absent) or wrap the caller's, all under one key."""

    key: AliasName
    items: list[WrapItem] = Field(min_length=1)
    sealed: SealedDeks | None = None
    store: bool = True
    return_blob: bool = False
    return_dek: bool = False


def _one_of(*names: str) -> ConfigDict:
    """Says in the JSON Schema, too, that exactly one of these texts is there."""
    return ConfigDict(
        json_schema_extra={"oneOf": [{"required": [name], "properties": {name: {"type": "string"}}} for name in names]}
    )


class DekItem(Body):
    """A wrapped DEK: by the id of a stored one, or by its blob. Exactly one of the two."""

    model_config = _one_of("id", "blob")

    id: UUID | None = None
    blob: Base64 | None = None
    context: Context = Field(default_factory=dict, json_schema_extra={"default": {}})

    @model_validator(mode="after")
    def _one(self) -> "DekItem":
        if (self.id is None) == (self.blob is None):
            raise ValueError("exactly one of id and blob")
        return self


class UnwrapBody(Body):
    """Unwrap DEKs; they come back sealed to the recipient key.

    `rewrap`: a blob under an old version of its key comes back wrapped under the current one, too, in the place of the
    old one. Stored DEKs are left where they are: the fleet moves them itself.
    """

    items: list[DekItem] = Field(min_length=1)
    rewrap: bool = False


class RewrapItem(Body):
    """A wrapped DEK to move to another version or key: by id (stored) or by blob. Its context goes with it, unseen."""

    model_config = _one_of("id", "blob")

    id: UUID | None = None
    blob: Base64 | None = None

    @model_validator(mode="after")
    def _one(self) -> "RewrapItem":
        if (self.id is None) == (self.blob is None):
            raise ValueError("exactly one of id and blob")
        return self


class RewrapBody(Body):
    """Rewrap to the current version of each blob's own key, or to that of the key `to`."""

    items: list[RewrapItem] = Field(min_length=1)
    to: AliasName | None = None
    return_blob: bool = False


class TenantCreateBody(Body):
    """Create a tenant and its L1 (alias: the tenant's name).

    `origin` imported: the L1 does nothing before the customer's key is imported (`key.import-parameters`).
    """

    tenant: TenantName
    layers: int = Field(default=3, ge=2, le=8)
    minimum_suite: Suite = Suite.P256
    origin: Literal[Origin.GENERATED, Origin.IMPORTED] = Origin.GENERATED


class KeyCreateBody(Body):
    """Create a key below `parent`; whether it wraps keys or DEKs follows from its layer and the tenant's depth.

    `pre_active`: its version does nothing until it is activated.
    """

    tenant: TenantName
    parent: AliasName
    alias: AliasName
    region: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{0,32}$")] = ""
    pre_active: bool = False


class KeyRotateBody(Body):
    """Make a new active version; the one before is deactivated (it still unwraps), or compromised.

    `pre_active`: the new one does nothing until it is activated, and the one before stays as it is.
    """

    tenant: TenantName
    key: AliasName
    reason: Reason = Reason.OPERATOR
    why: Why = ""
    pre_active: bool = False


class KeyShowBody(Body):
    """One key with its versions."""

    tenant: TenantName
    key: AliasName


class KeyListBody(Body):
    """A tenant's keys in the order of their ids, `limit` at a time, after the one named `after`."""

    tenant: TenantName
    after: UUID | None = None
    limit: int = Field(default=500, ge=1, le=1000)


class ClientAddBody(Body):
    """Register a service of a tenant. Without permissions of its own it may what rules allow."""

    tenant: TenantName
    client: ClientName
    algorithm: Algorithm = Algorithm.ED25519
    public_key: Base64
    permissions: list[Permission] = Field(max_length=len(Permission))
    pattern: AliasPattern = "*"
    reply_topics: list[TopicName] = Field(min_length=1, max_length=16)
    recipient_suite: Suite | None = None
    recipient_key: Base64 = b""
    not_after_ms: int = Field(gt=0, le=MAX_INT)


class ClientRotateBody(Body):
    """Give a client a new signing key; the old one is refused from then on."""

    tenant: TenantName
    client: ClientName
    algorithm: Algorithm = Algorithm.ED25519
    public_key: Base64


class ClientRevokeBody(Body):
    """Refuse everything that this client signs from now on. One officer's, for stopping must be quick (S14)."""

    tenant: TenantName
    client: ClientName


class ClientListBody(Body):
    """A tenant's clients, `limit` at a time."""

    tenant: TenantName
    after: str = ""
    limit: int = Field(default=500, ge=1, le=1000)


DataBody = WrapBody | UnwrapBody | RewrapBody
CommandBody = (
    TenantCreateBody
    | KeyCreateBody
    | KeyRotateBody
    | KeyShowBody
    | KeyListBody
    | KeyActivateBody
    | KeySuspendBody
    | KeyResumeBody
    | KeyDeactivateBody
    | KeyCompromiseBody
    | KeyDisableBody
    | KeyEnableBody
    | KeyDestroyBody
    | KeyCancelDestroyBody
    | KeyImportParametersBody
    | KeyImportBody
    | LinkCreateBody
    | LinkShowBody
    | LinkListBody
    | LinkCutBody
    | LinkRestoreBody
    | LinkUnlinkBody
    | LinkDeclareBody
    | TenantMoveBody
    | RegionSetBody
    | RegionListBody
    | ApprovalApproveBody
    | ApprovalRejectBody
    | ApprovalListBody
    | ClientAddBody
    | ClientRotateBody
    | ClientRevokeBody
    | ClientListBody
    | FleetRotateBody
    | FleetRetireBody
    | FleetShowBody
    | AnyPolicyBody
    | AnyTriggerBody
    | AnyCampaignBody
)
AnyBody = DataBody | CommandBody

BODIES: dict[Operation, type[AnyBody]] = {
    Operation.WRAP: WrapBody,
    Operation.UNWRAP: UnwrapBody,
    Operation.REWRAP: RewrapBody,
    Operation.TENANT_CREATE: TenantCreateBody,
    Operation.KEY_CREATE: KeyCreateBody,
    Operation.KEY_ROTATE: KeyRotateBody,
    Operation.KEY_SHOW: KeyShowBody,
    Operation.KEY_LIST: KeyListBody,
    Operation.KEY_ACTIVATE: KeyActivateBody,
    Operation.KEY_SUSPEND: KeySuspendBody,
    Operation.KEY_RESUME: KeyResumeBody,
    Operation.KEY_DEACTIVATE: KeyDeactivateBody,
    Operation.KEY_COMPROMISE: KeyCompromiseBody,
    Operation.KEY_DISABLE: KeyDisableBody,
    Operation.KEY_ENABLE: KeyEnableBody,
    Operation.KEY_DESTROY: KeyDestroyBody,
    Operation.KEY_CANCEL_DESTROY: KeyCancelDestroyBody,
    Operation.KEY_IMPORT_PARAMETERS: KeyImportParametersBody,
    Operation.KEY_IMPORT: KeyImportBody,
    Operation.LINK_CREATE: LinkCreateBody,
    Operation.LINK_SHOW: LinkShowBody,
    Operation.LINK_LIST: LinkListBody,
    Operation.LINK_CUT: LinkCutBody,
    Operation.LINK_RESTORE: LinkRestoreBody,
    Operation.LINK_UNLINK: LinkUnlinkBody,
    Operation.LINK_DECLARE: LinkDeclareBody,
    Operation.TENANT_MOVE: TenantMoveBody,
    Operation.REGION_SET: RegionSetBody,
    Operation.REGION_LIST: RegionListBody,
    Operation.APPROVAL_APPROVE: ApprovalApproveBody,
    Operation.APPROVAL_REJECT: ApprovalRejectBody,
    Operation.APPROVAL_LIST: ApprovalListBody,
    Operation.CLIENT_ADD: ClientAddBody,
    Operation.CLIENT_ROTATE: ClientRotateBody,
    Operation.CLIENT_REVOKE: ClientRevokeBody,
    Operation.CLIENT_LIST: ClientListBody,
    Operation.FLEET_ROTATE: FleetRotateBody,
    Operation.FLEET_RETIRE: FleetRetireBody,
    Operation.FLEET_SHOW: FleetShowBody,
    **POLICY_BODIES,
    **TRIGGER_BODIES,
    Operation.CAMPAIGN_PLAN: CampaignPlanBody,
    Operation.CAMPAIGN_START: CampaignStartBody,
    Operation.CAMPAIGN_SHOW: CampaignShowBody,
    Operation.CAMPAIGN_LIST: CampaignListBody,
    Operation.CAMPAIGN_PAUSE: CampaignPauseBody,
    Operation.CAMPAIGN_RESUME: CampaignResumeBody,
    Operation.CAMPAIGN_CANCEL: CampaignCancelBody,
    Operation.CAMPAIGN_THROTTLE: CampaignThrottleBody,
    Operation.CAMPAIGN_REPLAY: CampaignReplayBody,
    Operation.CAMPAIGN_FAILURES: CampaignFailuresBody,
    Operation.CAMPAIGN_EXPOSED: CampaignExposedBody,
}
