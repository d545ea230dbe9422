"""Use counts (S10): every encryption under a key version is leased before it is made; what a crash leaves is burnt."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

from cachetools import LRUCache

from worker.ports import Leases

CHUNK = 65_536
LIMIT = 1 << 32
"""NIST SP 800-38D, section 8.3: encryptions under one key with random 96-bit nonces."""
REMEMBERED = 50_000

VersionId = tuple[UUID, int]


@dataclass(slots=True)
class Uses:
    """What this process has leased and not yet used. Forgetting an entry burns what was left of it."""

    leases: Leases
    _left: LRUCache[VersionId, int] = field(default_factory=lambda: LRUCache(REMEMBERED))
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def take(self, wanted: Counter[VersionId]) -> frozenset[VersionId]:
        """Take so many encryptions of each version; the exhausted ones are returned and nothing of them is taken."""
        exhausted = set()
        async with self._lock:
            for version, count in wanted.items():
                left = self._left.get(version, 0)
                if left < count:
                    chunk = max(CHUNK, count)
                    if await self.leases.lease(*version, chunk) > LIMIT:
                        exhausted.add(version)
                        continue
                    left += chunk
                self._left[version] = left - count
        return frozenset(exhausted)
