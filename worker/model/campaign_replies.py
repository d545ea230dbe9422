"""What officers are told about campaigns, the facts that are announced, and the certificate at the end."""

from uuid import UUID

from pydantic import Field

from worker.model.campaigns import CampaignKind, CampaignState
from worker.model.fields import Answer, Base64, Page
from worker.model.operations import Operation


class CampaignView(Answer):
    """One campaign. `remaining` is the census of the old version: DEKs stored under it and key versions that it wraps.

    `rate` is in items per second, `eta_s` what that leaves in seconds; both are 0 where nothing was measured yet.
    `pace` is that of bulk work now: below 1 it backs off, for interactive answers are too slow.
    `certificate` is there when it is done: the signed JSON, as text.
    """

    id: UUID
    tenant: str
    key: UUID
    alias: str
    from_version: int
    to_version: int
    kind: CampaignKind
    state: CampaignState
    parent: UUID | None = None
    items: int
    remaining: int
    moved: int
    failed: int
    issued_outside: int
    rate: float
    eta_s: float
    pace: float = 1.0
    items_s: int
    hsm_share: int
    round: int
    asked_by: str
    why: str
    created_ms: int
    started_ms: int
    ended_ms: int
    revision: int
    destroy_after_s: int = 0
    certificate: str | None = None


class CampaignLayer(Answer):
    """What there is to move in one layer, and in how many operations of the token. The DEKs are the last layer."""

    layer: str
    items: int
    hsm_operations: int


class CampaignPlanResult(Answer):
    """A dry run. `seconds` at `rate` items per second, which is measured where `measured` says so, else assumed."""

    id: UUID
    key: UUID
    alias: str
    from_version: int
    to_version: int
    kind: CampaignKind
    layers: list[CampaignLayer]
    issued_outside: int
    rate: float
    measured: bool
    seconds: float


class CampaignResult(Answer):
    """The campaign after the command."""

    campaign: CampaignView


class CampaignListResult(Page):
    """One page of campaigns, without counts."""

    campaigns: list[CampaignView]
    more: bool


class CampaignFailure(Answer):
    """One thing that could not be moved: a DEK's id, or `key/version`; or `census`, if that and the rows disagree."""

    item: str
    code: str
    at_ms: int


class CampaignFailuresResult(Answer):
    """One page of failures."""

    failures: list[CampaignFailure]
    more: bool


class CampaignExposedResult(Answer):
    """One page of exposed DEKs; `place` names the next page, nothing is there after the last one."""

    exposed: list[UUID]
    place: str | None = None


class CampaignTold(Answer):
    """A fact about a campaign: what it became, or how far it is."""

    campaign: CampaignView
    who: str
    why: str = ""
    codes: dict[str, int] = Field(default={})


class Certificate(Answer):
    """What the fleet says of a campaign that is done, about stored rows alone: nothing of them is left.

    `digests` is the root of the Merkle tree (RFC 9162) over the digests of its slices in their order; each stands as
    `items` in a slice's leaf on the tenant's audit log, which was `log_size` long with the root `log_root` when it was
    last signed. `issued_outside` blobs may still need the old version. `exposed` DEKs were readable for whoever had it:
    a rewrap is no re-encryption. A deep campaign names those that it made in `parts`.
    """

    form: str = "keyriver-campaign-certificate/1"
    fleet: str
    campaign: UUID
    tenant: str
    key: UUID
    from_version: int
    to_version: int
    kind: CampaignKind
    covers: str
    items: int
    issued_outside: int
    exposed: int
    parts: list[UUID] = Field(default=[])
    started_ms: int
    ended_ms: int
    digests: Base64
    log_size: int
    log_root: Base64
    signature: Base64 = Field(default=b"")


CampaignCommandResult = (
    CampaignPlanResult | CampaignResult | CampaignListResult | CampaignFailuresResult | CampaignExposedResult
)

CAMPAIGN_RESULTS: dict[Operation, type[Answer]] = {
    Operation.CAMPAIGN_PLAN: CampaignPlanResult,
    Operation.CAMPAIGN_START: CampaignResult,
    Operation.CAMPAIGN_SHOW: CampaignResult,
    Operation.CAMPAIGN_LIST: CampaignListResult,
    Operation.CAMPAIGN_PAUSE: CampaignResult,
    Operation.CAMPAIGN_RESUME: CampaignResult,
    Operation.CAMPAIGN_CANCEL: CampaignResult,
    Operation.CAMPAIGN_THROTTLE: CampaignResult,
    Operation.CAMPAIGN_REPLAY: CampaignResult,
    Operation.CAMPAIGN_FAILURES: CampaignFailuresResult,
    Operation.CAMPAIGN_EXPOSED: CampaignExposedResult,
}
"""What an item of each one's answer is, if it is no error."""
