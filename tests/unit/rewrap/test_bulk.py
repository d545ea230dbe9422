"""The bulk job over blobs: order, bounds, what is tried again, what is final, and what ends it."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.rewrap.rewraps import BAD, QUICK, Client, a_blob, all_moved, moved
from worker.client import BusRefused, ItemError, NoAnswer, RequestRefused, Rewrapped, Stalled, rewrap_all
from worker.client.inorder import in_order
from worker.model.codes import MEANINGS, Code

Results = list[Rewrapped | ItemError]


async def results(client: Client, blobs: Sequence[bytes]) -> Results:
    return [one async for one in rewrap_all(client, blobs, QUICK)]


@given(many=st.integers(0, 95), bad=st.sets(st.integers(0, 94)))
def test_one_result_for_each_in_order_and_so_many_under_way(many: int, bad: set[int]) -> None:
    blobs = [b"?" if number in bad else a_blob(number) for number in range(many)]
    client = Client()
    assert asyncio.run(results(client, blobs)) == all_moved(blobs)
    assert client.most <= QUICK.at_once
    assert max(client.asked, default=0) <= QUICK.items


async def test_blobs_are_taken_only_as_results_are() -> None:
    taken = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal taken
        for number in range(10_000):
            taken += 1
            yield a_blob(number)

    async with aclosing(rewrap_all(Client(), source(), QUICK)) as found:
        assert await anext(found) == moved(a_blob(0))
        for _ in range(50):
            await asyncio.sleep(0)
    assert taken <= QUICK.at_once * QUICK.items + QUICK.items


async def test_the_target_is_asked_for() -> None:
    client = Client()
    _ = [one async for one in rewrap_all(client, [a_blob(1)], replace(QUICK, to="acme/eu/archive"))]
    assert client.targets == {"acme/eu/archive"}


@pytest.mark.parametrize("code", [code for code, meaning in MEANINGS.items() if meaning.retry])
async def test_what_may_pass_is_asked_again_and_what_is_done_is_not(code: Code) -> None:
    turns: dict[bytes, int] = {}

    def answer(blobs: Sequence[bytes]) -> Results:
        for one in blobs:
            turns[one] = turns.get(one, 0) + 1
        passing = ItemError(code, "later", retry=True)
        return [passing if one in late and turns[one] < 3 else moved(one) for one in blobs]

    blobs = [a_blob(number) for number in range(25)]
    late = set(blobs[3:20:4])
    assert await results(Client(answer), blobs) == all_moved(blobs)
    assert turns == {one: 3 if one in late else 1 for one in blobs}


@pytest.mark.parametrize(
    "trouble",
    [
        NoAnswer("id", {}),
        RequestRefused("THROTTLED", "later", retry=True),
        RequestRefused("DEADLINE_EXCEEDED", "too late"),
        RequestRefused("STALE", "too old"),
    ],
)
async def test_a_request_that_failed_in_passing_is_asked_anew(trouble: Exception) -> None:
    troubles = iter([trouble] * 4)

    def answer(blobs: Sequence[bytes]) -> Results:
        for one in troubles:
            raise one
        return all_moved(blobs)

    blobs = [a_blob(number) for number in range(25)]
    assert await results(Client(answer), blobs) == all_moved(blobs)


@pytest.mark.parametrize("code", ["POISON", "MALFORMED", "TOO_LARGE"])
async def test_one_item_that_spoils_its_request_harms_no_neighbour(code: str) -> None:
    blobs = [a_blob(number) for number in range(25)]
    bad = blobs[13]

    def answer(some: Sequence[bytes]) -> Results:
        if bad in some:
            raise RequestRefused(code, "it")
        return all_moved(some)

    found = await results(Client(answer), blobs)
    assert found[13] == ItemError(code, "it", retry=False)
    assert found[:13] + found[14:] == all_moved(blobs[:13] + blobs[14:])


async def test_a_fleet_that_takes_fewer_items_gets_fewer() -> None:
    def answer(some: Sequence[bytes]) -> Results:
        if len(some) > 3:
            raise RequestRefused("TOO_MANY_ITEMS", "fewer")
        return all_moved(some)

    blobs = [a_blob(number) for number in range(25)]
    assert await results(Client(answer), blobs) == all_moved(blobs)


@pytest.mark.parametrize("error", [RequestRefused("NOT_FOUND", "revoked"), BusRefused("no such topic")])
async def test_a_client_that_is_refused_ends_the_job(error: Exception) -> None:
    def answer(some: Sequence[bytes]) -> Results:
        raise error

    with pytest.raises(type(error)):
        await results(Client(answer), [a_blob(number) for number in range(25)])


async def test_it_gives_up_only_when_nothing_moves_at_all() -> None:
    stuck = ItemError("DEFERRED", "The HSM did not answer in time.", retry=True)
    client = Client(lambda some: [stuck] * len(some))
    with pytest.raises(Stalled, match="DEFERRED: The HSM"):
        _ = [one async for one in rewrap_all(client, [a_blob(1)], replace(QUICK, patience_s=0))]
    assert len(client.asked) >= 1


async def test_results_that_came_before_an_error_are_handed_on() -> None:
    async def work(number: int) -> int:
        await asyncio.sleep(0)
        if number == 5:
            raise ValueError(number)
        return number

    async def source() -> AsyncIterator[int]:
        for number in range(100):
            yield number

    found: list[int] = []
    with pytest.raises(ValueError, match="5"):
        await _into(found, in_order(work, source(), 4))
    assert found == [0, 1, 2, 3, 4]


async def test_the_sources_own_error_comes_last() -> None:
    async def work(number: int) -> int:
        return number

    async def source() -> AsyncIterator[int]:
        yield 1
        raise OSError("the disk")

    found: list[int] = []
    with pytest.raises(OSError, match="the disk"):
        await _into(found, in_order(work, source(), 4))
    assert found == [1]


async def test_who_stops_early_leaves_nothing_running() -> None:
    ended: list[int] = []

    async def work(number: int) -> int:
        try:
            await asyncio.sleep(0 if number == 0 else 3600)
        finally:
            ended.append(number)
        return number

    async def source() -> AsyncIterator[int]:
        for number in range(100):
            yield number

    async with aclosing(in_order(work, source(), 3)) as found:
        async for _ in found:
            break
    assert sorted(ended) == [0, 1, 2]


def test_a_list_an_iterator_and_an_asynchronous_one_serve() -> None:
    def iterator() -> Iterator[bytes]:
        yield a_blob(1)

    async def asynchronous() -> AsyncIterator[bytes]:
        yield a_blob(1)

    async def all_of() -> list[Results]:
        sources: list[Iterable[bytes] | AsyncIterator[bytes]] = [[a_blob(1)], iterator(), asynchronous()]
        return [[one async for one in rewrap_all(Client(), source, QUICK)] for source in sources]

    assert asyncio.run(all_of()) == [[moved(a_blob(1))]] * 3
    assert moved(b"?") == BAD


async def _into(found: list[int], source: AsyncIterator[int]) -> None:
    async for one in source:
        found.append(one)  # noqa: PERF401 - what came before an error counts
