"""A data team rewraps the wrapped DEKs that stand in a topic of its own, into another topic: killed on the way."""

import json
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.fleet import Fleet
from tests.stories.data_team import Heap, Team, a_heap, are_the_same, tampered, text
from worker.model.records import Outgoing

MANY, PARTITIONS = 6000, 2
Found = dict[int, list[tuple[int, dict[str, object]]]]
"""Of each partition, the number in the key and the value."""


@pytest.fixture
async def topics(fleet: Fleet) -> AsyncIterator[tuple[str, str, str]]:
    """Where the team's blobs are, where they go, and where those go that can't; gone with the fleet's own."""
    names = f"{fleet.prefix}.deks", f"{fleet.prefix}.moved", f"{fleet.prefix}.moved.rejects"
    admin = AIOKafkaAdminClient(bootstrap_servers=fleet.services.kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
        yield names
    finally:
        await admin.close()


async def _committed(kafka: str, topic: str) -> Found:
    found: Found = {number: [] for number in range(PARTITIONS)}
    spots = [TopicPartition(topic, number) for number in found]
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, isolation_level="read_committed", auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign(spots)
        ends = await consumer.end_offsets(spots)
        while any([await consumer.position(spot) < end for spot, end in ends.items()]):
            for spot, records in (await consumer.getmany(timeout_ms=100)).items():
                found[spot.partition] += [(int(one.key), json.loads(one.value)) for one in records]
    finally:
        await consumer.stop()
    return found


async def test_a_job_killed_twice_brings_each_record_once(
    fleet: Fleet, topics: tuple[str, str, str], tmp_path: Path
) -> None:
    # Given a topic of blobs with three bad records
    source, out, rejects = topics
    heap: Heap = await a_heap(fleet, MANY)
    bad = {17, 2500, 5999}
    for number, raw in enumerate(heap.blobs):
        value = {"n": number, "blob": text(tampered(raw) if number in bad else raw)}
        key, where = str(number).encode(), number % PARTITIONS
        record = Outgoing(source, key, json.dumps(value).encode(), (), where)
        await fleet.producer.send(record.topic, value=record.value, key=record.key, partition=record.partition)
    await fleet.producer.flush()
    team, kafka = Team(fleet, heap.house, tmp_path), fleet.services.kafka
    # When the job is killed in a transaction and after one, and started again each time
    for at in (MANY // 10, MANY // 3 + 1):
        await team.killed(f"topic:{source}", f"topic:{out}", at, "--in-flight", "1")
    done = await team.run(f"topic:{source}", f"topic:{out}", "--json")
    # Then it ends and tells of the rejects, and the other topic has each record once, in order, with the same DEK
    assert done.returncode == 4, done.stderr
    moved = await _committed(kafka, out)
    good = [number for number in range(MANY) if number not in bad]
    for partition, records in moved.items():
        wanted = [number for number in good if number % PARTITIONS == partition]
        assert [number for number, _ in records] == wanted
        assert [value["n"] for _, value in records] == wanted
        blobs = [b64decode(str(value["blob"])) for _, value in records]
        await are_the_same(heap.house, blobs, wanted, [heap.deks[number] for number in wanted])
    apart = await _committed(kafka, rejects)
    assert sorted(number for records in apart.values() for number, _ in records) == sorted(bad)
    # And there is nothing left to do
    again = await team.run(f"topic:{source}", f"topic:{out}", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["rewrapped"] == 0
