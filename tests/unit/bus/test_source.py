"""The traps of consuming, one by one, on a consumer that does what a test says: rare on a real cluster, and costly."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaConnectionError

from worker.edges.bus.access import KafkaAccess
from worker.edges.bus.kafka import Consumed, Consumer, Spot, spot
from worker.edges.bus.source import KafkaSource, Timing, _record
from worker.model.records import Partition
from worker.ports import BusUnavailable, StaleEpoch

HERE = Partition("t", 0)
PLACE = spot(HERE)


@dataclass
class Scripted:
    """A consumer whose deliveries and positions a test writes."""

    deliveries: list[Mapping[Spot, list[Consumed]]] = field(default_factory=list)
    held: frozenset[Spot] = frozenset({PLACE})
    at: int = 0
    end: int = 0
    committed_: int | None = 0
    sought: list[int] = field(default_factory=list)
    fails: Exception | None = None
    is_stopped: bool = False
    hold: asyncio.Event | None = None
    _coordinator: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(generation=3))

    async def stop(self) -> None:
        if self.hold is not None:
            await self.hold.wait()
        self.is_stopped = True

    async def getmany(self, **_: int) -> Mapping[Spot, list[Consumed]]:
        if self.fails is not None:
            raise self.fails
        return self.deliveries.pop(0) if self.deliveries else {}

    async def committed(self, _: Spot) -> int | None:
        return self.committed_

    async def beginning_offsets(self, where: Iterable[Spot]) -> dict[Spot, int]:
        return dict.fromkeys(where, 7)

    async def end_offsets(self, where: Iterable[Spot]) -> dict[Spot, int]:
        return dict.fromkeys(where, self.end)

    async def position(self, _: Spot) -> int:
        return self.at

    def seek(self, _: Spot, offset: int) -> None:
        if self.fails is not None:
            raise self.fails
        self.sought.append(offset)

    async def commit(self, offsets: Mapping[Spot, int]) -> None:
        if self.fails is not None:
            raise self.fails
        self.committed_ = offsets[PLACE]

    def assignment(self) -> frozenset[Spot]:
        return self.held

    def pause(self, *_: Spot) -> None: ...
    def resume(self, *_: Spot) -> None: ...


def record(offset: int, timestamp_type: int = 1) -> Consumed:
    told = {"timestamp": 7, "timestamp_type": timestamp_type, "key": None, "value": b"v", "headers": [("h", None)]}
    return cast(Consumed, SimpleNamespace(offset=offset, **told))


def source_on(client: Scripted, timing: Timing | None = None) -> KafkaSource:
    source = KafkaSource(KafkaAccess("nowhere:1"), "g", ["t"], timing or Timing())
    source._consumer = cast(Consumer, client)
    source.assigned(cast(Consumer, client), frozenset({HERE}))
    return source


async def offsets(source: KafkaSource) -> Sequence[int]:
    return [each.offset for each in (await source.catch(10, 1000)).records]


async def test_nothing_is_taken_before_the_committed_offset_is_found_and_sought() -> None:
    client = Scripted(deliveries=[{PLACE: [record(5)]}], committed_=5)
    source = source_on(client)
    assert not source.is_current(HERE, 1)
    assert await offsets(source) == [5]
    assert client.sought == [5]
    assert source.is_current(HERE, 1)


async def test_without_a_commit_it_begins_at_the_oldest_record() -> None:
    client = Scripted(committed_=None)
    await offsets(source_on(client))
    assert client.sought == [7]


async def test_what_is_delivered_in_the_middle_of_a_rebalance_is_sought_again_not_lost() -> None:
    client = Scripted(deliveries=[{PLACE: [record(0)]}, {PLACE: [record(0)]}])
    source = source_on(client)
    source._unplaced.clear()  # its assignment is announced, its callback is not through
    assert await offsets(source) == []
    assert await offsets(source) == [0]
    assert client.sought == [0]


async def test_a_partition_that_went_away_while_it_was_placed_stays_away() -> None:
    client = Scripted(held=frozenset())
    source = source_on(client)
    assert await offsets(source) == []
    assert client.sought == []
    assert not source.is_current(HERE, 1)


async def test_who_was_expelled_holds_nothing_while_it_drains() -> None:
    client = Scripted()
    source = source_on(client)
    await offsets(source)
    client._coordinator.generation = -1
    seen: list[bool] = []

    async def drain(partitions: frozenset[Partition]) -> None:
        assert partitions == {HERE}
        seen.append(source.is_current(HERE, 1))

    source.on_revoke(drain)
    await source.revoked(cast(Consumer, client))
    assert seen == [False]


async def test_a_drain_that_fails_gives_the_partitions_back_all_the_same() -> None:
    client = Scripted()
    source = source_on(client)
    await offsets(source)

    async def drain(partitions: frozenset[Partition]) -> None:
        raise ZeroDivisionError

    source.on_revoke(drain)
    await source.revoked(cast(Consumer, client))
    assert not source.is_current(HERE, 1)


async def test_after_an_error_the_client_is_given_up_and_has_no_say_any_more() -> None:
    client = Scripted(fails=OSError("gone"))
    source = source_on(client)
    with pytest.raises(BusUnavailable, match="gone"):
        await source.catch(10, 1000)
    assert client.is_stopped
    other = Scripted()
    source._consumer = cast(Consumer, other)
    source.assigned(cast(Consumer, other), frozenset({HERE}))
    await offsets(source)
    await source.revoked(cast(Consumer, client))
    source.assigned(cast(Consumer, client), frozenset())
    assert source.is_current(HERE, source._last_epoch)


async def test_leaving_the_group_is_never_broken_off() -> None:
    client = Scripted(hold=asyncio.Event(), fails=OSError("gone"))
    source = source_on(client, Timing(answer_s=0.01))
    with pytest.raises(BusUnavailable):
        await source.catch(10, 1000)
    assert not client.is_stopped
    assert client.hold is not None
    client.hold.set()
    await source.__aexit__(None, None, None)
    assert client.is_stopped


async def test_records_that_wait_while_none_comes_make_it_connect_anew() -> None:
    client = Scripted(at=3, end=4)
    source = source_on(client, Timing(stall_s=0.0))
    assert await offsets(source) == [], "the first look may be at records just on their way"
    with pytest.raises(BusUnavailable, match="records wait and none comes"):
        await source.catch(10, 1000)
    assert client.is_stopped


async def test_an_idle_partition_is_no_stall_and_a_paused_one_neither() -> None:
    client = Scripted(at=4, end=4)
    source = source_on(client, Timing(stall_s=0.0))
    for _ in range(4):
        assert await offsets(source) == []
    client.end = 9
    source.pause([HERE])
    for _ in range(4):
        assert await offsets(source) == []


async def test_a_standstill_longer_than_the_session_voids_what_is_held_before_anything_else_runs() -> None:
    client = Scripted(deliveries=[{}, {PLACE: [record(0)]}])
    source = source_on(client, Timing(session_s=0.3))
    await offsets(source)
    assert source.is_current(HERE, 1)
    source._pulse._last -= 0.4
    assert not source.is_current(HERE, 1)
    source._pulse.start()
    source._pulse._last -= 0.4
    async with asyncio.timeout(5):
        while HERE not in source._unplaced:
            await asyncio.sleep(0.01)
    assert await offsets(source) == [0], "the group still has us: it goes on under a new epoch"
    assert source.is_current(HERE, 2)
    await source._pulse.stop()


async def test_what_goes_wrong_while_the_group_is_joined_is_said_and_begins_anew() -> None:
    client = Scripted()

    def check_errors() -> None:
        raise OSError("not for you")

    client._coordinator.check_errors = check_errors
    source = source_on(client)
    source._assigned.clear()
    with pytest.raises(BusUnavailable, match="not for you"):
        await source.catch(10, 1000)
    assert client.is_stopped


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (CommitFailedError("g"), StaleEpoch),
        (IllegalStateError("g"), StaleEpoch),
        (KafkaConnectionError("g"), BusUnavailable),
    ],
)
async def test_a_commit_that_fails_says_whether_to_repeat_it(failure: Exception, said: type[Exception]) -> None:
    client = Scripted()
    source = source_on(client)
    await offsets(source)
    await source.commit({HERE: 4})
    client.fails = failure
    with pytest.raises(said):
        await source.commit({HERE: 9})
    client.fails = None
    await source.rewind([HERE])
    assert client.sought[-1] == 4, "what failed counts as not committed"


async def test_a_rewind_of_what_is_gone_gives_it_up() -> None:
    client = Scripted()
    source = source_on(client)
    await offsets(source)
    client.fails = IllegalStateError("gone")
    await source.rewind([HERE])
    assert HERE not in source._epochs
    with pytest.raises(StaleEpoch):
        await source.commit({HERE: 1})


def test_a_time_that_the_producer_chose_counts_as_none() -> None:
    appended, created = _record(HERE, 1, record(3)), _record(HERE, 1, record(3, timestamp_type=0))
    assert (appended.appended_ms, created.appended_ms) == (7, 0)
