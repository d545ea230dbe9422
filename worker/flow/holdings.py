"""What one process holds of a lane's partitions, and what it knows of each: epochs, offsets, suspicions. Pure.

A record belongs to the epoch it was caught under; whatever it does after another epoch began is ignored here (D3).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from worker.flow.offsets import Prefix
from worker.model.records import Partition, Record, Verdict

DEATHS = 3
"""So many deaths at one offset make the records there suspects; so many deaths alone bury one (D5)."""


@dataclass(slots=True)
class Holding:
    """One partition. `epoch` None: rewound, and its first record is awaited."""

    epoch: int | None
    prefix: Prefix
    committed: int
    assignments: int
    """How many assignments in a row began at this offset, this one included."""
    suspect_until: int = 0
    failures: int = 0
    dead: int = 0
    """Authentic dead letters in a row."""
    has_progressed: bool = False


@dataclass(frozen=True, slots=True)
class Dropped:
    """What was forgotten: records without a verdict, and partitions that were left as they were found."""

    unfinished: int
    untouched: list[Partition]


@dataclass(slots=True)
class Holdings:
    """All partitions of a lane that this process has met. `reach` is how far ahead of the committed offset it works."""

    reach: int
    dead_letters: int
    stopped: set[Partition] = field(default_factory=set)
    """Over the dead-letter limit; nothing more is taken from these in this process's life."""
    _held: dict[Partition, Holding] = field(default_factory=dict)

    @property
    def partitions(self) -> frozenset[Partition]:
        """What is held."""
        return frozenset(self._held)

    def newcomers(self, records: Iterable[Record]) -> list[Record]:
        """The first record of each partition that was assigned anew; what we rewound ourselves goes on as before."""
        found: dict[Partition, Record] = {}
        for record in records:
            held = self._held.get(record.partition)
            if held is not None and held.epoch is None:
                held.epoch, held.committed, held.prefix = record.epoch, record.offset, Prefix(record.offset)
            elif (held is None or held.epoch != record.epoch) and record.partition not in self.stopped:
                found.setdefault(record.partition, record)
        return list(found.values())

    def adopt(self, first: Record, assignments: int) -> None:
        """Hold a newcomer. Too many assignments in a row at one offset: its workers died of something there."""
        suspect_until = first.offset + self.reach if assignments > DEATHS else 0
        self._held[first.partition] = Holding(
            first.epoch, Prefix(first.offset), first.offset, assignments, suspect_until
        )

    def begin(self, records: Iterable[Record]) -> tuple[list[Record], list[Record]]:
        """Note records as begun: those for a common batch, and those that must run alone. Stale ones are in neither."""
        usual: list[Record] = []
        suspects: list[Record] = []
        for record in records:
            held = self._held.get(record.partition)
            if held is not None and held.epoch == record.epoch and record.partition not in self.stopped:
                held.prefix.caught([record.offset])
                (suspects if record.offset < held.suspect_until else usual).append(record)
        return usual, suspects

    def finish(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> list[Partition]:
        """Note records as finished; the partitions that reached the dead-letter limit by it."""
        touched: dict[Partition, Holding] = {}
        for record, verdict in zip(records, verdicts, strict=True):
            held = self._held.get(record.partition)
            if held is not None and held.epoch == record.epoch:
                held.prefix.finished(record.offset, verdict)
                touched[record.partition] = held
        for held in touched.values():
            for verdict in held.prefix.advance():
                held.failures = 0
                if verdict is not Verdict.UNAUTHENTIC:  # says nothing about us: counts toward nothing
                    held.dead = held.dead + 1 if verdict is Verdict.DEAD else 0
        over = [partition for partition, held in touched.items() if held.dead >= self.dead_letters]
        newly = [partition for partition in over if partition not in self.stopped]
        self.stopped.update(newly)
        return newly

    def fail(self, records: Iterable[Record], *, blames_records: bool) -> list[Partition]:
        """Void the partitions of a failed batch; those to rewind. Failing again and again is as good as dying."""
        void = []
        for partition, epoch in {record.partition: record.epoch for record in records}.items():
            held = self._held.get(partition)
            if held is not None and held.epoch not in (epoch, None):
                continue  # assigned or rewound since, and running again
            void.append(partition)
            if held is None or held.epoch is None:
                continue
            held.epoch, held.prefix, held.dead = None, Prefix(held.committed), 0
            held.failures += blames_records
            if held.failures >= DEATHS:
                held.suspect_until = held.committed + self.reach
        return void

    def unsaved(self, is_current: Callable[[Partition, int], bool]) -> dict[Partition, int]:
        """The offsets that may be committed now."""
        return {
            partition: held.prefix.next_offset
            for partition, held in self._held.items()
            if held.prefix.next_offset > held.committed and held.epoch is not None and is_current(partition, held.epoch)
        }

    def saved(self, offsets: dict[Partition, int]) -> list[Partition]:
        """These were committed; the partitions that thereby got past an offset where workers had died."""
        past = []
        for partition, offset in offsets.items():
            held = self._held.get(partition)
            if held is None:
                continue
            held.committed = offset
            if not held.has_progressed and held.assignments > 1:
                past.append(partition)
            held.has_progressed = True
        return past

    def drop(self, partitions: Iterable[Partition]) -> Dropped:
        """Forget partitions that were given back."""
        gone = {each: held for each in partitions if (held := self._held.pop(each, None)) is not None}
        unfinished = sum(held.prefix.open_records for held in gone.values())
        untouched = [each for each, held in gone.items() if held.prefix.is_idle and not held.has_progressed]
        return Dropped(unfinished, untouched)
