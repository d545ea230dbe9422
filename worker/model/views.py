"""Rows and facts about keys and clients as people see them, in answers and in events: nothing wrapped, no MAC."""

from uuid import UUID

from pydantic import Field

from worker.model.fields import Answer, Base64, Reason
from worker.model.hsm import Purpose
from worker.model.words import Algorithm, ApprovalState, Origin, Role, State


class VersionView(Answer):
    """One version of a key, for people.

    Of imported material: `not_after_ms` is when it is deleted; `absent`: it is not there, import it (again).
    """

    number: int
    state: State
    created_ms: int
    due_ms: int | None = None
    not_after_ms: int | None = None
    absent: bool | None = None
    parent_version: int | None = None
    link: UUID | None = None


class KeyView(Answer):
    """One key, for people. `alias` may be empty when none names it."""

    id: UUID
    tenant: str
    alias: str
    parent: UUID | None = None
    layer: int
    purpose: Purpose
    origin: Origin
    region: str
    enabled: bool
    disabled_revision: int | None = None
    active_version: int
    versions: list[VersionView] = Field(default=[])


class BlastLayer(Answer):
    """What a switch stops in one layer and region: keys, their versions, DEKs stored under them, blobs outside."""

    layer: int
    region: str
    keys: int
    versions: int
    deks: int
    issued_outside: int


class BlastService(Answer):
    """One key that wraps DEKs, and how many."""

    key: UUID
    alias: str
    region: str
    deks: int
    issued_outside: int


class Blast(Answer):
    """The blast radius of a key's switch. `services` are the largest ones, `more` how many are not shown."""

    tenant: str
    layers: list[BlastLayer]
    services: list[BlastService]
    more: int


class Destruction(Answer):
    """What a destruction takes, and until when backups and topics could still bring it back (S15)."""

    version: int
    due_ms: int
    recoverable_until_ms: int
    deks: int
    issued_outside: int
    children: int
    forced: bool


class Transition(Answer):
    """A fact about one key or version: what it became, who wanted it and why, at which revision of the row."""

    tenant: str
    key: UUID
    alias: str
    version: int | None = None
    was: str
    now: str
    who: str
    approved_by: str | None = None
    reason: Reason | None = None
    why: str
    request: str
    correlation: str
    revision: int
    blast: Blast | None = None
    destruction: Destruction | None = None


class ClientView(Answer):
    """One registered client, for people."""

    id: str
    tenant: str
    role: Role
    algorithm: Algorithm
    permissions: list[str]
    pattern: str
    reply_topics: list[str]
    not_after_ms: int
    revoked: bool


class ApprovalView(Answer):
    """A command that needs, or needed, a second officer. `body` is its JSON as text; `digest` is what he signs."""

    id: UUID
    tenant: str
    operation: str
    body: str
    asked_by: str
    asked_ms: int
    expires_ms: int
    touched: list[str]
    digest: Base64
    state: ApprovalState
    decided_by: str | None = None
