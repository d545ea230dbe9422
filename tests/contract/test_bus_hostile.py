"""What hostile or careless neighbours on a real cluster can do, and what it costs: their own record alone."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from tests.stack import Services
from worker.edges.bus.access import KafkaAccess, Protocol
from worker.edges.bus.admin import KafkaAdmin
from worker.edges.bus.lenient import MAX_HEADERS
from worker.edges.bus.sink import KafkaSink
from worker.edges.bus.source import KafkaSource, Timing
from worker.model.records import Outgoing, Record, Undeliverable
from worker.model.topics import TOPIC_LIMIT_BYTES, Cleanup, TopicSpec, Writer
from worker.ports import BusUnavailable


@pytest.fixture
async def topic(stack: Services, prefix: str) -> str:
    """A request topic."""
    spec = TopicSpec(f"{prefix}.in", 1, Cleanup.DELETE, 3_600_000, TOPIC_LIMIT_BYTES, Writer.CALLERS, is_request=True)
    async with KafkaAdmin(KafkaAccess(stack.kafka)) as admin:
        assert await admin.create([spec], replicas=1) == [spec.name]
        assert await admin.create([spec], replicas=1) == []
        async with asyncio.timeout(60):  # the broker's list may lag a moment behind
            while await admin.differences([spec]):
                await asyncio.sleep(0.05)
    return spec.name


@pytest.fixture
async def admin(stack: Services) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    await client.start()
    yield client
    await client.close()


class Mangled(str):
    """A header name that is no UTF-8 on the wire."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:  # noqa: ARG002
        return b"\xff\xfe"


async def caught(stack: Services, topic: str, count: int) -> list[Record]:
    records: list[Record] = []
    async with asyncio.timeout(60), KafkaSource(KafkaAccess(stack.kafka), topic, [topic], Timing(wait_s=0.1)) as source:
        while len(records) < count:
            records += (await source.catch(100, 1 << 26)).records
    return records


async def test_a_header_name_that_is_no_text_stops_no_partition(stack: Services, topic: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=stack.kafka) as producer:
        batch = producer.create_batch()
        batch._builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, 0, 1 << 20)
        for number in range(5):
            headers = [(Mangled("x"), b"v")] if number == 2 else []
            batch.append(key=None, value=b"%d" % number, timestamp=None, headers=headers)
        await producer.send_batch(batch, topic, partition=0)
        await producer.send_and_wait(topic, b"5", headers=[("n", None)])
    records = await caught(stack, topic, 6)
    assert [record.value for record in records] == [b"%d" % number for number in range(6)]
    assert [record.offset for record in records] == list(range(6))
    assert records[2].headers == (("\\xff\\xfe", b"v"),)
    assert records[5].headers == (("n", b""),)


async def test_what_unpacks_beyond_the_limit_is_refused_by_the_broker(stack: Services, topic: str) -> None:
    huge = bytes(3 * TOPIC_LIMIT_BYTES)
    async with AIOKafkaProducer(
        bootstrap_servers=stack.kafka, compression_type="gzip", max_request_size=1 << 26
    ) as producer:
        with pytest.raises(MessageSizeTooLargeError):
            await producer.send_and_wait(topic, huge)


async def test_the_largest_record_passes_and_a_larger_one_of_ours_is_not_even_sent(stack: Services, topic: str) -> None:
    async with KafkaSink(KafkaAccess(stack.kafka), {topic: TOPIC_LIMIT_BYTES}.get) as sink:
        largest = Outgoing(topic, b"k", bytes(TOPIC_LIMIT_BYTES - 9000), ())
        larger = Outgoing(topic, b"k", bytes(TOPIC_LIMIT_BYTES), ())
        assert await sink.publish([largest, larger, largest]) == [None, Undeliverable.TOO_LARGE, None]
    assert [len(record.value) for record in await caught(stack, topic, 2)] == [TOPIC_LIMIT_BYTES - 9000] * 2


async def test_a_reply_topic_that_is_deleted_meanwhile_is_noticed(
    stack: Services, prefix: str, topic: str, admin: AIOKafkaAdminClient
) -> None:
    theirs = f"{prefix}.theirs"
    await admin.create_topics([NewTopic(theirs, 1, 1)])
    reply, ours = Outgoing(theirs, b"k", b"v", ()), Outgoing(topic, b"k", b"v", ())
    async with KafkaSink(KafkaAccess(stack.kafka), {topic: TOPIC_LIMIT_BYTES}.get) as sink:
        assert await sink.publish([reply, ours]) == [None, None]
        await admin.delete_topics([theirs])
        outcome: list[Undeliverable | None] = [None]
        async with asyncio.timeout(60):
            while outcome[0] is None:  # the broker deletes in its own time
                outcome = await sink.publish([reply, ours])
        assert outcome == [Undeliverable.NO_TOPIC, None]
        assert await sink.publish([reply, ours]) == [Undeliverable.NO_TOPIC, None]


async def test_a_reply_topic_that_wants_keys_refuses_a_record_without_one(
    stack: Services, prefix: str, topic: str, admin: AIOKafkaAdminClient
) -> None:
    theirs = f"{prefix}.keyed"
    await admin.create_topics([NewTopic(theirs, 1, 1, topic_configs={"cleanup.policy": "compact"})])
    async with KafkaSink(KafkaAccess(stack.kafka), {topic: TOPIC_LIMIT_BYTES}.get) as sink:
        assert await sink.publish([Outgoing(theirs, None, b"v", ())]) == [Undeliverable.REFUSED]


async def test_a_topic_with_the_wrong_settings_is_told(
    stack: Services, prefix: str, admin: AIOKafkaAdminClient
) -> None:
    spec = TopicSpec(f"{prefix}.wrong", 1, Cleanup.DELETE, 3_600_000, 1 << 20, Writer.CALLERS, is_request=True)
    missing = TopicSpec(f"{prefix}.missing", 1, Cleanup.DELETE, 3_600_000, 1 << 20, Writer.CALLERS)
    await admin.create_topics([NewTopic(spec.name, 1, 1, topic_configs={"message.timestamp.type": "CreateTime"})])
    async with KafkaAdmin(KafkaAccess(stack.kafka)) as ours:
        told = {f"{each.topic}:{each.setting}" for each in await ours.differences([spec, missing])}
    wrong = {f"{spec.name}:message.timestamp.type", f"{spec.name}:compression.type"}
    assert told == {*wrong, f"{missing.name}:topic"}


async def test_the_wrong_protocol_and_no_broker_name_the_likely_causes(stack: Services) -> None:
    with pytest.raises(BusUnavailable, match="it speaks plaintext there"):
        await KafkaAdmin(KafkaAccess(stack.kafka, Protocol.SSL)).__aenter__()
    with pytest.raises(BusUnavailable, match="no broker listens there"):
        await KafkaSink(KafkaAccess("127.0.0.1:1"), {"t": 1}.get).__aenter__()
    with pytest.raises(BusUnavailable, match="no broker listens there"):
        await KafkaSource(KafkaAccess("127.0.0.1:1"), "g", ["t"]).__aenter__()


async def test_a_million_headers_stop_no_partition(stack: Services, topic: str) -> None:
    """In both readers: of a record with too many headers their number is kept, and its neighbours are whole."""
    many = 200_000
    async with AIOKafkaProducer(bootstrap_servers=stack.kafka, max_request_size=1 << 24) as producer:
        await producer.send_and_wait(topic, b"0", headers=[("x", b"")] * 1_000_000)
        await producer.send_and_wait(topic, b"1", headers=[("x", b"")] * MAX_HEADERS)
        batch = producer.create_batch()
        batch._builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, 0, 1 << 23)
        crowds = ([("n", None)], [("x", b"")] * many, [(Mangled("x"), b"v")], *[[("x", b"")] * MAX_HEADERS] * 17, [])
        for number, headers in enumerate(crowds, 2):
            batch.append(key=b"k", value=b"%d" % number, timestamp=None, headers=headers)
        await producer.send_batch(batch, topic, partition=0)
    records = await caught(stack, topic, 2 + len(crowds))
    assert [record.value for record in records] == [b"%d" % number for number in range(2 + len(crowds))]
    assert [record.offset for record in records] == list(range(2 + len(crowds)))
    assert records[0].headers == (("keyriver-headers-left-out", b"1000000"),)
    assert len(records[1].headers) == MAX_HEADERS
    assert [record.headers for record in records[2:5]] == [
        (("n", b""),),
        (("keyriver-headers-left-out", b"%d" % many),),
        (("\\xff\\xfe", b"v"),),
    ]
    assert records[-2].headers == (("keyriver-headers-left-out", b"%d" % MAX_HEADERS),)
    assert records[-1].headers == ()
    assert len({record.appended_ms for record in records[2:]}) == 1
