"""The rows that grant or decide. Each carries a MAC in the store (S7); `revision` counts its changes.

A field that is added after the first release gets a default and is left out of the MAC while it has it, so that
rows written before keep their MAC.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from worker.model.campaigns import CampaignKind, CampaignState
from worker.model.hsm import Purpose, Wrapping

FLEET_TENANT = "fleet"
"""The reserved tenant of the officers (S14)."""


class Suite(StrEnum):
    """HPKE suites (RFC 9180), weakest first; the order is the order of strength for a tenant's minimum (S4)."""

    P256 = "p256"
    X25519 = "x25519"
    MLKEM768_X25519 = "mlkem768-x25519"

    def at_least(self, minimum: "Suite") -> bool:
        """Whether this suite is as strong as `minimum`; the two classic ones count as equally strong."""
        return minimum is not Suite.MLKEM768_X25519 or self is minimum


class Algorithm(StrEnum):
    """Signature algorithms of requests, by their JOSE names (RFC 9864, RFC 7518)."""

    ED25519 = "Ed25519"
    ES256 = "ES256"


class State(StrEnum):
    """The state of a key version (NIST SP 800-57 part 1, section 7; KMIP)."""

    PRE_ACTIVE = "pre-active"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    DEACTIVATED = "deactivated"
    COMPROMISED = "compromised"
    DESTROY_SCHEDULED = "destroy-scheduled"
    DESTROYED = "destroyed"


class Origin(StrEnum):
    """Where a key's material came from."""

    GENERATED = "generated"
    IMPORTED = "imported"
    EXTERNAL = "external"


class Role(StrEnum):
    """What a registered signer is: a service of one tenant, or an officer of the fleet."""

    SERVICE = "service"
    OFFICER = "officer"


class ApprovalState(StrEnum):
    """What became of a command that needs a second officer (S14)."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    VOIDED = "voided"
    """A row that it was asked about has changed since."""
    EXPIRED = "expired"


class Table(StrEnum):
    """The tables whose rows carry a MAC."""

    TENANTS = "tenants"
    KEYS = "keys"
    VERSIONS = "versions"
    ALIASES = "aliases"
    CLIENTS = "clients"
    INTAKE_KEYS = "intake_keys"
    APPROVALS = "approvals"
    CAMPAIGNS = "campaigns"


@dataclass(frozen=True, slots=True, order=True)
class RowRef:
    """Names one row: its table and its primary key as text."""

    table: Table
    key: str


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
    `retired_ms`: when a campaign saw, under this row's lock, that nothing stored is left under it, or 0.
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


@dataclass(frozen=True, slots=True)
class Campaign:
    """Everything under (key, from_version) goes to to_version; the id follows from these three, so there is one.

    `items` is what there was to move at the start. `items_s` (0: no limit) and `hsm_share` (percent of each process's
    time on the token) are the throttle. A `round` goes through the ids after `after` up to `upto`. `parent` is the deep
    campaign that made this one; `compromised` whether others had the old version. `certificate` is JSON, signed.
    """

    TABLE: ClassVar[Table] = Table.CAMPAIGNS
    id: UUID
    tenant: str
    key: UUID
    from_version: int
    to_version: int
    kind: CampaignKind
    state: CampaignState
    parent: UUID | None
    compromised: bool
    items: int
    items_s: int
    hsm_share: int
    round: int
    after: UUID
    upto: UUID
    asked_by: str
    why: str
    created_ms: int
    started_ms: int
    ended_ms: int
    certificate: bytes
    revision: int

    @property
    def ref(self) -> RowRef:
        """The row's name."""
        return RowRef(Table.CAMPAIGNS, str(self.id))


Row = Tenant | Key | Version | Alias | Client | IntakeKey | Approval | Campaign


@dataclass(frozen=True, slots=True)
class Dek:
    """A stored wrapped DEK. It carries no MAC: the blob's AAD binds it to tenant, key, version and id."""

    id: UUID
    key: UUID
    version: int
    blob: bytes
