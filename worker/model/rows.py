"""The rows that grant or decide. Each carries a MAC in the store (S7); `revision` counts its changes.

A field that is added after the first release gets a default and is left out of the MAC while it has it, so that
rows written before keep their MAC.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from worker.model.hsm import Purpose, Wrapping
from worker.model.keystores import KeystoreAddress, Provider

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


class LinkState(StrEnum):
    """What may be done with a link to a customer's keystore (S13)."""

    LINKED = "linked"
    CUT = "cut"
    """By an officer, for a time: nothing under it works until it is restored."""
    UNLINKED = "unlinked"
    """For ever; the link's inner key is destroyed."""


class Table(StrEnum):
    """The tables whose rows carry a MAC."""

    TENANTS = "tenants"
    KEYS = "keys"
    VERSIONS = "versions"
    ALIASES = "aliases"
    CLIENTS = "clients"
    INTAKE_KEYS = "intake_keys"
    APPROVALS = "approvals"
    LINKS = "links"


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
class Link:
    """Where one version of an L1 stays in its customer's keystore (S13), and what may be done with it.

    `credential` is a name in the workers' settings. `inner` labels the link's inner key in the token `serial`.
    `sovereign`: whatever opened the tenant's keys before this link is destroyed. `cut_revision` is the revision that the
    last cut made: a restore names it.
    """

    TABLE: ClassVar[Table] = Table.LINKS
    id: UUID
    tenant: str
    key: UUID
    version: int
    provider: Provider
    endpoint: str
    external_key: str
    credential: str
    state: LinkState
    inner: UUID
    serial: str
    external_version: str
    sovereign: bool
    created_ms: int
    revision: int
    cut_revision: int = 0

    @property
    def ref(self) -> RowRef:
        """The row's name."""
        return RowRef(Table.LINKS, str(self.id))

    @property
    def address(self) -> KeystoreAddress:
        """The customer's key in the customer's keystore."""
        return KeystoreAddress(self.provider, self.endpoint, self.external_key, self.credential)


Row = Tenant | Key | Version | Alias | Client | IntakeKey | Approval | Link


@dataclass(frozen=True, slots=True)
class Dek:
    """A stored wrapped DEK. It carries no MAC: the blob's AAD binds it to tenant, key, version and id."""

    id: UUID
    key: UUID
    version: int
    blob: bytes
