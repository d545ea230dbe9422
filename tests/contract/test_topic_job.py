"""A topic job on real Kafka: in order, each once whatever ends it, one process at a time, rejects apart."""

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.stack import Services
from tests.unit.rewrap.rewraps import QUICK, Client, Watched, a_blob, all_moved, moved
from worker.client import BusRefused, ItemError, Rewrapped
from worker.client.files import Counts, TooManyRejects
from worker.client.topic_edge import Fenced, Writer
from worker.client.topic_job import TopicJob, TopicPlan
from worker.edges.bus import lenient

MANY = 95
PARTITIONS = 2


@pytest.fixture(autouse=True)
def as_in_a_worker() -> None:
    """A process that has the bus edge, too, reads transactions no worse."""
    lenient.install()


class Killed(BaseException):
    """Nothing of the job runs after it but what closes its connections."""


class Place:
    """Three topics, and what is done to them."""

    def __init__(self, kafka: str, prefix: str) -> None:
        self.kafka = kafka
        self.plan = TopicPlan(
            source=f"{prefix}.deks", out=f"{prefix}.moved", rejects=f"{prefix}.bad", column="blob", bulk=QUICK
        )

    async def make(self, sizes: Mapping[str, int]) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, count, 1) for name, count in sizes.items()])
        finally:
            await admin.close()

    @asynccontextmanager
    async def _producer(self) -> AsyncIterator[AIOKafkaProducer]:
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka)
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    async def fill(self, topic: str, values: Sequence[bytes | None]) -> None:
        """One value after the other, to the partitions in turn; the key is its number, one header is its own."""
        async with self._producer() as producer:
            for number, value in enumerate(values):
                await producer.send(
                    topic, value, key=b"%d" % number, partition=number % PARTITIONS, headers=[("mine", b"x")]
                )

    async def found(self, topic: str) -> list[list[tuple[bytes, bytes | None, dict[str, str]]]]:
        """Committed key, value and headers, by partition."""
        spots = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.kafka, isolation_level="read_committed", auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            consumer.assign(spots)
            ends = await consumer.end_offsets(spots)
            made: dict[int, list[tuple[bytes, bytes | None, dict[str, str]]]] = {n: [] for n in range(PARTITIONS)}
            while any([await consumer.position(spot) < end for spot, end in ends.items()]):
                for spot, records in (await consumer.getmany(timeout_ms=100)).items():
                    made[spot.partition] += [
                        (one.key, one.value, {name: text.decode() for name, text in one.headers}) for one in records
                    ]
        finally:
            await consumer.stop()
        return list(made.values())

    async def run(self, client: Client | None = None, **changes: object) -> Counts:
        plan = replace(self.plan, **changes)  # type: ignore[arg-type]
        return await TopicJob(client or Client(), plan, {"bootstrap_servers": self.kafka}, Watched()).run()


@pytest.fixture
async def place(stack: Services, prefix: str) -> Place:
    made = Place(stack.kafka, prefix)
    await made.make(dict.fromkeys((made.plan.source, made.plan.out, made.plan.rejects), PARTITIONS))
    return made


def a_value(number: int, raw: bytes) -> bytes:
    return json.dumps({"n": number, "blob": b64encode(raw).decode()}).encode()


def values(bad: set[int]) -> list[bytes | None]:
    return [b"no JSON" if number in bad else a_value(number, a_blob(number)) for number in range(MANY)]


def killed_after(requests: int) -> Client:
    left = requests

    def answer(blobs: Sequence[bytes]) -> list[Rewrapped | ItemError]:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return all_moved(blobs)

    return Client(answer)


def of_partition(numbers: Sequence[int], partition: int) -> list[int]:
    return [number for number in numbers if number % PARTITIONS == partition]


async def test_killed_again_and_again_each_record_comes_once_and_in_order(place: Place) -> None:
    bad = {3, 40, 41, 94}
    await place.fill(place.plan.source, values(bad))
    for requests in (2, 0, 3):
        with pytest.raises(Killed):
            await place.run(killed_after(requests))
    counts = await place.run()
    assert counts.rewrapped + counts.rejected < MANY  # it went on, and did not begin anew
    assert await place.run() == Counts()
    good = [number for number in range(MANY) if number not in bad]
    for partition, records in enumerate(await place.found(place.plan.out)):
        assert [int(key) for key, _, _ in records] == of_partition(good, partition)
        for key, value, headers in records:
            result = moved(a_blob(int(key)))
            assert isinstance(result, Rewrapped)
            assert value == a_value(int(key), result.blob or b"")
            assert headers == {"mine": "x", "keyriver-origin": f"{place.plan.source}:{int(key) // PARTITIONS}"}
    for partition, records in enumerate(await place.found(place.plan.rejects)):
        assert [int(key) for key, _, _ in records] == of_partition(sorted(bad), partition)
        assert {(value, headers["keyriver-code"]) for _, value, headers in records} == {(b"no JSON", "MALFORMED")}


async def test_what_comes_later_is_the_next_runs(place: Place) -> None:
    await place.fill(place.plan.source, values(set()))
    assert (await place.run()).rewrapped == MANY
    await place.fill(place.plan.source, values(set())[:10])
    assert (await place.run()).rewrapped == 10


async def test_raw_values_and_tombstones(place: Place) -> None:
    await place.fill(place.plan.source, [a_blob(1), None, a_blob(2, 9), b"no blob"])
    assert await place.run(column=None) == Counts(rewrapped=1, unchanged=1, copied=1, rejected=1)
    first, second = await place.found(place.plan.out)
    result = moved(a_blob(1))
    assert isinstance(result, Rewrapped)
    assert [value for _, value, _ in first] == [result.blob, a_blob(2, 9)]
    assert [value for _, value, _ in second] == [None]


async def test_a_second_process_shuts_out_the_first(place: Place) -> None:
    await place.fill(place.plan.source, values(set()))
    second: list[Counts] = []
    entered, go = asyncio.Event(), asyncio.Event()

    class Slow(Client):
        async def rewrap(self, *args: object, **more: object) -> list[Rewrapped | ItemError]:
            entered.set()
            await go.wait()
            return await super().rewrap(*args, **more)  # type: ignore[arg-type]

    first = asyncio.create_task(place.run(Slow()))
    await entered.wait()
    second.append(await place.run())
    go.set()
    with pytest.raises(Fenced):
        await first
    assert second == [Counts(rewrapped=MANY)]
    assert sum(map(len, await place.found(place.plan.out))) == MANY


async def test_many_rejects_in_a_row_are_not_booked(place: Place) -> None:
    await place.fill(place.plan.source, values(set()))
    disabled = ItemError("KEY_DISABLED", "The key is disabled.", retry=False)
    with pytest.raises(TooManyRejects, match="30 records in a row"):
        await place.run(Client(lambda blobs: [disabled] * len(blobs)), most_in_a_row=30)
    assert await place.run() == Counts(rewrapped=MANY)
    assert await place.found(place.plan.rejects) == [[], []]


async def test_topics_that_are_not_its_own_are_refused(place: Place, prefix: str) -> None:
    await place.fill(place.plan.source, values(set()))
    await place.make({f"{prefix}.narrow": 1, f"{prefix}.other": PARTITIONS})
    with pytest.raises(BusRefused, match="no topic"):
        await place.run(source=f"{prefix}.missing")
    with pytest.raises(BusRefused, match="fewer partitions"):
        await place.run(out=f"{prefix}.narrow")
    with pytest.raises(BusRefused, match="three topics"):
        await place.run(out=place.plan.source)
    await place.fill(f"{prefix}.other", [b"somebody's"] * PARTITIONS)
    with pytest.raises(BusRefused, match="does not end with this job's"):
        await place.run(out=f"{prefix}.other")
    await place.run()
    with pytest.raises(BusRefused, match="does not end with this job's"):
        await place.run(source=f"{prefix}.other")  # the same output, another source


async def test_its_last_record_is_found_behind_many_empty_ends(place: Place) -> None:
    await place.fill(place.plan.source, values(set())[:1])
    assert (await place.run()).rewrapped == 1
    # Transactions that were aborted leave their records and their ends behind
    async with Writer({"bootstrap_servers": place.kafka}, f"keyriver-rewrap-{place.plan.out}") as writer:
        for number in range(250):
            producer = writer._producer
            await producer.begin_transaction()
            await producer.send_and_wait(place.plan.out, b"%d" % number, partition=number % PARTITIONS)
            await producer.abort_transaction()
    assert await place.run() == Counts()
    # And where there is nothing else, it begins
    await place.fill(place.plan.source, values(set())[:2])
    assert await place.run() == Counts(rewrapped=2)


async def test_nothing_of_a_value_but_its_blob_changes(place: Place) -> None:
    value = b'{ "a":1.0,"blob" : "%s" ,"z":"\xc3\xa9" }' % b64encode(a_blob(1))
    await place.fill(place.plan.source, [value])
    await place.run()
    ((_, made, _),), _ = await place.found(place.plan.out)
    assert made is not None
    result = moved(a_blob(1))
    assert isinstance(result, Rewrapped)
    assert b64decode(json.loads(made)["blob"]) == result.blob
    assert made == value.replace(b64encode(a_blob(1)), b64encode(result.blob or b""))
