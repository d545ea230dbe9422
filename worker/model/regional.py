"""Commands on regions and what is answered and told about them (SECURITY S19)."""

from typing import Annotated

from pydantic import Field, StringConstraints

from worker.model.fields import Answer, Body, Page, Why

RegionName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,32}$")]
Serial = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,64}$")]
"""A token's serial number (CK_TOKEN_INFO), without the spaces that fill it up."""


class RegionSetBody(Body):
    """Say which tokens a region is. Needs a second officer; keys of the region rest on it from the next settle on."""

    region: RegionName
    serials: list[Serial] = Field(min_length=1, max_length=16)
    why: Why = ""


class RegionListBody(Body):
    """The fleet's regions in the order of their names, `limit` at a time."""

    after: str = ""
    limit: int = Field(default=500, ge=1, le=1000)


class RegionView(Answer):
    """One region, for people."""

    region: str
    serials: list[str]
    revision: int


class RegionResult(Answer):
    """The region after the command."""

    set_region: RegionView


class RegionListResult(Page):
    """One page of regions; `more` says that there are others after the last."""

    regions: list[RegionView]
    more: bool


class RegionChange(Answer):
    """A fact: which tokens a region is now, who wanted it and why."""

    region: str
    was: list[str]
    now: list[str]
    who: str
    approved_by: str | None = None
    why: str
    request: str
    correlation: str
    revision: int
