"""Whether a group has read everything up to a moment, on real Kafka: the deletion of intake keys waits for it (S4)."""

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from tests.stack import Services
from worker.edges.bus.access import KafkaAccess
from worker.edges.bus.admin import KafkaAdmin
from worker.edges.bus.progress import KafkaProgress
from worker.edges.bus.sink import KafkaSink
from worker.edges.bus.source import KafkaSource, Timing
from worker.model.records import Outgoing, Partition, Record
from worker.model.topics import Cleanup, TopicSpec, Writer


async def caught(source: KafkaSource, count: int) -> list[Record]:
    records: list[Record] = []
    while len(records) < count:
        records += (await source.catch(10, 1 << 20)).records
    return sorted(records, key=lambda record: record.partition)


async def test_only_what_is_committed_on_every_partition_is_read_past(stack: Services, prefix: str) -> None:
    access, topic = KafkaAccess(stack.kafka), f"{prefix}.in"
    progress = KafkaProgress(access, prefix, topic)
    assert not await progress.is_read_past(0), "a missing topic: False on doubt"
    async with KafkaAdmin(access) as admin:
        await admin.create([TopicSpec(topic, 2, Cleanup.DELETE, 3_600_000, 1 << 20, Writer.CALLERS)], replicas=1)
    async with (
        KafkaSink(access, {topic: 1 << 20}.get) as sink,
        KafkaSource(access, prefix, [topic], Timing()) as source,
    ):
        assert await progress.is_read_past(1), "nothing was ever appended"
        await sink.publish([Outgoing(topic, b"k", b"v", (), number) for number in (0, 1)])
        first, second = await caught(source, 2)
        moment = max(first.appended_ms, second.appended_ms)
        assert not await progress.is_read_past(moment)
        assert await progress.is_read_past(min(first.appended_ms, second.appended_ms) - 1), "appended later"
        await source.commit({Partition(topic, 0): 1})
        assert not await progress.is_read_past(moment)
        await source.commit({Partition(topic, 1): 1})
        assert await progress.is_read_past(moment)
        assert await progress.is_read_past(moment + 86_400_000), "what is not appended yet was not sealed before"


async def test_what_retention_took_away_is_waited_for_by_nobody(stack: Services, prefix: str) -> None:
    """A fleet slept so long that the brokers forgot its commits, and the topic its records."""
    access, topic = KafkaAccess(stack.kafka), f"{prefix}.in"
    progress = KafkaProgress(access, f"{prefix}.forgotten", topic)
    async with KafkaAdmin(access) as admin:
        await admin.create([TopicSpec(topic, 1, Cleanup.DELETE, 3_600_000, 1 << 20, Writer.CALLERS)], replicas=1)
    async with KafkaSink(access, {topic: 1 << 20}.get) as sink:
        await sink.publish([Outgoing(topic, b"k", b"v", ())])
    assert not await progress.is_read_past(1 << 42)
    admin_client = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    await admin_client.start()
    await admin_client.delete_records({TopicPartition(topic, 0): RecordsToDelete(1)})
    await admin_client.close()
    assert await progress.is_read_past(1 << 42)
