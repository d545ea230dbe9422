"""Bodies of the officers' commands on campaigns."""

from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from worker.model.campaigns import CampaignKind
from worker.model.fields import AliasName, Body, TenantName, Uuid, Why

FULL_SHARE = 100
_Version = Annotated[int, Field(ge=1, le=2**31 - 1)]
ItemsPerSecond = Annotated[int, Field(ge=0, le=10_000_000)]
"""0: no limit."""
Share = Annotated[int, Field(ge=1, le=FULL_SHARE)]
"""Percent of the token's time, of all processes together."""


DestroyAfter = Annotated[int, Field(ge=0, le=366 * 24 * 3600)]
"""Seconds of grace; 0: nothing is destroyed by itself."""


class CampaignOfKeyBody(Body):
    """Everything under `from_version` of the key (else the newest that is not active) goes to the active version."""

    tenant: TenantName
    key: AliasName
    from_version: _Version | None = None
    kind: CampaignKind = CampaignKind.SHALLOW


class CampaignPlanBody(CampaignOfKeyBody):
    """A dry run: what there is to move, in how many operations of the token, and how long it would take."""


class CampaignStartBody(CampaignOfKeyBody):
    """Start it. One that was started before is told as it stands: a campaign is unique on key, from and to.

    `destroy_after_s`: once it is done, and if no blob left the database, the old version is scheduled for destruction
    with this grace; that needs a second officer, now.
    """

    items_s: ItemsPerSecond = 0
    hsm_share: Share = FULL_SHARE
    destroy_after_s: DestroyAfter = 0
    why: Why = ""


class CampaignBody(Body):
    """A command on one campaign."""

    tenant: TenantName
    campaign: Uuid


class CampaignShowBody(CampaignBody):
    """How far it is."""


class CampaignPauseBody(CampaignBody):
    """Nothing more is moved until it is resumed; slices at work fail at their settle."""

    why: Why = ""


class CampaignResumeBody(CampaignBody):
    """Go on where it was paused."""

    why: Why = ""


class CampaignCancelBody(CampaignBody):
    """End it; what was moved stays moved. It can be started again."""

    why: Why = ""


class CampaignReplayBody(CampaignBody):
    """Try again what failed, after its cause was mended."""

    why: Why = ""


class CampaignThrottleBody(CampaignBody):
    """Another speed, at once."""

    items_s: ItemsPerSecond = 0
    hsm_share: Share = FULL_SHARE


class CampaignListBody(Body):
    """Campaigns, of one tenant or of all, in the order of their ids, `limit` at a time."""

    tenant: TenantName | None = None
    after: UUID | None = None
    limit: int = Field(default=500, ge=1, le=1000)


class CampaignFailuresBody(CampaignBody):
    """What could not be moved, in the order of names, after the given one."""

    after: Annotated[str, StringConstraints(max_length=64, pattern=r"^[0-9a-f/-]*$")] = ""
    limit: int = Field(default=500, ge=1, le=1000)


class CampaignExposedBody(CampaignBody):
    """The DEKs that were under a compromised version, slice by slice, after the place that the last page ended with."""

    after: Annotated[str, StringConstraints(pattern=r"^(?:\d{1,9}/\d{1,9})?$")] = ""


CampaignCommand = (
    CampaignPauseBody | CampaignResumeBody | CampaignCancelBody | CampaignReplayBody | CampaignThrottleBody
)
AnyCampaignBody = (
    CampaignPlanBody
    | CampaignStartBody
    | CampaignShowBody
    | CampaignListBody
    | CampaignCommand
    | CampaignFailuresBody
    | CampaignExposedBody
)
