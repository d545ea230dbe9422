"""The words of fixed lists that rows are made of, and the names of tables and rows."""

from dataclasses import dataclass
from enum import StrEnum

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
    FLEET_KEYS = "fleet_keys"
    IMPORTS = "imports"
    REGIONS = "regions"
    RULES = "rules"
    GRANTS = "grants"
    QUOTAS = "quotas"
    CAMPAIGNS = "campaigns"
    LINKS = "links"
    TRIGGER_RULES = "trigger_rules"


@dataclass(frozen=True, slots=True, order=True)
class RowRef:
    """Names one row: its table and its primary key as text."""

    table: Table
    key: str
