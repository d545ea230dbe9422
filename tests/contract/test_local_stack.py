"""The one-machine stack: brought up twice, side by side, killed and brought back, and gone when told."""

import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError

from worker.local import PartMissing, Postgres, Stack
from worker.local.process import _alive

BROKER_STAMPS = 1
EIGHT_MEGABYTES = 8 * 1024 * 1024


def pids(stack: Stack) -> tuple[int, int]:
    kafka, postgres = stack.kafka.process.pid(), stack.postgres.process.pid()
    assert kafka
    assert postgres
    return kafka, postgres


async def make_topic(stack: Stack, name: str, settings: dict[str, str] | None = None) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 1, topic_configs=settings or {})])
    finally:
        await admin.close()


async def produce(stack: Stack, topic: str, value: bytes) -> int:
    """Acknowledged by the broker when it returns: the offset."""
    producer = AIOKafkaProducer(bootstrap_servers=stack.kafka.bootstrap, max_request_size=2 * len(value) + 1000)
    await producer.start()
    try:
        answer = await producer.send_and_wait(topic, value, partition=0, timestamp_ms=1)
    finally:
        await producer.stop()
    assert answer.timestamp_type == BROKER_STAMPS
    return int(answer.offset)


async def consume(stack: Stack, topic: str) -> bytes:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=stack.kafka.bootstrap, auto_offset_reset="earliest", max_partition_fetch_bytes=EIGHT_MEGABYTES
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        record = await consumer.getone()
    finally:
        await consumer.stop()
    assert isinstance(record.value, bytes)
    return record.value


def test_bringing_it_up_again_changes_nothing(own_stack: Stack) -> None:
    before = pids(own_stack), own_stack.kafka.bootstrap, own_stack.postgres.address()
    again = Stack.up(own_stack.folder)
    assert (pids(again), again.kafka.bootstrap, again.postgres.address()) == before
    assert all(part.ready for part in again.status() if part.name != "kryoptic")


def test_a_second_checkout_stands_beside_it_and_goes_without_a_trace(own_stack: Stack, tmp_path: Path) -> None:
    said: list[str] = []
    beside = Stack.up(tmp_path / "data", said.append)
    beside_pids = pids(beside)
    assert beside.kafka.bootstrap != own_stack.kafka.bootstrap
    assert beside.ready()
    assert own_stack.ready()
    assert any("Kafka: ready" in line for line in said)
    # Told from another process, as `keyriver local down` is.
    subprocess.run(
        [sys.executable, "-m", "worker.local", "down"],
        env=os.environ | {"KEYRIVER_LOCAL": str(beside.folder)},
        check=True,
    )
    assert not any(_alive(pid) for pid in beside_pids)
    assert [part.ready for part in beside.status()][:2] == [False, False]
    assert own_stack.ready()
    beside.wipe()
    assert not beside.folder.exists()


def test_no_secret_shows(own_stack: Stack) -> None:
    password = (own_stack.folder / "postgres" / "password").read_text()
    pin = own_stack.token.pin_file.read_text()
    shown = f"{own_stack!r} {own_stack.status()!r} {own_stack.token!r} {own_stack.postgres!r}"
    for pid in pids(own_stack):
        shown += Path(f"/proc/{pid}/cmdline").read_text() if Path("/proc/self").exists() else ""
    assert password not in shown
    assert pin not in shown
    assert own_stack.token.pin_file.stat().st_mode & 0o777 == 0o400


async def test_what_was_acknowledged_and_committed_survives_a_kill(own_stack: Stack) -> None:
    dsn = own_stack.postgres.create_database("survivor")
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE kept (id int PRIMARY KEY); INSERT INTO kept VALUES (7)")
    await make_topic(own_stack, "survivor")
    await produce(own_stack, "survivor", b"still here")

    own_stack.kafka.kill()
    own_stack.postgres.kill()
    assert not own_stack.ready()
    # Which of them depends on whether the reset or the end of the stream is seen first.
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)):
        await connection.fetchval("SELECT 1")
    Stack.up(own_stack.folder)

    assert await consume(own_stack, "survivor") == b"still here"
    again = await asyncpg.connect(dsn)
    assert await again.fetchval("SELECT id FROM kept") == 7
    await again.close()
    own_stack.postgres.drop_database("survivor")


async def test_the_broker_makes_no_topic_by_itself(own_stack: Stack) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=own_stack.kafka.bootstrap, request_timeout_ms=1000)
    await producer.start()
    try:
        with pytest.raises(UnknownTopicOrPartitionError):
            await producer.partitions_for("nobody-made-this")
    finally:
        await producer.stop()


async def test_a_topic_may_take_eight_megabytes(own_stack: Stack) -> None:
    await make_topic(own_stack, "large", {"max.message.bytes": str(EIGHT_MEGABYTES)})
    value = bytes(EIGHT_MEGABYTES - 1024)
    await produce(own_stack, "large", value)
    assert await consume(own_stack, "large") == value


async def test_a_member_may_be_expelled_after_one_second(own_stack: Stack) -> None:
    await make_topic(own_stack, "short-sessions")
    consumer = AIOKafkaConsumer(
        "short-sessions",
        bootstrap_servers=own_stack.kafka.bootstrap,
        group_id="short",
        session_timeout_ms=1000,
        heartbeat_interval_ms=300,
    )
    # The broker refuses the join of a member whose session timeout is below its minimum.
    await consumer.start()
    assert consumer.assignment()
    await consumer.stop()


def test_a_start_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def start(_self: Postgres) -> None:
        raise PartMissing("Postgres", "ask for it")

    monkeypatch.setattr(Postgres, "start", start)
    started: list[int | None] = []
    stack = Stack(tmp_path / "data")
    with pytest.raises(PartMissing):
        Stack.up(stack.folder, lambda text: started.append(stack.kafka.process.pid()) if "ready" in text else None)
    (pid,) = started
    assert pid
    assert not _alive(pid)
