"""Follows `keyriver.sequences.v1` (S7), and holds every answer of the store against it.

A record counts when 1. it is readable, 2. it stands under its row's key, 3. the row MAC key itself vouches for it, in
the token. Anything else is counted and ignored; so is a tombstone. Who lags behind refuses nothing that is newer.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Protocol

from worker.chain.sequences import Mark, Sequences, stands
from worker.model.effects import Settlement, Settling
from worker.model.facts import Answer, Question
from worker.model.fleet import FleetKind
from worker.model.records import Entry
from worker.model.words import RowRef
from worker.ports import FleetKeys, Mac, Store
from worker.seal import sequences as told
from worker.seal.sequences import BadSequence

log = logging.getLogger(__name__)

WAIT_S = 0.5
AT_ONCE = 1000
PART = 64
"""Tags that one of the token's sessions verifies at a time: on a network HSM only many sessions are quick."""
MOST_NAMED = 20
"""Records of one version that are named in the log. At a start it is not known yet which versions were retired."""
MOST_OVERTAKEN = MOST_NOTICED = 10_000


class Compacted(Protocol):
    """A topic that is read from its beginning, batch by batch. Raises `BusUnavailable`."""

    def to_end(self) -> AsyncIterator[list[Entry]]:
        """Everything up to the end as it is now."""
        ...

    async def wait(self, seconds: float) -> list[Entry]:
        """What came next; empty after so many seconds."""
        ...


@dataclass(slots=True)
class SequenceFeed:
    """Reads the topic. `catch_up` once, before anything is served; then `turn`, again and again."""

    topic: Compacted
    fleet_keys: FleetKeys
    sequences: Sequences
    refused: Counter[str] = field(default_factory=Counter)
    """Records that count for nothing, by reason. Forgeries show here."""
    overtaken: set[RowRef] = field(default_factory=set)
    """Rows of which an older sequence came after a newer one: compaction would keep the older."""
    _waiting: deque[Entry] = field(default_factory=deque)
    _of_version: Counter[int] = field(default_factory=Counter)

    async def catch_up(self) -> int:
        """Read up to the end; how many rows are known now. Raises `BusUnavailable`, `TokenUnavailable`."""
        async for entries in self.topic.to_end():
            self._waiting.extend(entries)
            await self._learn()
        return len(self.sequences)

    async def turn(self) -> None:
        """Take what comes within half a second; what can't be verified now waits for the next turn."""
        if not self._waiting:
            self._waiting.extend(await self.topic.wait(WAIT_S))
        await self._learn()

    async def _learn(self) -> None:
        while self._waiting:
            some = [self._waiting[place] for place in range(min(AT_ONCE, len(self._waiting)))]
            await self._judge(some)
            for _ in some:
                self._waiting.popleft()

    async def _judge(self, entries: Sequence[Entry]) -> None:
        read = [parsed for entry in entries if (parsed := self._read(entry)) is not None]
        parts = [read[start : start + PART] for start in range(0, len(read), PART)]
        held = await asyncio.gather(*[self._vouched(part) for part in parts])
        for (said, tag), good in zip(read, chain.from_iterable(held), strict=True):
            if not good:
                self._unvouched(said.ref, tag.version)
            elif not self.sequences.learn(said.ref, Mark(said.revision, said.mac_version, said.mac, tag.version)):
                self._older(said)

    async def _vouched(self, part: Sequence[tuple[told.Sequence, Mac]]) -> list[bool]:
        return await self.fleet_keys.verify([said.payload() for said, _ in part], [tag for _, tag in part])

    def _read(self, entry: Entry) -> tuple[told.Sequence, Mac] | None:
        if entry.value is None:
            self._refuse("tombstone", repr(entry.key))
            return None
        try:
            said, version, tag = told.Sequence.parse(entry.value)
        except BadSequence as error:
            self._refuse("unreadable", str(error))
            return None
        if entry.key != told.record_key(said.ref):
            self._refuse("misplaced", f"{said.ref.table} {said.ref.key}")
            return None
        return said, Mac(version, tag)

    def _older(self, said: told.Sequence) -> None:
        known = self.sequences.mark(said.ref)
        if known is not None and (known.revision, known.mac_version) == (said.revision, said.mac_version):
            self._refuse("contradicting", f"{said.ref.table} {said.ref.key} at revision {said.revision}")
        elif len(self.overtaken) < MOST_OVERTAKEN:
            self.overtaken.add(said.ref)

    def _unvouched(self, ref: RowRef, version: int) -> None:
        """Forged, or of a version that was retired: all that one told stays on the topic until compaction."""
        if version in self.fleet_keys.retired:
            self.refused["retired"] += 1
            return
        self._of_version[version] += 1
        if self._of_version[version] > MOST_NAMED:
            self.refused["forged"] += 1
        else:
            self._refuse("forged", f"{ref.table} {ref.key}, as of row MAC version {version}, which may be retired")

    def _refuse(self, why: str, what: str) -> None:
        self.refused[why] += 1
        log.warning("a %s record of the sequences is ignored: %s", why, what)


@dataclass(slots=True)
class SequencedStore:
    """A `Store` whose answers leave out rows that are older than what was told of them; they are named in `older`."""

    store: Store
    sequences: Sequences
    noticed: dict[RowRef, Mark] = field(default_factory=dict)
    """Rows that were older than what was told, until somebody has written that down."""
    _known: dict[RowRef, Mark] = field(default_factory=dict)

    def written(self, ref: RowRef, mark: Mark) -> None:
        """It stands on the audit trail that this row is older than this."""
        if self.noticed.get(ref) == mark:
            del self.noticed[ref]

    async def know(self, question: Question) -> Answer:
        """As `Store.know`. A row that looks old is read once more: it may have changed on the answer's way here."""
        answer = self._weighed(await self.store.know(question))
        suspects = self.sequences.suspects(question, answer)
        if not suspects:
            return answer
        again = self._weighed(await self.store.know(question))
        found = {stored.row.ref: stored for stored in again.rows}
        older = frozenset(ref for ref, mark in suspects.items() if not stands(found.get(ref), mark))
        for ref in sorted(older):
            self._notice(ref, suspects[ref])
        rows = tuple(stored for stored in again.rows if stored.row.ref not in older)
        return replace(again, rows=rows, older=older)

    def _weighed(self, answer: Answer) -> Answer:
        """What rests on a version of the row MAC key is rows, and what it told of rows that are gone."""
        if not answer.rests:
            return answer
        told = {(FleetKind.ROW_MAC, version): count for version, count in self.sequences.tags().items()}
        both = {name: max(answer.rests.get(name, 0), told.get(name, 0)) for name in (*answer.rests, *told)}
        return replace(answer, rests=both)

    def _notice(self, ref: RowRef, mark: Mark) -> None:
        if self._known.get(ref) == mark or len(self._known) >= MOST_NOTICED:
            return
        self._known[ref] = self.noticed[ref] = mark
        log.critical("%s %s is gone, or older than the fleet said: the database was set back", ref.table, ref.key)

    async def settle(self, settlements: Sequence[Settlement]) -> list[Settling]:
        """As `Store.settle`, which compares revisions itself."""
        return await self.store.settle(settlements)
