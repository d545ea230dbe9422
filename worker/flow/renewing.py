"""After a rotation of the row MAC key every row gets a MAC of the newest version, a bounded piece at a time.

One process at a time leads it. A piece is a walk along a table's primary key; each row is verified under its old MAC,
and takes the new one only if it still is the row that was read. Its revision stays, so nothing that rests on it moves;
a crash leaves rows of both kinds, which are both read. What can't be verified keeps its MAC and is named once.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from worker.flow.authentic import Authentic, authentic_rows
from worker.flow.retagging import Retagging
from worker.flow.trust import Trust
from worker.model.facts import Answer, StoredRow
from worker.model.fleet import FleetKind
from worker.model.words import RowRef, Table
from worker.ports import Dues, FleetKeys

log = logging.getLogger(__name__)

LEAD_S = 5.0
TABLES = tuple(Table)
AT_ONCE = 200
REST_TURNS = 120
"""Turns between two walks over tables in which nothing old was found."""
SETTLED_TURNS = 10
"""Of them, so many until what was told on the way has been heard."""


class MacRows(Protocol):
    """Rows by the version of their MAC. Both raise `StoreUnavailable`."""

    async def older(self, table: Table, after: StoredRow | None, newest: int, limit: int) -> Sequence[StoredRow]:
        """The next rows of this table, in the order of primary keys, whose MAC is of an older version."""
        ...

    async def renew(self, was: StoredRow, now: Authentic) -> bool:
        """Give the row its new MAC, and tell of it; False if it is another row by now."""
        ...


@dataclass(slots=True)
class Renewing:
    """The duty."""

    holder: str
    dues: Dues
    rows: MacRows
    trust: Trust
    fleet_keys: FleetKeys
    retagging: Retagging
    _newest: int = 1
    _place: int = 0
    _after: StoredRow | None = None
    _found: bool = False
    _rest: int = 0
    _named: set[RowRef] = field(default_factory=set)

    async def turn(self) -> int:
        """Renew the next piece; how many of its rows have a new MAC."""
        newest = self.fleet_keys.newest(FleetKind.ROW_MAC)
        if newest != self._newest:
            self._newest, self._place, self._after, self._rest = newest, 0, None, 0
        self._rest = max(0, self._rest - 1)
        if (
            newest == 1
            or self._rest > REST_TURNS - SETTLED_TURNS
            or not await self.dues.lead("row MACs", self.holder, LEAD_S)
        ):
            return 0
        if self._rest:
            await self.retagging.turn(newest)
            return 0
        while self._place < len(TABLES):
            piece = await self.rows.older(TABLES[self._place], self._after, newest, AT_ONCE)
            if piece:
                self._after = piece[-1]
                renewed = await self._renew(piece)
                self._found = self._found or renewed > 0
                return renewed
            self._place, self._after = self._place + 1, None
        self._place, self._rest, self._found = 0, 0 if self._found else REST_TURNS, False
        return 0

    async def _renew(self, piece: Sequence[StoredRow]) -> int:
        if not piece:
            return 0
        facts = await self.trust.verified(Answer(0, {}, tuple(piece), {}))
        good = [stored for stored in piece if stored.row.ref not in facts.tampered]
        for stored in piece:
            if stored.row.ref in facts.tampered and stored.row.ref not in self._named:
                self._named.add(stored.row.ref)
                log.critical("%s keeps its old MAC, for that does not hold", stored.row.ref)
        fresh = await authentic_rows(self.fleet_keys, [stored.row for stored in good])
        return sum([await self.rows.renew(was, now) for was, now in zip(good, fresh, strict=True)])
