"""TLS, SCRAM and the least ACLs as `keyriver topics` prints them: enough for each, and for nothing else (S17)."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.contract.bus_secure import SecureKafka, grant, secure_kafka
from worker.edges.bus.access import KafkaAccess, Protocol
from worker.edges.bus.admin import KafkaAdmin
from worker.edges.bus.progress import KafkaProgress
from worker.edges.bus.render import Principals, acl_commands
from worker.edges.bus.sink import KafkaSink
from worker.edges.bus.source import KafkaSource, Timing
from worker.edges.bus.tail import Tail
from worker.model.records import Outgoing, Partition, Undeliverable
from worker.model.topics import Lane, Topics, dead_letter_topic, limits, specs
from worker.ports import BusUnavailable

TOPICS = Topics("acme")
FAST = Timing(session_s=6.0, heartbeat_s=0.2, wait_s=0.1)
NONE_OF_OURS: dict[str, int] = {}
USERS = ("keyriver", "service", "officer")


@pytest.fixture(scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SecureKafka]:
    made = secure_kafka(tmp_path_factory.mktemp("secure"), USERS)
    try:
        await asyncio.to_thread(made.start)
        async with KafkaAdmin(KafkaAccess(made.bootstrap)) as admin:
            await admin.create(specs(TOPICS, partitions=1), replicas=1)
        await grant(made.bootstrap, acl_commands(TOPICS, Principals(), ["theirs.replies"]))
        yield made
    finally:
        made.kill()


def letter(topic: str) -> Outgoing:
    return Outgoing(topic, b"k", b"v", (("h", b"1"),))


async def test_a_worker_can_do_its_work_with_the_rights_that_are_printed(broker: SecureKafka) -> None:
    access = broker.access("keyriver")
    ours = (TOPICS.replies, TOPICS.events, TOPICS.audit, TOPICS.intake, TOPICS.hints, TOPICS.sequences)
    async with KafkaSink(broker.access("service"), NONE_OF_OURS.get) as sink:
        assert await sink.publish([letter(TOPICS.wrap)]) == [None]
    async with KafkaAdmin(access) as admin:
        assert await admin.differences(specs(TOPICS, partitions=1)) == []
    async with KafkaSink(access, limits(TOPICS).get) as sink:
        places = [*ours, TOPICS.undelivered, *map(dead_letter_topic, TOPICS.requests)]
        assert set(await sink.publish([letter(place) for place in places])) == {None}
    async with KafkaSource(access, TOPICS.group(Lane.INTERACTIVE), TOPICS.lane(Lane.INTERACTIVE), FAST) as source:
        async with asyncio.timeout(60):
            while not (caught := (await source.catch(10, 1 << 20)).records):
                pass
        await source.commit({Partition(TOPICS.wrap, 0): caught[0].offset + 1})
    assert await KafkaProgress(access, TOPICS.group(Lane.INTERACTIVE), TOPICS.wrap).is_read_past(caught[0].appended_ms)
    for topic in (TOPICS.intake, TOPICS.hints, TOPICS.sequences):
        async with Tail(access, topic) as tail:
            assert len(await tail.catch_up()) == 1


async def test_nobody_else_may_say_what_only_the_fleet_says(broker: SecureKafka) -> None:
    places = (TOPICS.replies, TOPICS.intake, TOPICS.hints, TOPICS.audit, TOPICS.events, TOPICS.sequences)
    for user in ("service", "officer"):
        async with KafkaSink(broker.access(user), NONE_OF_OURS.get) as sink:
            assert await sink.publish([letter(place) for place in places]) == [Undeliverable.REFUSED] * len(places)


async def test_a_service_may_not_press_the_red_button_nor_read_what_others_ask(broker: SecureKafka) -> None:
    access = broker.access("service")
    async with KafkaSink(access, NONE_OF_OURS.get) as sink:
        outcomes = await sink.publish([letter(TOPICS.control), letter(TOPICS.wrap), letter(TOPICS.keys)])
        assert outcomes == [Undeliverable.REFUSED, None, Undeliverable.REFUSED]
    async with Tail(access, TOPICS.wrap) as tail:
        with pytest.raises(BusUnavailable, match="TopicAuthorizationFailed"):
            await tail.catch_up()


async def test_a_reply_topic_without_rights_is_a_refusal_that_holds_nobody_back(broker: SecureKafka) -> None:
    async with KafkaSink(broker.access("keyriver"), limits(TOPICS).get) as sink:
        assert await sink.publish([letter("not.ours"), letter(TOPICS.replies)]) == [Undeliverable.REFUSED, None]


async def catch_for_ever(source: KafkaSource) -> None:
    async with asyncio.timeout(60):
        while True:
            await source.catch(1, 1)


async def test_a_group_that_is_not_ours_is_refused_and_said(broker: SecureKafka) -> None:
    async with KafkaSource(broker.access("keyriver"), "another", TOPICS.lane(Lane.BULK), FAST) as source:
        with pytest.raises(BusUnavailable, match="GroupAuthorizationFailed"):
            await catch_for_ever(source)


@pytest.mark.parametrize(
    ("protocol", "password", "likely"),
    [
        (Protocol.SASL_SSL, "wrong", "username or password is wrong"),
        (Protocol.SASL_PLAINTEXT, "wrong", "it wants TLS there"),
    ],
)
async def test_what_is_wrong_with_a_connection_is_guessed_aloud(
    broker: SecureKafka, protocol: Protocol, password: str, likely: str
) -> None:
    right = broker.access("keyriver")
    ca_file = right.ca_file if protocol is Protocol.SASL_SSL else None
    wrong = KafkaAccess(right.bootstrap, protocol, right.mechanism, "keyriver", password, ca_file)
    with pytest.raises(BusUnavailable, match=likely):
        await KafkaSink(wrong, NONE_OF_OURS.get).__aenter__()


async def test_a_certificate_of_another_authority_is_refused(broker: SecureKafka) -> None:
    right = broker.access("keyriver")
    trusting = KafkaAccess(right.bootstrap, right.protocol, right.mechanism, "keyriver", right.password)
    with pytest.raises(BusUnavailable, match="not of ca_file's authority"):
        await KafkaSink(trusting, NONE_OF_OURS.get).__aenter__()
