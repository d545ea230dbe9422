"""The row of a region (SECURITY S19)."""

from dataclasses import dataclass
from typing import ClassVar

from worker.model.words import RowRef, Table


@dataclass(frozen=True, slots=True)
class Region:
    """A region is the tokens (by their serials) that may hold the L1s of keys which are bound to it.

    More than one while keys are moved from one token to another, or where a cluster of HSMs shares its objects.
    """

    TABLE: ClassVar[Table] = Table.REGIONS
    id: str
    tenant: str
    serials: tuple[str, ...]
    revision: int

    @property
    def ref(self) -> RowRef:
        """The row's name."""
        return RowRef(Table.REGIONS, self.id)
