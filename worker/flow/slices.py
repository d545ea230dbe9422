"""What campaigns ask of the store besides `know` and `settle`: a port of their own, beside their flow."""

from typing import Protocol
from uuid import UUID

from worker.model.audit import Head
from worker.model.campaigns import Lease, Leftovers, Progress, Slice
from worker.model.rows import Campaign, Dek


class Slices(Protocol):
    """Who does which part of a campaign, by the database's clock, and what stands in it. All hints: `settle` guards."""

    async def at_work(self) -> list[tuple[str, UUID]]:
        """Campaigns that are running or verifying, each with its tenant, as unverified rows say."""
        ...

    async def below(self, campaign: UUID) -> list[UUID]:
        """The campaigns that this deep one made."""
        ...

    async def lease(self, campaign: Campaign, *, of_deks: bool, holder: str, seconds: float, size: int) -> Lease:
        """A slice of the campaign's present round, of about `size` DEKs or keys, for so many seconds."""
        ...

    async def release(self, held: Slice) -> None:
        """Give a lease back undone."""
        ...

    async def deks(self, held: Slice, key: UUID, version: int) -> list[Dek]:
        """Stored DEKs of the slice that are under this version by their column or by their blob, by id."""
        ...

    async def versions(self, held: Slice, key: UUID, version: int) -> list[tuple[UUID, int]]:
        """Versions of the keys below, of this slice, that this version wraps and that are not destroyed."""
        ...

    async def leftovers(self, campaign: Campaign, *, of_deks: bool) -> Leftovers:
        """Look at every row once more."""
        ...

    async def progress(self, campaign: UUID) -> Progress:
        """How far it is."""
        ...

    async def digests(self, campaign: UUID) -> list[bytes]:
        """Of the slices that moved something, in their order."""
        ...

    async def checkpoint(self, tenant: str) -> Head:
        """The newest signed checkpoint of the tenant's audit log: its size, and its root as the only hash."""
        ...
