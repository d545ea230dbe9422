"""Blobs of one Kafka topic rewrapped into another: partition by partition, in order, each once, resumable.

Each record that is written names in a header where it came from, so the last one of a partition is the job's place
there: no checkpoint, no consumer group. Records that are rejected go to a third topic, in the same transaction.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from worker.client.errors import BusRefused
from worker.client.files.checkpoint import Counts
from worker.client.files.errors import TooManyRejects
from worker.client.files.job import Watcher
from worker.client.files.jsonlines import read
from worker.client.files.records import Fault, Record
from worker.client.inorder import in_order
from worker.client.results import ItemError, Rewrapped
from worker.client.rewrap import Bulk, Result, Rewrapper, Rewraps
from worker.client.topic_edge import Reader, Writer
from worker.model.records import Entry, Headers, Partition

ORIGIN, CODE, MESSAGE = "keyriver-origin", "keyriver-code", "keyriver-message"
Read = list[tuple[Entry, Record]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicPlan:
    """One job: everything that stands in `source` when it begins. `column` None: a value is a blob, not JSON.

    `out` and `rejects` have at least as many partitions as `source`, and nothing else in them.
    """

    source: str
    out: str
    rejects: str
    column: str | None
    bulk: Bulk = field(default_factory=Bulk)
    most_in_a_row: int = 1000


class TopicJob:
    """One run of it; `options` are aiokafka's: servers and security."""

    def __init__(self, client: Rewraps, plan: TopicPlan, options: Mapping[str, object], watcher: Watcher) -> None:
        self._plan = plan
        self._options = options
        self._watcher = watcher
        self._rewrapper = Rewrapper(client, plan.bulk, watcher.waits)
        self._counts = Counts()
        self._in_a_row = 0
        self._waiting: list[Entry] = []

    async def run(self) -> Counts:
        """Do it; the counts are this run's. Whatever ends it, the same call goes on where it was.

        Raises `BusRefused` (a topic is missing, or holds what is not this job's), `Fenced`, `BusDown`,
        `TooManyRejects`, and what `Rewrapper.some` raises.
        """
        plan = self._plan
        if len({plan.source, plan.out, plan.rejects}) < len(("source", "out", "rejects")):
            raise BusRefused("source, output and rejects must be three topics")
        # First of all the writer: it ends what an earlier process left open, and shuts that process out.
        async with Writer(self._options, f"keyriver-rewrap-{plan.out}") as writer, Reader(self._options) as reader:
            starts, ends = await self._places(writer, reader)
            total, read = sum(ends[one] - starts[one] for one in ends), 0
            self._watcher.began(total, self._counts)
            source = self._read(reader, starts, ends)
            async with aclosing(in_order(self._rewrapped, source, plan.bulk.at_once)) as portions:
                async for portion, results in portions:
                    self._take(portion, results)
                    if self._in_a_row == 0:
                        await self._put(writer)
                    read += len(portion)
                    self._watcher.moved(read, self._counts)
            await self._put(writer)
        return self._counts

    async def _places(self, writer: Writer, reader: Reader) -> tuple[dict[int, int], dict[int, int]]:
        """Where each partition of the source goes on, and where it ends now."""
        plan = self._plan
        topics = plan.source, plan.out, plan.rejects
        source, *others = [await reader.bounds(topic, await writer.partitions(topic)) for topic in topics]
        written, starts = dict(zip(topics[1:], others, strict=True)), {}
        for number, (begin, _) in source.items():
            starts[number] = begin
            for topic, bounds in written.items():
                if number not in bounds:
                    raise BusRefused(f"{topic} has fewer partitions than {plan.source}, which has {len(source)}")
                place = self._place(topic, number, bounds[number], await reader.last(topic, number, bounds[number]))
                starts[number] = max(starts[number], place)
        return starts, {number: max(starts[number], end) for number, (_, end) in source.items()}

    def _place(self, topic: str, number: int, bounds: tuple[int, int], last: Entry | None) -> int:
        """The first offset of the source that is not in this partition yet.

        Where nothing is committed, all that was ever there was aborted; unless retention took what stood at the begin.
        """
        if last is None and bounds[0] == 0:
            return 0
        origins = [value for name, value in last.headers if name == ORIGIN] if last is not None else []
        topic_of, _, offset = origins[0].decode().rpartition(":") if len(origins) == 1 else ("", "", "")
        if topic_of != self._plan.source or not offset.isdecimal():
            raise BusRefused(f"partition {number} of {topic} does not end with this job's records: name another topic")
        return int(offset) + 1

    async def _read(self, reader: Reader, starts: Mapping[int, int], ends: Mapping[int, int]) -> AsyncIterator[Read]:
        async for portion in reader.portions(self._plan.source, starts, ends, self._plan.bulk.items):
            yield [(entry, self._record(entry)) for entry in portion]

    def _record(self, entry: Entry) -> Record:
        """A tombstone has no blob, and is copied."""
        value, column = entry.value, self._plan.column
        if value is None:
            return Record(entry.offset, b"")
        return Record(entry.offset, value, value) if column is None else read(entry.offset, value, column)

    async def _rewrapped(self, portion: Read) -> tuple[Read, list[Result]]:
        blobs = [record.blob for _, record in portion if record.blob is not None]
        return portion, await self._rewrapper.some(blobs)

    def _take(self, portion: Read, results: Sequence[Result]) -> None:
        waiting = iter(results)
        for entry, record in portion:
            result = None if record.blob is None else next(waiting)
            if isinstance(result, Rewrapped):
                counts = Counts(rewrapped=int(not result.unchanged), unchanged=int(result.unchanged))
                self._keep(entry, entry.value if result.unchanged else self._value(record, result), counts)
            elif isinstance(result, ItemError):
                self._reject(entry, Fault(result.code, result.message))
            elif record.fault is not None:
                self._reject(entry, record.fault)
            else:
                self._keep(entry, entry.value, Counts(copied=1))

    def _value(self, record: Record, result: Rewrapped) -> bytes:
        blob = result.blob or b""
        return blob if self._plan.column is None else record.carrying(blob)

    def _keep(self, entry: Entry, value: bytes | None, counts: Counts) -> None:
        self._in_a_row = 0
        self._counts = self._counts.plus(counts)
        self._waiting.append(_bound_for(self._plan.out, entry, value))

    def _reject(self, entry: Entry, fault: Fault) -> None:
        self._in_a_row += 1
        if self._in_a_row >= self._plan.most_in_a_row:
            raise TooManyRejects(self._in_a_row, fault.code)
        self._counts = self._counts.plus(Counts(rejected=1))
        said = (CODE, fault.code.encode()), (MESSAGE, fault.message.encode())
        self._waiting.append(_bound_for(self._plan.rejects, entry, entry.value, said))

    async def _put(self, writer: Writer) -> None:
        """Rejects are booked once something good came after them, or at the end."""
        if self._waiting:
            await writer.put(self._waiting)
            self._waiting = []


def _bound_for(topic: str, entry: Entry, value: bytes | None, said: Headers = ()) -> Entry:
    """The record as it is written: its key, its time and its headers stay, and where it came from is added."""
    kept = [(name, text) for name, text in entry.headers if name not in {ORIGIN, CODE, MESSAGE}]
    origin = ORIGIN, f"{entry.partition.topic}:{entry.offset}".encode()
    place = Partition(topic, entry.partition.number)
    return replace(entry, partition=place, value=value, headers=(*kept, *said, origin))
