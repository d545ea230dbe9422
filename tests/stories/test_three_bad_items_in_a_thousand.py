"""A batch of a thousand with three bad items beside eight busy clients: 997 results, three errors, nobody else harmed.

One corrupt ciphertext beside seven decrypting threads ended a peer's process (STYLE, Barbican), hence the repetitions.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from tests.fleet import Fleet, House
from worker.client.results import ItemError, Unwrapped, WrappedDek
from worker.model.bodies import DekItem

THOUSAND = 1000
CONTEXT = {"table": "invoices"}


@pytest.mark.parametrize("repetitions", [5, pytest.param(1000, marks=[pytest.mark.storm, pytest.mark.timeout(3600)])])
async def test_997_results_and_three_errors(fleet: Fleet, house: House, repetitions: int) -> None:
    # Given a thousand DEKs, and one of another tenant's
    made = await house.client.generate(house.key, contexts=[CONTEXT] * THOUSAND, store=False)
    good = [one for one in made if isinstance(one, WrappedDek)]
    other = await fleet.tenant()
    (foreign,) = await other.client.generate(other.key, contexts=[CONTEXT], store=False)
    assert isinstance(foreign, WrappedDek)
    assert len(good) == THOUSAND
    chance = Random(THOUSAND)  # noqa: S311 - where the bad items stand
    at_work = [member for member in fleet.members if member.is_running]  # other stories may have ended some

    async with _eight_busy_clients(house):
        for _ in range(repetitions):
            # When three of them are bad, each in its own way
            flipped, stolen, misplaced = chance.sample(range(THOUSAND), 3)
            items = [DekItem(blob=one.blob, context=CONTEXT) for one in good]
            items[flipped] = DekItem(blob=_flip(good[flipped].blob or b"", chance), context=CONTEXT)
            items[stolen] = DekItem(blob=foreign.blob, context=CONTEXT)
            items[misplaced] = DekItem(blob=good[misplaced].blob, context={"table": "orders"})
            back = await house.client.unwrap(items)

            # Then these three are refused, and all others are what they were
            refused = {index: one.code for index, one in enumerate(back) if isinstance(one, ItemError)}
            assert refused == {flipped: "UNWRAP_FAILED", stolen: "NOT_FOUND", misplaced: "UNWRAP_FAILED"}
            assert all(one.dek == good[index].dek for index, one in enumerate(back) if isinstance(one, Unwrapped))

    # And the worker is the one that was there before
    assert at_work
    assert all(member.is_running for member in at_work)


def _flip(blob: bytes, chance: Random) -> bytes:
    """One bit of nonce, ciphertext or tag; the header (41 bytes) names the key and is another story."""
    place = chance.randrange(41, len(blob))
    return blob[:place] + bytes([blob[place] ^ 1 << chance.randrange(8)]) + blob[place + 1 :]


@asynccontextmanager
async def _eight_busy_clients(house: House) -> AsyncIterator[None]:
    """Eight callers that generate and unwrap all the time, and never meet an error."""
    stop = asyncio.Event()

    async def busy() -> None:
        while not stop.is_set():
            made = [one for one in await house.client.generate(house.key, 5) if isinstance(one, WrappedDek)]
            back = await house.client.unwrap([DekItem(id=one.id) for one in made])
            assert [one.dek for one in back if isinstance(one, Unwrapped)] == [one.dek for one in made]
            assert len(made) == 5

    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(busy())
        yield
        stop.set()
