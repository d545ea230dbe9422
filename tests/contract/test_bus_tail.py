"""A topic read without a group, on real Kafka."""

import pytest

from tests.stack import Services
from worker.edges.bus.access import KafkaAccess
from worker.edges.bus.admin import KafkaAdmin
from worker.edges.bus.sink import KafkaSink
from worker.edges.bus.tail import Tail
from worker.model.records import Entry, Outgoing
from worker.model.topics import Cleanup, TopicSpec, Writer
from worker.ports import BusUnavailable


@pytest.fixture
async def topic(stack: Services, prefix: str) -> str:
    name = f"{prefix}.tail"
    async with KafkaAdmin(KafkaAccess(stack.kafka)) as admin:
        await admin.create([TopicSpec(name, 2, Cleanup.COMPACT, None, 1 << 20, Writer.WORKERS)], replicas=1)
    return name


def entry(topic: str, number: int) -> Outgoing:
    value = None if number % 5 == 4 else b"%d" % number
    return Outgoing(topic, b"key%d" % number, value, (("h", b"1"),), number % 2)


async def test_all_that_was_there_is_read_and_then_what_comes(stack: Services, topic: str) -> None:
    access = KafkaAccess(stack.kafka)
    async with KafkaSink(access, {topic: 1 << 20}.get) as sink:
        await sink.publish([entry(topic, number) for number in range(3000)])
        async with Tail(access, topic) as tail:
            entries = await tail.catch_up()
            assert {each.key for each in entries} == {b"key%d" % number for number in range(3000)}
            assert {each.value for each in entries if each.key == b"key4"} == {None}, "a tombstone"
            assert await tail.catch_up() == []
            await sink.publish([entry(topic, 3000)])
            while not (seen := await tail.wait(1.0)):
                pass
            assert [each.key for each in seen] == [b"key3000"]


async def test_what_was_read_when_the_broker_fell_silent_is_read_again(
    stack: Services, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a worker's certificate could be lost, and its hints with it, until the next restart."""
    access = KafkaAccess(stack.kafka)
    async with KafkaSink(access, {topic: 1 << 20}.get) as sink:
        await sink.publish([entry(topic, number) for number in range(3000)])
        async with Tail(access, topic) as tail:
            wait, waits = tail.wait, 0

            async def falls_silent(seconds: float) -> list[Entry]:
                nonlocal waits
                waits += 1
                if waits == 2:
                    raise BusUnavailable("silent")
                return await wait(seconds)

            monkeypatch.setattr(tail, "wait", falls_silent)
            with pytest.raises(BusUnavailable, match="silent"):
                await tail.catch_up()
            keys = {each.key for each in await tail.catch_up()}
            assert keys == {b"key%d" % number for number in range(3000)}
            assert await tail.catch_up() == []


async def test_from_its_end_only_what_comes_is_read(stack: Services, topic: str) -> None:
    access = KafkaAccess(stack.kafka)
    async with KafkaSink(access, {topic: 1 << 20}.get) as sink:
        await sink.publish([entry(topic, 1)])
        async with Tail(access, topic, from_end=True) as tail:
            await sink.publish([entry(topic, 2)])
            assert [each.key for each in await tail.catch_up()] == [b"key2"]


async def test_an_empty_topic_is_caught_up_at_once(stack: Services, topic: str) -> None:
    async with Tail(KafkaAccess(stack.kafka), topic) as tail:
        assert await tail.catch_up() == []


async def test_a_missing_topic_and_a_missing_broker_say_what_to_look_at(stack: Services, prefix: str) -> None:
    with pytest.raises(BusUnavailable, match="is it there, and may we"):
        await Tail(KafkaAccess(stack.kafka), f"{prefix}.missing").__aenter__()
    with pytest.raises(BusUnavailable, match="no broker listens there; or it wants TLS there"):
        await Tail(KafkaAccess("127.0.0.1:1"), f"{prefix}.missing").__aenter__()
