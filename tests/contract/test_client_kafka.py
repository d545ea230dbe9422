"""The client over real Kafka, against a scripted fleet: positions before the first send, a broker that dies."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from blockbuster import BlockBuster

from tests.stack import Services
from tests.unit.client.fleet import Asked, Fleet, Reaction, a_worker
from tests.unit.client.test_forgeries import STRANGER, changed_body, of_another_request, unsigned
from worker.client import BusDown, BusRefused, Envelope, KafkaTransport, KeyriverClient, Options, WrappedDek
from worker.client.calls import Pace
from worker.local import Stack
from worker.model.bodies import DekItem, KeyShowBody
from worker.model.operations import Operation
from worker.model.records import Entry, Outgoing
from worker.model.replies import KeyResult
from worker.model.topics import Topics

KEY = "acme/eu/payments"


async def create(bootstrap: str, topics: dict[str, int]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        big = {"max.message.bytes": "8388608"}
        await admin.create_topics([NewTopic(name, count, 1, topic_configs=big) for name, count in topics.items()])
    finally:
        await admin.close()


def topics_of(prefix: str) -> dict[str, int]:
    topics = Topics(prefix)
    return {topics.wrap: 3, topics.unwrap: 3, topics.keys: 1, topics.replies: 4, topics.intake: 1}


def a_client(bootstrap: str, prefix: str, fleet: Fleet, **chosen: Any) -> KeyriverClient:  # noqa: ANN401 - options of any type
    transport = KafkaTransport({"bootstrap_servers": bootstrap})
    return KeyriverClient(fleet.identity, transport, Options(prefix=prefix, **chosen))


def a_fleet(prefix: str) -> Fleet:
    fleet = Fleet()
    fleet.identity = dataclasses.replace(fleet.identity, reply_topic=Topics(prefix).replies)
    return fleet


async def announce(bootstrap: str, prefix: str, said: Iterable[tuple[bytes, bytes]]) -> None:
    async with producing(bootstrap) as producer:
        for key, value in said:
            await producer.send_and_wait(Topics(prefix).intake, key=key, value=value)


@asynccontextmanager
async def producing(bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=8_388_608)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def working(bootstrap: str, prefix: str, fleet: Fleet, reaction: Reaction = Fleet.answer) -> AsyncIterator[None]:
    """The fleet reads its request topics and answers, until the block ends."""
    topics = Topics(prefix)
    spots = [
        TopicPartition(topic, number)
        for topic, count in topics_of(prefix).items()
        if topic in (topics.wrap, topics.unwrap, topics.keys)
        for number in range(count)
    ]
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=20)
    await consumer.start()
    consumer.assign(spots)
    async with producing(bootstrap) as producer:
        task = asyncio.create_task(_work(consumer, producer, fleet, reaction))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await consumer.stop()


async def _work(consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, fleet: Fleet, reaction: Reaction) -> None:
    async for record in consumer:
        read = fleet.read(Outgoing(record.topic, record.key, record.value, tuple(record.headers)))
        for one in reaction(fleet, read):
            await producer.send_and_wait(
                one.partition.topic, value=one.value, headers=list(one.headers), partition=one.partition.number
            )


async def test_a_round_trip_of_every_kind(stack: Services, prefix: str, no_blocking: BlockBuster) -> None:
    fleet = a_fleet(prefix)
    await create(stack.kafka, topics_of(prefix))
    await announce(stack.kafka, prefix, [fleet.certificate(), fleet.intake_key()])
    async with (
        working(stack.kafka, prefix, fleet),
        a_client(stack.kafka, prefix, fleet) as keys,
    ):
        made = await keys.generate(KEY, 1500)
        assert len({one.dek for one in made if isinstance(one, WrappedDek)}) == 1500
        first = made[0]
        assert isinstance(first, WrappedDek)
        (got,) = await keys.unwrap([DekItem(id=first.id)])
        assert getattr(got, "dek", None) == first.dek
        (own,) = await keys.wrap(KEY, [bytes(32)], store=False)
        assert isinstance(own, WrappedDek)
        shown = await keys.command(Operation.KEY_SHOW, KeyShowBody(tenant="acme", key=KEY))
        assert isinstance(shown, KeyResult)
        envelope = Envelope(keys, KEY)
        sealed = await envelope.encrypt(b"a record", {"table": "customers"})
        assert await envelope.decrypt(sealed, {"table": "customers"}) == b"a record"
        assert not keys.refused


async def test_a_client_that_starts_listens_before_it_sends(stack: Services, prefix: str) -> None:
    """Many clients at once, each with its first call at once: no answer may fall before its position."""
    fleet = a_fleet(prefix)
    await create(stack.kafka, topics_of(prefix))
    await announce(stack.kafka, prefix, [fleet.certificate(), fleet.intake_key()])

    async def one() -> int:
        async with a_client(stack.kafka, prefix, fleet, pace=Pace(answer_s=3600)) as keys:
            return len(await keys.generate(KEY, 2))

    async with working(stack.kafka, prefix, fleet):
        assert await asyncio.gather(*[one() for _ in range(10)]) == [2] * 10
    assert len(fleet.asked) == 10


async def test_a_certificate_that_is_announced_later_is_waited_for(stack: Services, prefix: str) -> None:
    fleet = a_fleet(prefix)
    await create(stack.kafka, topics_of(prefix))
    async with (
        working(stack.kafka, prefix, fleet),
        a_client(stack.kafka, prefix, fleet, patience_s=60) as keys,
    ):
        asking = asyncio.create_task(keys.wrap(KEY, [bytes(32)]))
        await announce(stack.kafka, prefix, [fleet.intake_key()])
        while not keys._sender._replies._parked:
            await asyncio.sleep(0.01)
        await announce(stack.kafka, prefix, [fleet.certificate()])
        assert isinstance((await asking)[0], WrappedDek)


async def test_whoever_can_write_the_fleets_topics_gives_nobody_a_key(stack: Services, prefix: str) -> None:
    """S1: forged answers come first, under a forged certificate, and a forged intake key is the newest."""
    fleet, forger = a_fleet(prefix), a_worker()
    await create(stack.kafka, topics_of(prefix))
    forged = [fleet.certificate(forger, by=STRANGER), fleet.intake_key(7, by=STRANGER)]
    await announce(stack.kafka, prefix, [fleet.certificate(), fleet.intake_key(), *forged])

    def contested(fleet: Fleet, asked: Asked) -> list[Entry]:
        (true,) = fleet.answer(asked)
        false = fleet.reply(asked, *fleet.done[asked.id], worker=forger)
        return [false, *[forge(fleet, asked) for forge in (unsigned, changed_body, of_another_request)], true]

    async with working(stack.kafka, prefix, fleet, contested), a_client(stack.kafka, prefix, fleet) as keys:
        (made,) = await keys.wrap(KEY, [bytes(range(32))], store=False)
        assert isinstance(made, WrappedDek)
        (back,) = await keys.unwrap([DekItem(blob=made.blob)])
        assert getattr(back, "dek", None) == bytes(range(32))
        assert keys.refused["unsigned"] == 2
        assert keys.refused["signature"] == 4
        assert keys.refused["the announcement is refused: the fleet's key did not sign it"] == 2


@pytest.mark.parametrize("missing", ["replies", "intake"])
async def test_a_missing_topic_is_named_at_once(stack: Services, prefix: str, missing: str) -> None:
    fleet = a_fleet(prefix)
    name = getattr(Topics(prefix), missing)
    await create(stack.kafka, {topic: count for topic, count in topics_of(prefix).items() if topic != name})
    with pytest.raises(BusRefused, match=name):
        async with a_client(stack.kafka, prefix, fleet):
            pass


async def test_a_missing_request_topic_refuses_the_call(stack: Services, prefix: str) -> None:
    fleet = a_fleet(prefix)
    names = topics_of(prefix)
    del names[Topics(prefix).wrap]
    await create(stack.kafka, names)
    transport = KafkaTransport({"bootstrap_servers": stack.kafka}, answer_s=1.0)
    async with KeyriverClient(fleet.identity, transport, Options(prefix=prefix)) as keys:
        with pytest.raises(BusRefused, match=r"no topic .*wrap"):
            await keys.generate(KEY)


async def test_no_broker_says_so() -> None:
    transport = KafkaTransport({"bootstrap_servers": "127.0.0.1:9"})
    with pytest.raises(BusDown, match=r"127\.0\.0\.1:9"):
        async with KeyriverClient(Fleet().identity, transport, Options()):
            pass


async def test_a_broker_that_dies_and_returns_costs_no_call(own_stack: Stack) -> None:
    """Calls that are under way when the broker is killed end well; so do those made while it is away."""
    prefix = "t-restart"
    bootstrap = own_stack.kafka.bootstrap
    fleet = a_fleet(prefix)
    await create(bootstrap, topics_of(prefix))
    await announce(bootstrap, prefix, [fleet.certificate(), fleet.intake_key()])
    async with a_client(bootstrap, prefix, fleet, timeout_s=120, pace=Pace(answer_s=1.0)) as keys:
        async with working(bootstrap, prefix, fleet):
            await keys.generate(KEY)
        under_way = asyncio.create_task(keys.generate(KEY, 3))
        await asyncio.sleep(0)
        await asyncio.to_thread(own_stack.kafka.kill)
        while_away = asyncio.create_task(keys.generate(KEY, 4))
        await asyncio.sleep(0)
        await asyncio.to_thread(own_stack.kafka.start)
        async with working(bootstrap, prefix, fleet):
            assert len(await under_way) == 3
            assert len(await while_away) == 4
            assert len(await keys.generate(KEY, 5)) == 5


async def test_a_request_over_the_topics_limit_is_refused_and_not_retried(stack: Services, prefix: str) -> None:
    fleet = a_fleet(prefix)
    await create(stack.kafka, topics_of(prefix))
    transport = KafkaTransport({"bootstrap_servers": stack.kafka})
    async with KeyriverClient(fleet.identity, transport, Options(prefix=prefix)):
        with pytest.raises(BusRefused):
            await transport.send(Outgoing(Topics(prefix).wrap, b"k", bytes(9_000_000), ()))
    with pytest.raises(BusRefused, match="closed"):
        await transport.send(Outgoing(Topics(prefix).wrap, b"k", b"", ()))
