"""Encryptions are leased before they are made (S10)."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from worker.flow.uses import CHUNK, LIMIT, Uses
from worker.model.ids import derived_id
from worker.ports import StoreUnavailable

A, B = (derived_id(1, "a"), 1), (derived_id(1, "b"), 1)


@dataclass
class Book:
    """Leases in memory."""

    leased: Counter[tuple[UUID, int]] = field(default_factory=Counter)
    calls: int = 0
    is_away: bool = False

    async def lease(self, key: UUID, version: int, count: int) -> int:
        if self.is_away:
            raise StoreUnavailable
        self.calls += 1
        await asyncio.sleep(0)
        self.leased[key, version] += count
        return self.leased[key, version]


async def test_a_chunk_serves_many_batches_and_the_sum_leased_counts() -> None:
    book = Book()
    uses = Uses(book)
    for _ in range(CHUNK // 1000):
        assert not await uses.take(Counter({A: 1000}))
    assert (book.leased[A], book.calls) == (CHUNK, 1)
    assert not await uses.take(Counter({A: 1000}))
    assert book.leased[A] == 2 * CHUNK


async def test_batches_at_once_share_one_lease() -> None:
    book = Book()
    uses = Uses(book)
    await asyncio.gather(*(uses.take(Counter({A: 10})) for _ in range(50)))
    assert book.leased[A] == CHUNK


async def test_another_process_burns_what_it_leased() -> None:
    book = Book()
    await Uses(book).take(Counter({A: 1}))
    await Uses(book).take(Counter({A: 1}))
    assert book.leased[A] == 2 * CHUNK


async def test_more_than_a_chunk_is_leased_whole() -> None:
    book = Book()
    assert not await Uses(book).take(Counter({A: CHUNK + 1}))
    assert book.leased[A] == CHUNK + 1


async def test_at_the_limit_one_version_stops_and_no_other() -> None:
    book = Book(Counter({A: LIMIT - CHUNK}))
    uses = Uses(book)
    assert not await uses.take(Counter({A: CHUNK}))
    assert await uses.take(Counter({A: 1, B: 1})) == {A}
    assert await uses.take(Counter({A: 1, B: 1})) == {A}
    assert book.leased[B] == CHUNK


async def test_without_the_store_nothing_is_taken() -> None:
    book = Book(is_away=True)
    uses = Uses(book)
    with pytest.raises(StoreUnavailable):
        await uses.take(Counter({A: 1}))
    book.is_away = False
    assert not await uses.take(Counter({A: 1}))
    assert book.leased[A] == CHUNK
