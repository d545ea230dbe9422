"""The row of a HYOK link (SECURITY S13)."""

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from worker.model.keystores import KeystoreAddress, Provider
from worker.model.words import LinkState, RowRef, Table


@dataclass(frozen=True, slots=True)
class Link:
    """Where one version of an L1 stays in its customer's keystore (S13), and what may be done with it.

    `credential` is a name in the workers' settings. `inner` labels the link's inner key in the token `serial`.
    `sovereign`: whatever opened the tenant's keys before this link is destroyed. `cut_revision` is the revision that
    the last cut made: a restore names it. `rotated_ms` is when `external_version` was first seen, if there was another
    before it.
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
    rotated_ms: int = 0

    @property
    def ref(self) -> RowRef:
        """The row's name."""
        return RowRef(Table.LINKS, str(self.id))

    @property
    def address(self) -> KeystoreAddress:
        """The customer's key in the customer's keystore."""
        return KeystoreAddress(self.provider, self.endpoint, self.external_key, self.credential)
