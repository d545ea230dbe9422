"""Rules that say which occasion starts what (S18): the row, and the words that it is made of."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from worker.model.words import RowRef, Table


class TriggerEvent(StrEnum):
    """What a client may report of the world outside."""

    L1_ROTATED = "l1-rotated"
    KEY_COMPROMISED = "key-compromised"
    MEMBER_LEFT = "member-left"
    SCHEDULE_DUE = "schedule-due"
    POLICY_CHANGED = "policy-changed"


class Occasion(StrEnum):
    """What a rule waits for: a client's report, or what the fleet sees by itself."""

    L1_ROTATED = "l1-rotated"
    KEY_COMPROMISED = "key-compromised"
    MEMBER_LEFT = "member-left"
    SCHEDULE_DUE = "schedule-due"
    POLICY_CHANGED = "policy-changed"
    KEY_AGE = "key-age"
    """The active version is older than the rule's period."""
    USE_COUNT = "use-count"
    """The active version encrypted so often that it is worn (S10)."""
    PARENT_ROTATED = "parent-rotated"
    """The key was rotated, and versions of keys below stand under an older version of it still."""
    PROVIDER_VERSION = "provider-version"
    """The customer rotated the L1 above the key in his keystore (S13)."""


class TriggerAction(StrEnum):
    """What a rule does with the key."""

    MOVE = "move"
    """A campaign from the newest old version to the active one."""
    ROTATE = "rotate"
    """A new version, and a campaign to it from the one before."""
    EMERGENCY = "emergency"
    """The same, and the one before is compromised; of a key that wraps keys all below it gets new versions, too."""


@dataclass(frozen=True, slots=True)
class TriggerRule:
    """One rule of a tenant, named `tenant/name`. `pattern` is over aliases; `period_s` is for ages only, else 0.

    `items_s` and `hsm_share` are the throttle of the campaigns that it starts, `destroy_after_s` their grace.
    """

    TABLE: ClassVar[Table] = Table.TRIGGER_RULES
    id: str
    tenant: str
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
    revision: int
    destroy_after_s: int = 0

    @property
    def ref(self) -> RowRef:
        """The row's name."""
        return RowRef(Table.TRIGGER_RULES, self.id)


def trigger_ref(tenant: str, name: str) -> RowRef:
    """The row of the tenant's rule of this name."""
    return RowRef(Table.TRIGGER_RULES, f"{tenant}/{name}")


@dataclass(frozen=True, slots=True)
class Found:
    """An occasion that the fleet saw by itself, not yet decided: for a key, and which of its versions it is about."""

    occasion: Occasion
    tenant: str
    key: UUID
    version: int
