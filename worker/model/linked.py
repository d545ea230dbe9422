"""What is answered and told about HYOK links (SECURITY S13); nothing secret is in it."""

from uuid import UUID

from worker.model.fields import Answer, Page
from worker.model.keystores import Provider
from worker.model.rows import State
from worker.model.words import LinkState


class LinkView(Answer):
    """One link, for people. `credential` is a name; `external_version` what the keystore said when it was linked."""

    id: UUID
    tenant: str
    key: UUID
    version: int
    provider: Provider
    endpoint: str
    external_key: str
    credential: str
    external_version: str
    state: LinkState
    cut_revision: int | None = None
    sovereign: bool
    created_ms: int
    revision: int


class Standing(Answer):
    """One version of an L1, and how many key versions are still wrapped under it. `link` None: it is in our token."""

    version: int
    state: State
    link: UUID | None = None
    children: int


class LinkResult(Answer):
    """The link after the command."""

    link: LinkView


class LinkReport(Answer):
    """The link, every version of its L1, and whether anything could still open the tenant's keys without it."""

    link: LinkView
    versions: list[Standing]
    could_be_sovereign: bool


class LinkListResult(Page):
    """One page of links; `more` says that there are others after the last."""

    links: list[LinkView]
    more: bool


class LinkEnd(Answer):
    """The end of a link (S15): when its inner key goes, and until when backups could bring it back."""

    due_ms: int
    recoverable_until_ms: int
    children: int
    forced: bool


class UnlinkResult(Answer):
    """The link after its end was ordered."""

    link: LinkView
    end: LinkEnd


class MoveResult(Answer):
    """The L1's new version, its link if it has one, and what is left under the versions before it."""

    tenant: str
    moved_key: UUID
    to_version: int
    link: LinkView | None = None
    versions: list[Standing]


class LinkChange(Answer):
    """A fact about a link: what it became, who wanted it and why, at which revision of the row."""

    tenant: str
    link: UUID
    key: UUID
    alias: str
    version: int
    was: str
    now: str
    who: str
    approved_by: str | None = None
    why: str
    request: str
    correlation: str
    revision: int
    end: LinkEnd | None = None
    recoverable_until_ms: int | None = None
