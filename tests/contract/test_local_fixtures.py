"""The shared fixtures keep what they promise: databases of one's own, topics that go away, a guard that bites."""

import time
from pathlib import Path

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from blockbuster import BlockBuster, BlockingError

import worker
from tests.stack import Services, services
from worker.local import PartMissing, Stack


async def topics(stack: Services) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    await admin.start()
    try:
        return set(await admin.list_topics())
    finally:
        await admin.close()


async def test_the_database_is_fresh(database: str, stack: Services) -> None:
    connection = await asyncpg.connect(database)
    assert await connection.fetch("SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []
    await connection.execute("CREATE TABLE mine (id int)")
    await connection.close()
    assert database != stack.postgres


async def test_the_database_is_the_modules(database: str) -> None:
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("SELECT count(*) FROM mine") == 0
    await connection.close()


async def test_topics_can_be_made_under_the_prefix(prefix: str, stack: Services, left_behind: list[str]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    await admin.start()
    await admin.create_topics([NewTopic(f"{prefix}.wrap.v1", 2, 1)])
    await admin.close()
    left_behind.append(prefix)


async def test_they_are_gone_afterwards(stack: Services, left_behind: list[str]) -> None:
    (prefix,) = left_behind
    assert not [topic for topic in await topics(stack) if topic.startswith(prefix)]


@pytest.fixture(scope="module")
def left_behind() -> list[str]:
    return []


def test_the_dsn_is_not_printed(stack: Services) -> None:
    assert stack.postgres not in repr(stack)


async def test_the_guard_catches_what_blocks_the_loop(no_blocking: BlockBuster) -> None:
    assert no_blocking.functions
    # The guard knows our code by the file it is from.
    ours = compile("time.sleep(0.001)", str(Path(worker.__file__).with_name("napping.py")), "exec")
    with pytest.raises(BlockingError):
        exec(ours, {"time": time})  # noqa: S102 - three words of our own
    # Only our code is watched: a test may block.
    time.sleep(0.001)


def test_addresses_from_the_environment_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYRIVER_TEST_KAFKA", "broker:1")
    monkeypatch.setenv("KEYRIVER_TEST_POSTGRES", "postgresql://server")
    with services() as found:
        assert found == Services("broker:1", "postgresql://server")


def test_with_neither_parts_nor_docker_the_missing_part_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def up(_folder: Path) -> Stack:
        raise PartMissing("Kafka", "ask for it")

    monkeypatch.delenv("KEYRIVER_TEST_KAFKA", raising=False)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nobody/here")
    monkeypatch.setattr(Stack, "up", up)
    with pytest.raises(PartMissing, match="ask for it"), services():
        pass
