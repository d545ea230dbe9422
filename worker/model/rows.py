"""The rows that grant or decide. Each carries a MAC in the store (S7); `revision` counts its changes.

A field that is added after the first release gets a default and is left out of the MAC while it has it, so that
rows written before keep their MAC. Rows of a newer kind have files of their own; the closed union is here.
"""

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from worker.model.campaigns import Campaign
from worker.model.fleet import FleetKey
from worker.model.hsm import Purpose, Wrapping
from worker.model.imports import Import
from worker.model.licences import Grant, Rule
from worker.model.links import Link
from worker.model.quotas import Quota
from worker.model.regions import Region
from worker.model.triggers import TriggerRule
from worker.model.words import FLEET_TENANT, Algorithm, ApprovalState, Origin, Role, RowRef, State, Suite, Table

__all__ = [
    "FLEET_TENANT",
    "Algorithm",
    "Alias",
    "Approval",
    "ApprovalState",
    "Campaign",
    "Client",
    "Dek",
    "FleetKey",
    "Grant",
    "Import",
    "IntakeKey",
    "Key",
    "Link",
    "Origin",
    "Quota",
    "Region",
    "Role",
    "Row",
    "RowRef",
    "Rule",
    "State",
    "Suite",
    "Table",
    "Tenant",
    "TriggerRule",
    "Version",
]


@dataclass(frozen=True, slots=True)
class Tenant:
    """One customer. `layers` is the number of key layers above its DEKs, 2 to 8."""

    TABLE: ClassVar[Table] = Table.TENANTS
    id: str
    layers: int
    minimum_suite: Suite
    enabled: bool
    revision: int

    @property
    def ref(self) -> RowRef:
        """The row's name."""
        return RowRef(Table.TENANTS, self.id)


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a chain; layer 1 has no parent. `enabled` is the red button's switch. Versions count from 1.

    `disabled_revision` is the revision that the last disable made: an enable names it.
    """

    TABLE: ClassVar[Table] = Table.KEYS
    id: UUID
    tenant: str
    parent: UUID | None
    layer: int
    purpose: Purpose
    origin: Origin
    region: str
    enabled: bool
    active_version: int
    latest_version: int
    revision: int
    disabled_revision: int = 0

    @property
    def ref(self) -> RowRef:
        """The row's name."""
        return RowRef(Table.KEYS, str(self.id))


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a key: wrapped under one version of its parent, or a token object (`material`, `serial`).

    `due_ms` is when it is to be activated (pre-active) or destroyed (destroy-scheduled), Unix milliseconds, or 0;
    `prior` the state that a cancelled destruction restores; `forced`: destroyed though something still needs it.
    Of imported material: `not_after_ms` is when it is deleted, or 0; `absent`: it is not there, and nothing works
    until the same is imported again; `canary` proves that it is the same (S12), empty before the first import.
    `retired_ms`: when a campaign saw, under this row's lock, that nothing stored is left under it, or 0.
    `link` names the link of an L1 that stays outside; `digest` is the SHA-256 of the inner blob of what it wraps (S13).
    """

    TABLE: ClassVar[Table] = Table.VERSIONS
    key: UUID
    number: int
    state: State
    wrapping: Wrapping
    wrapped: bytes
    parent_version: int
    material: UUID | None
    serial: str
    created_ms: int
    revision: int
    due_ms: int = 0
    prior: State | None = None
    forced: bool = False
    link: UUID | None = None
    digest: bytes = b""
    not_after_ms: int = 0
    absent: bool = False
    canary: bytes = b""
    retired_ms: int = 0

    @property
    def ref(self) -> RowRef:
        """The row's name."""
        return RowRef(Table.VERSIONS, f"{self.key}/{self.number}")


@dataclass(frozen=True, slots=True)
class Alias:
    """A readable name of a key within its tenant; it starts with the tenant's id: `acme/eu/payments`."""

    TABLE: ClassVar[Table] = Table.ALIASES
    name: str
    tenant: str
    key: UUID
    revision: int

    @property
    def ref(self) -> RowRef:
        """The row's name."""
        return RowRef(Table.ALIASES, self.name)


@dataclass(frozen=True, slots=True)
class Client:
    """A registered signer and what it may do: permissions × a pattern over aliases × reply topics × until when.

    `pattern` is a shell pattern over alias names; `*` in it also crosses slashes. `public_key` is 32 bytes (Ed25519)
    or a 65-byte uncompressed point (ES256); `recipient_key` is what replies are sealed to unless the request names one.
    """

    TABLE: ClassVar[Table] = Table.CLIENTS
    id: str
    tenant: str
    role: Role
    algorithm: Algorithm
    public_key: bytes
    permissions: tuple[str, ...]
    pattern: str
    reply_topics: tuple[str, ...]
    recipient_suite: Suite | None
    recipient_key: bytes
    not_after_ms: int
    revoked: bool
    enrolled_by: str
    revision: int

    @property
    def ref(self) -> RowRef:
        """The row's name."""
        return RowRef(Table.CLIENTS, self.id)


@dataclass(frozen=True, slots=True)
class IntakeKey:
    """A fleet's key to which callers seal DEKs (S4). `wrapped_private` is under the HSM-held intake wrap key."""

    TABLE: ClassVar[Table] = Table.INTAKE_KEYS
    sequence: int
    suite: Suite
    public_key: bytes
    wrapped_private: bytes
    not_before_ms: int
    not_after_ms: int
    revision: int

    @property
    def ref(self) -> RowRef:
        """The row's name."""
        return RowRef(Table.INTAKE_KEYS, str(self.sequence))


@dataclass(frozen=True, slots=True)
class Approval:
    """A command that waits for a second officer (S14). `body` is its JSON; `tenant` is the affected one.

    `touched` are the rows that it was planned on, each as `table key revision`: one that moves voids it.
    """

    TABLE: ClassVar[Table] = Table.APPROVALS
    id: UUID
    tenant: str
    operation: str
    body: bytes
    asked_by: str
    request: str
    asked_ms: int
    expires_ms: int
    touched: tuple[str, ...]
    state: ApprovalState
    decided_by: str
    revision: int

    @property
    def ref(self) -> RowRef:
        """The row's name."""
        return RowRef(Table.APPROVALS, str(self.id))


Row = (
    Tenant
    | Key
    | Version
    | Alias
    | Client
    | IntakeKey
    | Approval
    | Link
    | Campaign
    | Rule
    | Grant
    | Quota
    | Import
    | Region
    | FleetKey
    | TriggerRule
)


@dataclass(frozen=True, slots=True)
class Dek:
    """A stored wrapped DEK. It carries no MAC: the blob's AAD binds it to tenant, key, version and id."""

    id: UUID
    key: UUID
    version: int
    blob: bytes
