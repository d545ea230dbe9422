"""Bodies of the officers' commands on a key's life: version states, the switch, destruction, and approvals (S14)."""

from uuid import UUID

from pydantic import Field

from worker.model.fields import MAX_INT, AliasName, Base64, Body, TenantName, Uuid, Why


class VersionBody(Body):
    """A command on one version of a key; without `version` the active one."""

    tenant: TenantName
    key: AliasName
    version: int | None = Field(default=None, ge=1, le=2**31 - 1)
    why: Why = ""


class KeyActivateBody(VersionBody):
    """Activate a pre-active version (without `version` the newest), at once or at `at_ms` of the database's clock."""

    at_ms: int | None = Field(default=None, gt=0, le=MAX_INT)


class KeySuspendBody(VersionBody):
    """Let an active version only unwrap, until it is resumed."""


class KeyResumeBody(VersionBody):
    """Make a suspended version active again."""


class KeyDeactivateBody(VersionBody):
    """Let a version only unwrap and be rewrapped from, for good."""


class KeyCompromiseBody(VersionBody):
    """Refuse a version to all callers, for good; campaigns still move what it wraps."""


class KeyDisableBody(Body):
    """The red button: nothing under the key works until it is enabled. `dry_run` only reports what would stop."""

    tenant: TenantName
    key: AliasName
    dry_run: bool = False
    why: Why = ""


class KeyEnableBody(Body):
    """Lift the disable that made this `revision` of the key. Needs a second officer."""

    tenant: TenantName
    key: AliasName
    revision: int = Field(ge=1, le=MAX_INT)
    why: Why = ""


class KeyDestroyBody(VersionBody):
    """Destroy a version after a grace (seconds; without it the fleet's shortest). Needs a second officer.

    `force` repeats the key's name (as in `key`): then it is destroyed though rows or blobs outside still need it.
    """

    version: int = Field(ge=1, le=2**31 - 1)
    grace_s: int | None = Field(default=None, ge=0, le=MAX_INT // 1000)
    force: AliasName | None = None


class KeyCancelDestroyBody(VersionBody):
    """Call a scheduled destruction off: the version's state is what it was before. Needs a second officer."""

    version: int = Field(ge=1, le=2**31 - 1)


class ApprovalApproveBody(Body):
    """A second officer carries out a pending command; `digest` is that of the approval as he saw it."""

    tenant: TenantName
    approval: Uuid
    digest: Base64


class ApprovalRejectBody(Body):
    """End a pending command; its own officer may do that, too."""

    tenant: TenantName
    approval: Uuid
    why: Why = ""


class ApprovalListBody(Body):
    """Approvals, of one tenant or of all, in the order of their ids, `limit` at a time."""

    tenant: TenantName | None = None
    after: UUID | None = None
    limit: int = Field(default=500, ge=1, le=1000)
