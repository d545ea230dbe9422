"""Bodies and results of the commands on rules, grants and quotas."""

from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from worker.model.codes import Code
from worker.model.fields import (
    MAX_INT,
    AliasName,
    AliasPattern,
    Answer,
    Body,
    ClientName,
    Page,
    TenantName,
    Uuid,
    Why,
)
from worker.model.operations import Operation, Permission
from worker.model.words import Suite

DAY_S = 24 * 3600
Because = Annotated[Why, StringConstraints(min_length=1)]
"""A reason that must be given."""
ContextKey = Annotated[str, StringConstraints(min_length=1, max_length=256)]
RegionName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{0,32}$")]


class PolicyAllowBody(Body):
    """Add a rule for a client. Needs a second officer. Without `region` it holds in any, as with `context_keys`."""

    tenant: TenantName
    client: ClientName
    permissions: list[Permission] = Field(min_length=1, max_length=len(Permission))
    pattern: AliasPattern = "*"
    region: RegionName = ""
    not_after_ms: int = Field(gt=0, le=MAX_INT)
    context_keys: list[ContextKey] = Field(default_factory=list, max_length=16, json_schema_extra={"default": []})
    minimum_suite: Suite | None = None
    why: Why = ""


class PolicyRevokeBody(Body):
    """Take a rule back. One officer's, for stopping must be quick."""

    tenant: TenantName
    rule: Uuid
    why: Why = ""


class PolicyListBody(Body):
    """A tenant's rules in the order of their ids, `limit` at a time; of one client only, if it is named."""

    tenant: TenantName
    client: ClientName | None = None
    after: UUID | None = None
    limit: int = Field(default=500, ge=1, le=1000)


class PolicyCheckBody(Body):
    """Would this client be allowed this? Nothing is done. Without `version` the active one, without `suite` its own."""

    tenant: TenantName
    client: ClientName
    permission: Permission
    key: AliasName
    version: int | None = Field(default=None, ge=1, le=2**31 - 1)
    context_keys: list[ContextKey] = Field(default_factory=list, max_length=16, json_schema_extra={"default": []})
    suite: Suite | None = None


class GrantGiveBody(Body):
    """Let a client do this with one key for so many seconds, a compromised version included. Needs a second officer."""

    tenant: TenantName
    client: ClientName
    key: AliasName
    version: int | None = Field(default=None, ge=1, le=2**31 - 1)
    permissions: list[Permission] = Field(min_length=1, max_length=len(Permission))
    for_s: int = Field(ge=1, le=DAY_S)
    why: Because


class GrantRevokeBody(Body):
    """Take a grant back. One officer's, for stopping must be quick."""

    tenant: TenantName
    grant: Uuid
    why: Why = ""


class GrantListBody(Body):
    """A tenant's grants in the order of their ids, `limit` at a time; of one client only, if it is named."""

    tenant: TenantName
    client: ClientName | None = None
    after: UUID | None = None
    limit: int = Field(default=500, ge=1, le=1000)


class TenantQuotaBody(Body):
    """Bound what a tenant, or one client of it, may cost in a second; without `per_second` there is no bound any more.

    `burst` is what it may cost at once after a rest; without it as much as in a second.
    """

    tenant: TenantName
    client: ClientName | None = None
    per_second: int | None = Field(default=None, ge=1, le=10**9)
    burst: int | None = Field(default=None, ge=1, le=10**9)
    why: Why = ""


class TenantQuotasBody(Body):
    """A tenant's quotas: its own and its clients'."""

    tenant: TenantName
    after: str = ""
    limit: int = Field(default=500, ge=1, le=1000)


class RuleView(Answer):
    """One rule, for people."""

    id: UUID
    tenant: str
    client: str
    permissions: list[str]
    pattern: str
    region: str
    not_after_ms: int
    context_keys: list[str]
    minimum_suite: Suite | None = None
    why: str
    enrolled_by: str
    created_ms: int
    revoked: bool


class GrantView(Answer):
    """One grant, for people. Without `version` it is for all of the key's."""

    id: UUID
    tenant: str
    client: str
    key: UUID
    version: int | None = None
    permissions: list[str]
    why: str
    given_by: str
    given_ms: int
    not_after_ms: int
    revoked: bool


class QuotaView(Answer):
    """One quota, for people. Without `client` it is the tenant's, without `per_second` there is no bound."""

    tenant: str
    client: str | None = None
    per_second: int | None = None
    burst: int | None = None
    why: str
    set_by: str


class RuleResult(Answer):
    """The rule after the command."""

    rule: RuleView


class RuleListResult(Page):
    """One page of rules; `more` says that there are others after the last. `after` is where the next page begins."""

    rules: list[RuleView]
    after: UUID | None = None
    more: bool


class GrantResult(Answer):
    """The grant after the command."""

    grant: GrantView


class GrantListResult(Page):
    """One page of grants; `more` says that there are others after the last. `after` is where the next page begins."""

    grants: list[GrantView]
    after: UUID | None = None
    more: bool


class CheckResult(Answer):
    """Whether it would be allowed, and by what: its own row (neither `rule` nor `grant`), a rule or a grant.

    If not, `code` is what the client would be told, and `why` what it would not be.
    """

    allowed: bool
    key: UUID | None = None
    version: int | None = None
    rule: RuleView | None = None
    grant: GrantView | None = None
    code: Code | None = None
    why: str = ""


class QuotaResult(Answer):
    """The quota after the command."""

    quota: QuotaView


class QuotaListResult(Page):
    """One page of a tenant's quotas."""

    quotas: list[QuotaView]
    more: bool


class PolicyChange(Answer):
    """A fact about a rule, a grant or a quota: how it stands, who wanted it and why, at which revision of its row."""

    tenant: str
    rule: RuleView | None = None
    grant: GrantView | None = None
    quota: QuotaView | None = None
    who: str
    approved_by: str | None = None
    why: str
    request: str
    correlation: str
    revision: int


AnyPolicyBody = (
    PolicyAllowBody
    | PolicyRevokeBody
    | PolicyListBody
    | PolicyCheckBody
    | GrantGiveBody
    | GrantRevokeBody
    | GrantListBody
    | TenantQuotaBody
    | TenantQuotasBody
)
POLICY_BODIES: dict[Operation, type[AnyPolicyBody]] = {
    Operation.POLICY_ALLOW: PolicyAllowBody,
    Operation.POLICY_REVOKE: PolicyRevokeBody,
    Operation.POLICY_LIST: PolicyListBody,
    Operation.POLICY_CHECK: PolicyCheckBody,
    Operation.GRANT_GIVE: GrantGiveBody,
    Operation.GRANT_REVOKE: GrantRevokeBody,
    Operation.GRANT_LIST: GrantListBody,
    Operation.TENANT_QUOTA: TenantQuotaBody,
    Operation.TENANT_QUOTAS: TenantQuotasBody,
}
PolicyCommandResult = (
    RuleResult | RuleListResult | CheckResult | GrantResult | GrantListResult | QuotaResult | QuotaListResult
)
POLICY_RESULTS: dict[Operation, type[Answer]] = {
    Operation.POLICY_ALLOW: RuleResult,
    Operation.POLICY_REVOKE: RuleResult,
    Operation.POLICY_LIST: RuleListResult,
    Operation.POLICY_CHECK: CheckResult,
    Operation.GRANT_GIVE: GrantResult,
    Operation.GRANT_REVOKE: GrantResult,
    Operation.GRANT_LIST: GrantListResult,
    Operation.TENANT_QUOTA: QuotaResult,
    Operation.TENANT_QUOTAS: QuotaListResult,
}
"""What an item of each operation's answer is, if it is no error."""
