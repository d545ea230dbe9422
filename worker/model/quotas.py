"""Quotas as data (D10): the row, and what a process leases of it."""

from dataclasses import dataclass
from typing import ClassVar

from worker.model.words import RowRef, Table


@dataclass(frozen=True, slots=True)
class Quota:
    """How much one tenant, or one client of it, may cost in a second, and at once after a rest. Carries a MAC (S7).

    `id` is `tenant` or `tenant/client`; the cost of a request is in `chain.quotas`. `per_second` 0: no limit.
    """

    TABLE: ClassVar[Table] = Table.QUOTAS
    id: str
    tenant: str
    client: str
    per_second: int
    burst: int
    why: str
    set_by: str
    revision: int

    @property
    def ref(self) -> RowRef:
        """The row's name."""
        return quota_ref(self.id)


def quota_ref(id_: str) -> RowRef:
    """The row of this quota."""
    return RowRef(Table.QUOTAS, id_)


@dataclass(frozen=True, slots=True)
class Want:
    """What a process would lease of a quota. `need`: what its next request costs, given whole if anything is there."""

    quota: Quota
    need: int
    want: int


@dataclass(frozen=True, slots=True)
class Lease:
    """What it got, and after how many milliseconds there is something again (0: at once)."""

    granted: int
    wait_ms: int
