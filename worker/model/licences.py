"""Rows that allow: rules and grants. They only allow, so whoever deletes one only denies. Each carries a MAC (S7)."""

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from worker.model.words import RowRef, Suite, Table


@dataclass(frozen=True, slots=True)
class Rule:
    """What one client may do besides what its own row says: permissions × key pattern × the conditions that follow.

    `region` is the key's (empty: any), `not_after_ms` Unix milliseconds. Every one of `context_keys` must stand in the
    item's context; a rewrap shows none, so a rule that demands some allows none. `minimum_suite` is for every seal
    that plaintext travels under in the request. `enrolled_by` names both officers.
    """

    TABLE: ClassVar[Table] = Table.RULES
    id: UUID
    tenant: str
    client: str
    permissions: tuple[str, ...]
    pattern: str
    region: str
    not_after_ms: int
    context_keys: tuple[str, ...]
    minimum_suite: Suite | None
    why: str
    enrolled_by: str
    created_ms: int
    revoked: bool
    revision: int

    @property
    def ref(self) -> RowRef:
        """The row's name."""
        return RowRef(Table.RULES, str(self.id))


@dataclass(frozen=True, slots=True)
class Grant:
    """For a day at most: one client may do this with one key, even where a compromised version has to be opened for it.

    `version` 0 is any. What hangs below the key may be opened through it, too, if the client may use that otherwise.
    """

    TABLE: ClassVar[Table] = Table.GRANTS
    id: UUID
    tenant: str
    client: str
    key: UUID
    version: int
    permissions: tuple[str, ...]
    why: str
    given_by: str
    given_ms: int
    not_after_ms: int
    revoked: bool
    revision: int

    @property
    def ref(self) -> RowRef:
        """The row's name."""
        return RowRef(Table.GRANTS, str(self.id))
