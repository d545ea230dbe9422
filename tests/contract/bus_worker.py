"""A process that runs one lane with a river that copies each record's place to another topic; the fault tests hurt it.

    python bus_worker.py BOOTSTRAP PREFIX [PARTITION/OFFSET]

With a place it freezes itself there, after "settle" and before "publish", and says afterwards whether it is current.
"""
# ruff: noqa: ARG002 - ports give more than this river looks at

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from worker.edges.bus.access import KafkaAccess
from worker.edges.bus.sink import KafkaSink
from worker.edges.bus.source import KafkaSource, Timing
from worker.flow.intake import Bounds, Intake
from worker.model.records import Closed, Outgoing, Partition, Record, Verdict
from worker.ports import StaleEpoch

TIMING = Timing(session_s=1.0, heartbeat_s=0.2, rebalance_s=3.0, wait_s=0.1)
BOUNDS = Bounds(max_records=20, drain_s=1.5)


def say(text: str) -> None:
    """A line for the test, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Copying:
    """A river."""

    def __init__(self, source: KafkaSource, sink: KafkaSink, prefix: str, freeze_at: str) -> None:
        self.source, self.sink, self.prefix, self.freeze_at = source, sink, prefix, freeze_at
        self.batches = 0

    async def run(self, records: Sequence[Record]) -> list[Verdict]:
        await asyncio.sleep(0.005)  # overlap
        if any(self.freeze_at == f"{record.partition.number}/{record.offset}" for record in records):
            self.freeze_at = ""
            say("freezing")
            os.kill(os.getpid(), signal.SIGSTOP)
            say("stale" if self._is_stale(records) else "current")
        self.batches += 1
        if self._is_stale(records) or self.batches % 7 == 0:  # now and then one fails, so that it and later ones rewind
            raise StaleEpoch
        letters = [
            Outgoing(f"{self.prefix}.out", b"%d/%d" % (record.partition.number, record.offset), record.value, ())
            for record in records
        ]
        assert set(await self.sink.publish(letters)) == {None}
        return [Verdict.DONE] * len(records)

    def _is_stale(self, records: Sequence[Record]) -> bool:
        return not all(self.source.is_current(record.partition, record.epoch) for record in records)

    async def bury(self, record: Record) -> Verdict:
        raise AssertionError(record.place)

    async def set_aside(self, record: Record) -> Verdict:
        raise AssertionError(record.place)


class Nobody:
    """Attempts that count nothing, and an observer of nothing but partitions."""

    async def assigned(self, group: str, partition: Partition, offset: int) -> int:
        return 1

    async def released(self, group: str, partition: Partition) -> None: ...
    async def begin_alone(self, group: str, partition: Partition, offset: int) -> int:
        return 1

    async def end_alone(self, group: str, partition: Partition, offset: int) -> None: ...
    def caught(self, records: int, size: int, closed: Closed) -> None: ...
    def finished(self, records: int, seconds: float) -> None: ...
    def failed(self, records: int, error: Exception) -> None: ...
    def revoked(self, partitions: int, unfinished: int) -> None: ...
    def suspected(self, record: Record, times: int) -> None: ...
    def stopped(self, partition: Partition) -> None: ...


async def main(bootstrap: str, prefix: str, freeze_at: str = "") -> None:
    """Run until SIGTERM."""
    access = KafkaAccess(bootstrap)
    async with (
        KafkaSink(access, {f"{prefix}.out": 8_388_608}.get) as sink,
        KafkaSource(access, prefix, [f"{prefix}.in"], TIMING) as source,
    ):
        river = Copying(source, sink, prefix, freeze_at)
        intake = Intake(prefix, source, river, Nobody(), Nobody(), BOUNDS)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, intake.stop)
        say("ready")
        await intake.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
