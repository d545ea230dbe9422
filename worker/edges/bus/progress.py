"""How far a consumer group has read: whether everything that was appended up to a moment is behind its commits."""

from typing import Protocol, cast

from aiokafka.errors import KafkaError

from worker.edges.bus.access import KafkaAccess
from worker.edges.bus.kafka import Consumer, Spot, consumer, partitions, spot
from worker.model.records import Partition
from worker.ports import BusUnavailable


class _Position(Protocol):
    offset: int


class _Reader(Consumer, Protocol):
    async def offsets_for_times(self, timestamps: dict[Spot, int]) -> dict[Spot, _Position | None]: ...


class KafkaProgress:
    """`Progress` over one topic and the group that consumes it. Never joins the group."""

    def __init__(self, access: KafkaAccess, group: str, topic: str) -> None:
        self._access = access
        self._group = group
        self._topic = topic

    async def is_read_past(self, moment_ms: int) -> bool:
        """See `Progress`. False on doubt; raises `BusUnavailable` when the broker does not answer."""
        reader = cast(_Reader, consumer(self._access, group_id=self._group))
        try:
            await reader.start()
            try:
                return await self._is_past(reader, moment_ms)
            finally:
                await reader.stop()
        except KafkaError as error:
            raise BusUnavailable(f"Kafka: reading the progress of {self._group} failed: {error!r}") from error

    async def _is_past(self, reader: _Reader, moment_ms: int) -> bool:
        spots = [spot(Partition(self._topic, number)) for number in await partitions(reader, self._topic)]
        if not spots:
            return False
        reader.assign(spots)
        later = await reader.offsets_for_times(dict.fromkeys(spots, moment_ms + 1))
        begins, ends = await reader.beginning_offsets(spots), await reader.end_offsets(spots)
        # What retention took away is read by nobody, and brokers forget the commits of a fleet that slept for long.
        read = {one: max(await reader.committed(one) or 0, begins[one]) for one in spots}
        return all(read[one] >= _needed(later.get(one), ends[one]) for one in spots)


def _needed(later: _Position | None, end: int) -> int:
    """The first offset appended after the moment, or the end when there is none yet."""
    return end if later is None else later.offset
