"""Single items that come together travel together; many items are split; one bad one harms no neighbour."""

import asyncio

import pytest

from tests.unit.client.fleet import KEK, Asked, Fleet, MemoryTransport
from tests.unit.client.test_client import KEY, the_dek
from worker.client import ItemError, KeyriverClient, Options, RequestRefused, WrappedDek
from worker.model.bodies import DekItem, RewrapItem, WrapBody
from worker.model.codes import Code
from worker.model.records import Entry
from worker.model.rows import Suite
from worker.model.topics import REQUEST_LIMIT_BYTES

ONE_TICK = Options(window_s=0.05)


async def test_concurrent_single_items_share_a_request_and_each_gets_its_own() -> None:
    fleet = Fleet()
    transport = MemoryTransport(fleet)
    async with KeyriverClient(fleet.identity, transport, ONE_TICK) as keys:
        made = await asyncio.gather(*[keys.generate(KEY, contexts=[{"n": str(number)}]) for number in range(50)])
    assert len(transport.sent) == 1
    body = fleet.asked[0].body
    assert isinstance(body, WrapBody)
    assert [item.context["n"] for item in body.items] == [str(number) for number in range(50)]
    assert len({the_dek(one) for (one,) in made}) == 50


async def test_a_batch_that_is_full_does_not_wait() -> None:
    fleet = Fleet()
    transport = MemoryTransport(fleet)
    options = Options(window_s=3600, most_items=10)
    async with KeyriverClient(fleet.identity, transport, options) as keys:
        made = await asyncio.gather(*[keys.generate(KEY) for _ in range(20)])
    assert len(made) == 20
    assert [len(asked.body.items) for asked in fleet.asked if isinstance(asked.body, WrapBody)] == [10, 10]


async def test_other_keys_and_other_wishes_are_other_requests() -> None:
    fleet = Fleet()
    transport = MemoryTransport(fleet)
    async with KeyriverClient(fleet.identity, transport, ONE_TICK) as keys:
        await asyncio.gather(keys.generate(KEY), keys.generate("acme/other"), keys.generate(KEY, store=False))
    assert len(transport.sent) == 3
    assert sorted({record.key or b"" for record in transport.sent}) == [b"acme/acme/eu/payments", b"acme/acme/other"]


async def test_a_refusal_of_the_whole_is_only_that_of_the_item_at_fault() -> None:
    fleet = Fleet()

    def strict(fleet: Fleet, asked: Asked) -> list[Entry]:
        assert isinstance(asked.body, WrapBody)
        if any("bad" in item.context for item in asked.body.items):
            return [fleet.reply(asked, error=Code.CONTEXT_TOO_LARGE)]
        return fleet.answer(asked)

    async with KeyriverClient(fleet.identity, MemoryTransport(fleet, strict), ONE_TICK) as keys:
        calls = [keys.generate(KEY, contexts=[{name: ""}]) for name in ("good", "bad", "better")]
        first, second, third = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(first, list)
    assert isinstance(third, list)
    assert isinstance(second, RequestRefused)


async def test_one_who_leaves_takes_nobody_along() -> None:
    fleet = Fleet()
    async with KeyriverClient(fleet.identity, MemoryTransport(fleet), ONE_TICK) as keys:
        leaving, staying = [asyncio.create_task(keys.generate(KEY)) for _ in range(2)]
        await asyncio.sleep(0)
        leaving.cancel()
        assert len(the_dek((await staying)[0])) == 32
        assert leaving.cancelled()


async def test_when_all_have_left_nothing_is_sent() -> None:
    fleet = Fleet()
    transport = MemoryTransport(fleet)
    async with KeyriverClient(fleet.identity, transport, Options(window_s=0.001)) as keys:
        leaving = asyncio.create_task(keys.generate(KEY))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        while keys._batcher._open:
            await asyncio.sleep(0.001)
    assert not transport.sent


async def test_closing_the_client_cancels_who_waits() -> None:
    fleet = Fleet()
    asked = asyncio.Event()

    def silent(fleet: Fleet, request: Asked) -> list[Entry]:
        asked.set()
        return []

    async with KeyriverClient(fleet.identity, MemoryTransport(fleet, silent)) as keys:
        sent = asyncio.create_task(keys.generate(KEY))
        await asked.wait()
        waiting = asyncio.create_task(keys.generate(KEY))
        await asyncio.sleep(0)
    done = await asyncio.gather(sent, waiting, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in done)


async def test_many_items_are_split_and_come_back_in_order() -> None:
    fleet = Fleet()
    transport = MemoryTransport(fleet)
    blobs = [number.to_bytes(4, "big") for number in range(2500)]
    async with KeyriverClient(fleet.identity, transport) as keys:
        moved = await keys.rewrap([RewrapItem(blob=blob) for blob in blobs])
        assert await keys.rewrap([]) == []
    assert [one.blob for one in moved if not isinstance(one, ItemError)] == blobs
    assert len(transport.sent) == 3


async def test_a_body_over_the_limit_is_split_too() -> None:
    fleet = Fleet()
    transport = MemoryTransport(fleet)
    blobs = [bytes(1000) + number.to_bytes(4, "big") for number in range(1900)]
    async with KeyriverClient(fleet.identity, transport, Options(most_items=2000)) as keys:
        moved = await keys.rewrap([RewrapItem(blob=blob) for blob in blobs])
    assert [one.blob for one in moved if not isinstance(one, ItemError)] == blobs
    assert len(transport.sent) > 1
    assert all(len(record.value or b"") <= REQUEST_LIMIT_BYTES for record in transport.sent)


async def test_a_body_just_below_the_limit_leaves_room_for_its_headers() -> None:
    """The limit is the whole record's: key, value and headers."""
    fleet = Fleet(Suite.MLKEM768_X25519)
    transport = MemoryTransport(fleet)
    context = {"for": "x" * 2000}
    each = len(DekItem(id=KEK, context=context).model_dump_json(exclude_defaults=True)) + 1
    count, rest = divmod(REQUEST_LIMIT_BYTES - len('{"items":[]}'), each)
    items = [DekItem(id=KEK, context=context)] * count + [DekItem(id=KEK, context={"for": "x" * (rest - 100)})]
    async with KeyriverClient(fleet.identity, transport, Options(most_items=2000)) as keys:
        assert len(await keys.unwrap(items)) == count + 1
    sizes = [
        len(one.key or b"") + len(one.value or b"") + sum(len(name) + len(value) for name, value in one.headers)
        for one in transport.sent
    ]
    assert max(sizes) <= REQUEST_LIMIT_BYTES
    assert len(sizes) == 2


async def test_of_several_requests_a_refused_one_costs_only_its_own_items() -> None:
    fleet = Fleet()

    def second_refused(fleet: Fleet, asked: Asked) -> list[Entry]:
        return fleet.answer(asked) if len(fleet.asked) != 2 else [fleet.reply(asked, error=Code.STALE)]

    async with KeyriverClient(
        fleet.identity, MemoryTransport(fleet, second_refused), Options(most_items=2, at_once=1)
    ) as keys:
        made = await keys.generate(KEY, 6)
    assert [isinstance(one, WrappedDek) for one in made] == [True, True, False, False, True, True]
    assert [one.code for one in made if isinstance(one, ItemError)] == ["STALE", "STALE"]


async def test_of_several_requests_an_unanswered_one_is_raised() -> None:
    fleet = Fleet()

    def first_only(fleet: Fleet, asked: Asked) -> list[Entry]:
        return fleet.answer(asked) if len(fleet.asked) == 1 else []

    async with KeyriverClient(fleet.identity, MemoryTransport(fleet, first_only), Options(most_items=1)) as keys:
        with pytest.raises(Exception, match="no answer"):
            await keys.generate(KEY, 2, timeout_s=0.05)
