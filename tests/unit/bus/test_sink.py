"""Topics that answer nothing, on a producer that never acknowledges: what becomes of a record is a matter of whose."""

import asyncio
from dataclasses import dataclass, field
from typing import cast

import pytest
from aiokafka.partitioner import DefaultPartitioner

from worker.edges.bus.access import KafkaAccess
from worker.edges.bus.kafka import LONG_KEY, Producer, partition_for
from worker.edges.bus.sink import KafkaSink
from worker.model.records import Outgoing, Undeliverable
from worker.ports import BusUnavailable

OURS = Outgoing("ours", b"k", b"v", ())
THEIRS = Outgoing("theirs", b"k", b"v", ())


@dataclass
class Silent:
    """A producer, its client and its cluster in one."""

    answers: bool = True
    unauthorized_topics: set[str] = field(default_factory=set)
    topics: set[str] = field(default_factory=lambda: {"ours", "theirs"})
    sent: int = 0
    asked: int = 0
    _topics: set[str] = field(default_factory=set)
    stopped: bool = False
    partitions: set[int] = field(default_factory=lambda: {0})
    grows_to: set[int] | None = None

    @property
    def client(self) -> "Silent":
        return self

    @property
    def cluster(self) -> "Silent":
        return self

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return self.partitions if topic in self.topics else None

    def add_topic(self, topic: str) -> None: ...

    async def force_metadata_update(self) -> bool:
        self.asked += 1
        self.partitions = self.grows_to or self.partitions
        return self.answers

    async def start(self) -> None: ...

    async def stop(self) -> None:
        self.stopped = True

    async def send(self, _topic: str, **_record: object) -> asyncio.Future[object]:
        self.sent += 1
        return asyncio.get_running_loop().create_future()


def sink(producer: Silent) -> KafkaSink:
    made = KafkaSink(KafkaAccess("nowhere:1"), {"ours": 10_000}.get, answer_s=0.3)
    made._producers = {True: cast(Producer, producer), False: cast(Producer, producer)}
    return made


async def test_a_caller_s_topic_that_takes_nothing_while_the_cluster_answers_is_refusing() -> None:
    assert await sink(Silent()).publish([THEIRS]) == [Undeliverable.REFUSED]


async def test_our_own_topic_that_takes_nothing_is_an_outage_and_the_producer_is_replaced() -> None:
    producer = Silent()
    with pytest.raises(BusUnavailable, match="does not acknowledge records of ours"):
        await sink(producer).publish([OURS])
    assert producer.stopped


async def test_a_cluster_that_does_not_answer_is_an_outage_whosever_topic_it_is() -> None:
    with pytest.raises(BusUnavailable):
        await sink(Silent(answers=False)).publish([THEIRS])
    with pytest.raises(BusUnavailable, match="which topics there are"):
        await sink(Silent(answers=False, topics=set())).publish([THEIRS])


async def test_rights_that_were_taken_away_are_a_refusal() -> None:
    assert await sink(Silent(topics=set(), unauthorized_topics={"theirs"})).publish([THEIRS]) == [Undeliverable.REFUSED]


async def test_what_is_too_large_for_our_own_topic_is_never_sent() -> None:
    producer = Silent()
    assert await sink(producer).publish([Outgoing("ours", b"k", bytes(10_000), ())]) == [Undeliverable.TOO_LARGE]
    assert producer.sent == 0


async def test_a_thousand_answers_for_a_missing_topic_cost_one_question() -> None:
    producer = Silent(topics=set())
    outcomes = await sink(producer).publish([THEIRS] * 1000)
    assert outcomes == [Undeliverable.NO_TOPIC] * 1000
    assert producer.asked == 3


def test_a_long_key_is_not_hashed_in_python() -> None:
    """Beside a loop: 5 MB would take seconds, and whoever can write a topic chooses the keys of its dead letters."""
    every = list(range(6))
    chosen = {partition_for(bytes([n]) * 8 * 1024 * 1024, every, every) for n in range(40)}
    assert len(chosen) > 1
    assert chosen <= set(every)
    for key in (b"", b"acme/eu", b"k" * LONG_KEY):
        assert partition_for(key, every, every) == DefaultPartitioner()(key, every, every)
    assert partition_for(None, every, [3]) == 3


async def test_partition_numbers_that_a_caller_makes_up_cost_one_question_and_hold_nobody_back() -> None:
    producer = Silent()
    evil = [Outgoing("theirs", b"k", b"v", (), number) for number in range(1000, 2000)]
    tested = sink(producer)
    assert await tested.publish(evil[:500]) == [Undeliverable.NO_TOPIC] * 500
    assert await tested.publish(evil[500:]) == [Undeliverable.NO_TOPIC] * 500
    assert producer.asked == 1
    assert producer.sent == 0


async def test_a_missing_topic_is_asked_for_once_whatever_the_partitions() -> None:
    producer = Silent(topics=set())
    tested = sink(producer)
    for number in range(3):
        records = [Outgoing("theirs", b"k", b"v", (), 10 * number + each) for each in range(10)]
        assert await tested.publish(records) == [Undeliverable.NO_TOPIC] * 10
    assert producer.asked == 3


async def test_a_topic_that_has_grown_is_noticed() -> None:
    producer = Silent()
    tested = sink(producer)
    producer.grows_to = {0, 1}
    await tested.publish([Outgoing("theirs", b"k", b"v", (), 1)])
    assert producer.sent == 1
