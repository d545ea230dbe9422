"""What every bus does: one suite, run on the fake in memory and on real Kafka."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from tests.stack import Services
from worker.edges.bus.access import KafkaAccess
from worker.edges.bus.admin import KafkaAdmin
from worker.edges.bus.fake import FakeBus, FakeSource
from worker.edges.bus.sink import KafkaSink
from worker.edges.bus.source import KafkaSource, Timing
from worker.model.records import Closed, Outgoing, Partition, Record, Undeliverable
from worker.model.topics import Cleanup, TopicSpec, Writer
from worker.ports import Sink, Source, StaleEpoch

SMALL = 2000
FAST = Timing(session_s=6.0, heartbeat_s=0.1, rebalance_s=6.0, wait_s=0.1)


class OnFake:
    """A topic of two partitions, and a small one, in memory."""

    sink: Sink

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.bus = FakeBus()
        self.bus.create(topic, partitions=2)
        self.bus.create(f"{topic}.small", limit_bytes=SMALL)
        self.sink = self.bus.sink()

    def source(self, group: str) -> FakeSource:
        return self.bus.source(group, [self.topic])


class OnKafka:
    """The same on real Kafka."""

    sink: Sink

    def __init__(self, topic: str, access: KafkaAccess, sink: KafkaSink) -> None:
        self.topic = topic
        self.access = access
        self.sink = sink

    def source(self, group: str) -> KafkaSource:
        return KafkaSource(self.access, f"{self.topic}.{group}", [self.topic], FAST)


@pytest.fixture(params=["fake", "kafka"])
async def bus(request: pytest.FixtureRequest, stack: Services, prefix: str) -> AsyncIterator[OnFake | OnKafka]:
    topic = f"{prefix}.bus"
    if request.param == "fake":
        yield OnFake(topic)
        return
    access = KafkaAccess(stack.kafka)
    async with KafkaAdmin(access) as admin:
        await admin.create(
            [
                TopicSpec(topic, 2, Cleanup.DELETE, 3_600_000, 8_388_608, Writer.CALLERS),
                TopicSpec(f"{topic}.small", 1, Cleanup.DELETE, 3_600_000, SMALL, Writer.CALLERS),
            ],
            replicas=1,
        )
    async with KafkaSink(access, {topic: 8_388_608}.get) as sink:
        yield OnKafka(topic, access, sink)


def outgoing(bus: OnFake | OnKafka, number: int, partition: int = 0, size: int = 1) -> Outgoing:
    value = number.to_bytes(4, "big") + b"x" * size
    return Outgoing(bus.topic, b"key", value, (("name", b"value"), ("name", b"twice")), partition)


async def catch(source: Source, wanted: int, max_records: int = 100, max_bytes: int = 1 << 20) -> list[Record]:
    records: list[Record] = []
    async with asyncio.timeout(60):
        while len(records) < wanted:
            records += (await source.catch(max_records, max_bytes)).records
    return records


def numbers(records: Sequence[Record]) -> list[int]:
    return [int.from_bytes(record.value[:4], "big") for record in records]


async def test_records_come_in_the_order_of_a_partition_with_all_that_was_sent(bus: OnFake | OnKafka) -> None:
    assert await bus.sink.publish([outgoing(bus, number) for number in range(5)]) == [None] * 5
    async with bus.source("g") as source:
        records = await catch(source, 5)
    assert numbers(records) == [0, 1, 2, 3, 4]
    assert [record.offset for record in records] == [0, 1, 2, 3, 4]
    assert records[0].key == b"key"
    assert records[0].headers == (("name", b"value"), ("name", b"twice"))
    assert records[0].partition == Partition(bus.topic, 0)


async def test_a_batch_closes_by_records_by_bytes_or_because_nothing_waits(bus: OnFake | OnKafka) -> None:
    await bus.sink.publish([outgoing(bus, number, size=1000) for number in range(6)])
    async with bus.source("g") as source:
        first = (await source.catch(2, 1 << 20)) if isinstance(bus, OnFake) else None
        while first is None or not first.records:
            first = await source.catch(2, 1 << 20)
        assert (numbers(first.records), first.closed) == ([0, 1], Closed.RECORDS)
        second = await source.catch(100, 2500)
        assert (numbers(second.records), second.closed) == ([2, 3], Closed.BYTES)
        third = await source.catch(100, 10)
        assert (numbers(third.records), third.closed) == ([4], Closed.BYTES), "at least one record, however large"
        rest = await source.catch(100, 1 << 20)
        assert (numbers(rest.records), rest.closed) == ([5], Closed.EMPTY)
        assert (await source.catch(100, 1 << 20)).records == []


async def test_the_next_member_starts_where_the_last_one_committed(bus: OnFake | OnKafka) -> None:
    await bus.sink.publish([outgoing(bus, number) for number in range(4)])
    async with bus.source("g") as source:
        await catch(source, 4)
        await source.commit({Partition(bus.topic, 0): 2})
    async with bus.source("g") as source:
        assert numbers(await catch(source, 2)) == [2, 3]


async def test_a_rewind_returns_to_what_is_committed_under_a_new_epoch(bus: OnFake | OnKafka) -> None:
    partition = Partition(bus.topic, 0)
    await bus.sink.publish([outgoing(bus, number) for number in range(4)])
    async with bus.source("g") as source:
        before = await catch(source, 4)
        assert source.is_current(partition, before[0].epoch)
        await source.commit({partition: 1})
        await source.rewind([partition])
        assert not source.is_current(partition, before[0].epoch)
        after = await catch(source, 3)
    assert numbers(after) == [1, 2, 3]
    assert after[0].epoch > before[0].epoch


async def test_what_waits_beyond_a_batch_is_void_after_a_rewind(bus: OnFake | OnKafka) -> None:
    await bus.sink.publish([outgoing(bus, number, size=1000) for number in range(4)])
    async with bus.source("g") as source:
        await catch(source, 1, max_bytes=10)
        await source.rewind([Partition(bus.topic, 0)])
        assert numbers(await catch(source, 4)) == [0, 1, 2, 3]


async def test_a_paused_partition_gives_nothing_until_it_is_resumed(bus: OnFake | OnKafka) -> None:
    await bus.sink.publish([outgoing(bus, 0), outgoing(bus, 0, partition=1)])
    async with bus.source("g") as source:
        await catch(source, 2)
        source.pause([Partition(bus.topic, 0)])
        await bus.sink.publish([outgoing(bus, 1), outgoing(bus, 2, partition=1)])
        assert numbers(await catch(source, 1)) == [2]
        assert (await source.catch(10, 1 << 20)).records == []
        source.resume([Partition(bus.topic, 0)])
        assert numbers(await catch(source, 1)) == [1]


async def test_two_members_share_and_a_drain_may_still_commit(bus: OnFake | OnKafka) -> None:
    await bus.sink.publish([outgoing(bus, number, partition=number % 2) for number in range(8)])
    async with bus.source("g") as first:
        records = await catch(first, 8)
        drained: list[frozenset[Partition]] = []

        async def drain(partitions: frozenset[Partition]) -> None:
            drained.append(partitions)
            assert all(first.is_current(record.partition, record.epoch) for record in records)
            await first.commit(dict.fromkeys(partitions, 3))

        first.on_revoke(drain)
        async with bus.source("g") as second:
            seen = await both_until(first, second, 2)
            assert drained[0] == {Partition(bus.topic, 0), Partition(bus.topic, 1)}
            assert sorted(numbers(seen)) == [6, 7]
            assert not any(first.is_current(record.partition, record.epoch) for record in records)
            (gone,) = [record.partition for record in seen if second.is_current(record.partition, record.epoch)]
            with pytest.raises(StaleEpoch):
                await first.commit({gone: 4})


async def both_until(first: Source, second: Source, wanted: int) -> list[Record]:
    """Let two members catch side by side until they have so many records, each from one of them."""
    seen: list[Record] = []
    owners: dict[Partition, int] = {}
    async with asyncio.timeout(60):
        while len(seen) < wanted or len(set(owners.values())) < 2:
            for number, catch_ in enumerate(await asyncio.gather(first.catch(10, 1 << 20), second.catch(10, 1 << 20))):
                for record in catch_.records:
                    owners[record.partition] = number
                    seen.append(record)
    return seen


async def test_what_can_never_be_delivered_says_why_and_harms_no_neighbour(bus: OnFake | OnKafka) -> None:
    wide = Outgoing(f"{bus.topic}.small", b"k", b"x" * (SMALL + 1), ())
    slim = Outgoing(f"{bus.topic}.small", b"k", b"x", ())
    gone = Outgoing(f"{bus.topic}.gone", b"k", b"x", ())
    odd = Outgoing(bus.topic, b"k", b"x", (), partition=7)
    good = outgoing(bus, 1)
    for _ in range(2):
        assert await bus.sink.publish([good, wide, slim, gone, odd, good]) == [
            None,
            Undeliverable.TOO_LARGE,
            None,
            Undeliverable.NO_TOPIC,
            Undeliverable.NO_TOPIC,
            None,
        ]
