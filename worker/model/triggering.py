"""Bodies and results of triggers: a client's report, and the officers' commands on the rules that answer it."""

from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from worker.model.campaign_bodies import FULL_SHARE, DestroyAfter, ItemsPerSecond, Share
from worker.model.campaign_replies import CampaignView
from worker.model.campaigns import CampaignKind
from worker.model.fields import MAX_INT, AliasName, Answer, Body, Page, TenantName, Why
from worker.model.operations import Operation
from worker.model.triggers import Occasion, TriggerAction, TriggerEvent

_URGENT = frozenset({Occasion.KEY_COMPROMISED, Occasion.MEMBER_LEFT})
"""Only these say that somebody may have a key who must not."""
_WORN = frozenset({Occasion.KEY_AGE, Occasion.USE_COUNT, Occasion.PROVIDER_VERSION})
_LONGEST_S = 100 * 366 * 24 * 3600
RuleName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
KeyPattern = Annotated[str, StringConstraints(pattern=r"^[a-z0-9._/*?-]+$", max_length=256)]
"""A shell pattern over aliases, without sets of characters."""


class TriggerBody(Body):
    """Something happened to this key, by the named moment. The tenant is the sender's.

    Whoever reports the same event again, under whatever id, must name the same moment: it is what makes it the same.
    """

    event: TriggerEvent
    key: AliasName
    occurred_ms: int = Field(gt=0, le=MAX_INT)
    why: Why = ""


class TriggerAddBody(Body):
    """Add a rule, or put another in its place. Needs a second officer. What must fit together: see `misfit`."""

    tenant: TenantName
    name: RuleName
    event: Occasion
    pattern: KeyPattern = "*"
    action: TriggerAction = TriggerAction.ROTATE
    period_s: int = Field(default=0, ge=0, le=_LONGEST_S)
    items_s: ItemsPerSecond = 0
    hsm_share: Share = FULL_SHARE
    destroy_after_s: DestroyAfter = 0
    why: Why = ""


def misfit(event: Occasion, action: TriggerAction, period_s: int) -> str:
    """Why such a rule makes no sense; empty if it does."""
    if (event is Occasion.KEY_AGE) != bool(period_s):
        return "a period goes with key-age, and only with that"
    if action is TriggerAction.EMERGENCY and event not in _URGENT:
        return "emergency goes with key-compromised and member-left alone"
    if event is Occasion.PARENT_ROTATED and action is not TriggerAction.MOVE:
        return "parent-rotated goes with move: what stands below is moved, and nothing is rotated"
    if event in _WORN and action is not TriggerAction.ROTATE:
        return f"{event} goes with rotate: only a new version ends it"
    return ""


class TriggerRemoveBody(Body):
    """Take a rule back. One officer's, for stopping must be quick."""

    tenant: TenantName
    name: RuleName
    why: Why = ""


class TriggerListBody(Body):
    """A tenant's rules in the order of their names, `limit` at a time."""

    tenant: TenantName
    after: str = ""
    limit: int = Field(default=500, ge=1, le=1000)


class TriggerCheckBody(Body):
    """What would this occasion start for this key? Nothing is done."""

    tenant: TenantName
    event: Occasion
    key: AliasName
    occurred_ms: int | None = Field(default=None, gt=0, le=MAX_INT)


class TriggerRuleView(Answer):
    """One rule, for people."""

    tenant: str
    name: str
    event: Occasion
    pattern: str
    action: TriggerAction
    period_s: int
    items_s: int
    hsm_share: int
    why: str
    enrolled_by: str
    created_ms: int
    revoked: bool
    destroy_after_s: int = 0


class TriggerResult(Answer):
    """What the report did: which rule answered it, and where the key and its campaign stand now.

    `rotated`: this very report made the version. Without `campaign` there is nothing to move.
    """

    fired: str
    action: TriggerAction
    triggered_key: UUID
    version: int
    rotated: bool
    campaign: CampaignView | None = None


class TriggerRuleResult(Answer):
    """The rule after the command."""

    trigger: TriggerRuleView


class TriggerListResult(Page):
    """One page of rules; `after` is where the next page begins."""

    triggers: list[TriggerRuleView]
    after: str
    more: bool


class TriggerCheckResult(Answer):
    """What would happen; without `rule` nothing. `begins`: a campaign of this kind; else it is only told."""

    would_rotate: bool
    rule: TriggerRuleView | None = None
    from_version: int | None = None
    to_version: int | None = None
    kind: CampaignKind | None = None
    begins: bool
    why: str = ""


class TriggerChange(Answer):
    """A fact about a rule: how it stands, who wanted it and why, at which revision of its row."""

    tenant: str
    trigger: TriggerRuleView
    who: str
    approved_by: str | None = None
    why: str
    request: str
    correlation: str
    revision: int


class TriggerTold(Answer):
    """A fact: a rule answered an occasion."""

    tenant: str
    event: Occasion
    occurred_ms: int
    result: TriggerResult
    who: str
    why: str
    request: str
    correlation: str


AnyTriggerBody = TriggerBody | TriggerAddBody | TriggerRemoveBody | TriggerListBody | TriggerCheckBody
TRIGGER_BODIES: dict[Operation, type[AnyTriggerBody]] = {
    Operation.TRIGGER: TriggerBody,
    Operation.TRIGGER_ADD: TriggerAddBody,
    Operation.TRIGGER_REMOVE: TriggerRemoveBody,
    Operation.TRIGGER_LIST: TriggerListBody,
    Operation.TRIGGER_CHECK: TriggerCheckBody,
}
TriggerCommandResult = TriggerResult | TriggerRuleResult | TriggerListResult | TriggerCheckResult
TRIGGER_RESULTS: dict[Operation, type[Answer]] = {
    Operation.TRIGGER: TriggerResult,
    Operation.TRIGGER_ADD: TriggerRuleResult,
    Operation.TRIGGER_REMOVE: TriggerRuleResult,
    Operation.TRIGGER_LIST: TriggerListResult,
    Operation.TRIGGER_CHECK: TriggerCheckResult,
}
"""What an item of each operation's answer is, if it is no error."""
