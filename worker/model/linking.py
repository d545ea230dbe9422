"""Bodies of the officers' commands on HYOK links (SECURITY S13): L1s that stay in their customers' keystores."""

from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from worker.model.fields import MAX_INT, AliasName, Body, TenantName, Why
from worker.model.keystores import Provider
from worker.model.rows import Suite


class KeystoreTarget(Body):
    """One key in one customer's keystore. `credential` names an entry of the workers' settings; no secret is here.

    `endpoint` is an HTTPS address, or for pkcs11 `module/label`; `key` the key's id or label there.
    """

    provider: Provider
    endpoint: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,256}$")]
    key: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/-]{1,256}$")]
    credential: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class LinkCreateBody(Body):
    """Create a tenant whose L1 (alias: the tenant's name) stays in the customer's keystore."""

    tenant: TenantName
    layers: int = Field(default=3, ge=2, le=8)
    minimum_suite: Suite = Suite.P256
    keystore: KeystoreTarget


class LinkBody(Body):
    """A command on the link of one version of an L1 (`key`: its alias or id); without `version` of the active one."""

    tenant: TenantName
    key: AliasName
    version: int | None = Field(default=None, ge=1, le=2**31 - 1)


class LinkShowBody(LinkBody):
    """The link, what still hangs on each version of the L1, and what keeps the tenant from being sovereign."""


class LinkListBody(Body):
    """Links, of one tenant or of all, in the order of their ids, `limit` at a time."""

    tenant: TenantName | None = None
    after: UUID | None = None
    limit: int = Field(default=500, ge=1, le=1000)


class LinkCutBody(LinkBody):
    """Nothing under the link works until it is restored. One officer's, for stopping must be quick (S14)."""

    why: Why = ""


class LinkRestoreBody(LinkBody):
    """Lift the cut that made this `revision` of the link. Needs a second officer."""

    revision: int = Field(ge=1, le=MAX_INT)
    why: Why = ""


class LinkUnlinkBody(LinkBody):
    """End the link for ever: its inner key is destroyed. Needs a second officer.

    `force` repeats the key's name (as in `key`): then it ends though keys still stand under it.
    """

    version: int = Field(ge=1, le=2**31 - 1)
    force: AliasName | None = None
    why: Why = ""


class LinkDeclareBody(LinkBody):
    """Call the link sovereign: refused while anything could open the tenant's keys without the customer."""

    why: Why = ""


class TenantMoveBody(Body):
    """Give the tenant's L1 (`key`) a new version elsewhere: in a customer's keystore, or (without one) in our token.

    Needs a second officer. What stands under the old version stays there until it is rotated.
    """

    tenant: TenantName
    key: AliasName
    keystore: KeystoreTarget | None = None
    why: Why = ""
