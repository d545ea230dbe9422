"""Stored DEKs of a tenant, remembered by their digests, and clients that make more and read them back all the time.

Every answer is looked at: a DEK is the one that was made, or its row is one that somebody damaged; and a row that was
seen under a version is never seen under an older one later.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from typing import NamedTuple
from uuid import UUID

from tests.fleet import Fleet, House
from worker.client import ItemError, KeyriverClient, Unwrapped, WrappedDek
from worker.model.bodies import DekItem

PORTION = 1000
AT_ONCE = 6
"""Requests of a portion that are under way at the same time."""
ROWS = 1000
"""So many contexts there are."""
SIZES = (1, 1, 1, 2, 5, 10)
PAUSE_S = 0.02
"""Between an answer and the next request of one loop."""


class Made(NamedTuple):
    """What is remembered of one DEK."""

    row: int
    digest: bytes


def digest_of(dek: bytes) -> bytes:
    return blake2b(dek, digest_size=16).digest()


def context_of(row: int) -> dict[str, str]:
    return {"row": str(row)}


@dataclass
class Memory:
    """`broken`: rows that may be refused. `seen`: the newest version under which a reader saw a row."""

    house: House
    chance: Random
    made: dict[UUID, Made] = field(default_factory=dict, repr=False)
    ids: list[UUID] = field(default_factory=list, repr=False)
    broken: set[UUID] = field(default_factory=set)
    seen: dict[UUID, int] = field(default_factory=dict, repr=False)
    reads: int = 0
    wraps: int = 0

    async def fill(self, count: int) -> None:
        """So many DEKs, as fast as it goes."""
        rows = range(PORTION)

        async def portion(number: int) -> None:
            some = rows[: min(PORTION, count - number * PORTION)]
            self._keep(await self.house.client.generate(self.house.key, contexts=list(map(context_of, some))), some)

        await _all(portion(number) for number in range(-(-count // PORTION)))

    async def check(self) -> None:
        """Every DEK is what it was, under the newest version."""
        ids = list(self.made)

        async def portion(start: int) -> None:
            await self.read(self.house.client, ids[start : start + PORTION])

        await _all(portion(start) for start in range(0, len(ids), PORTION))
        assert set(self.seen.values()) == {max(self.seen.values())}
        assert self.seen.keys() == self.made.keys()

    async def read(self, client: KeyriverClient, ids: Sequence[UUID]) -> None:
        """Unwrap these."""
        before = [self.seen.get(id_, 0) for id_ in ids]
        items = [DekItem(id=id_, context=context_of(self.made[id_].row)) for id_ in ids]
        for id_, seen, one in zip(ids, before, await client.unwrap(items), strict=True):
            if isinstance(one, Unwrapped):
                assert digest_of(one.dek) == self.made[id_].digest, f"another DEK under {id_}"
                assert one.version >= seen, f"{id_} went back from version {seen} to {one.version}"
                self.seen[id_] = max(one.version, self.seen.get(id_, 0))
            else:
                assert id_ in self.broken, f"{id_} is whole and was refused: {one.code}"
            self.reads += 1

    async def write(self, client: KeyriverClient, version: int) -> None:
        """A few new ones, made in the token or by ourselves; each is read back."""
        rows = [self.chance.randrange(ROWS) for _ in range(self.chance.choice(SIZES))]
        contexts = [context_of(row) for row in rows]
        if self.chance.random() < 0.5:
            found = await client.generate(self.house.key, contexts=contexts)
            ids = self._keep(found, rows)
        else:
            deks = [self.chance.randbytes(32) for _ in rows]
            found = await client.wrap(self.house.key, deks, contexts=contexts)
            ids = self._keep(found, rows, deks)
        assert {one.version for one in found if isinstance(one, WrappedDek)} == {version}
        self.wraps += len(ids)
        await self.read(client, ids)

    def _keep(
        self, found: Sequence[WrappedDek | ItemError], rows: Sequence[int], own: Sequence[bytes] = ()
    ) -> list[UUID]:
        ids = []
        for place, (one, row) in enumerate(zip(found, rows, strict=True)):
            assert isinstance(one, WrappedDek), one
            dek = own[place] if own else one.dek
            assert one.id is not None
            assert dek is not None
            assert one.id not in self.made, "an id was given twice"
            self.made[one.id] = Made(row, digest_of(dek))
            ids.append(one.id)
        self.ids += ids
        return ids

    @asynccontextmanager
    async def load(self, fleet: Fleet, version: int) -> AsyncIterator[None]:
        """Two clients read and write while the block lasts; what is made is made under this version."""
        other = await fleet.client(await fleet.service(self.house.tenant))
        over = asyncio.Event()

        async def reading(client: KeyriverClient) -> None:
            while not over.is_set():
                await self.read(client, self.chance.sample(self.ids, self.chance.choice(SIZES)))
                await asyncio.sleep(PAUSE_S)

        async def writing(client: KeyriverClient) -> None:
            while not over.is_set():
                await self.write(client, version)
                await asyncio.sleep(PAUSE_S)

        async with asyncio.TaskGroup() as loops:
            for client in (self.house.client, other):
                loops.create_task(reading(client))
                loops.create_task(writing(client))
            yield
            over.set()


async def _all(tasks: Iterator[Awaitable[None]]) -> None:
    """So many of them at once, in turn."""

    async def one_after_another() -> None:
        for task in tasks:
            await task

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_another())
