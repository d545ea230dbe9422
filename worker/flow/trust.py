"""From what the store holds to what may be believed: every row's MAC is verified before anything rests on it (S7)."""

import logging
from collections.abc import Iterable, Mapping
from uuid import UUID

from cachetools import LRUCache

from worker.model.facts import Answer, Facts, StoredRow
from worker.model.rows import Alias, Approval, Client, Grant, IntakeKey, Key, Row, RowRef, Rule, Tenant, Version
from worker.ports import FleetKeys, Mac
from worker.seal.rowmac import mac_input

log = logging.getLogger(__name__)

REMEMBERED = 100_000
"""Rows whose MAC held are remembered whole, so the token is asked once per change, not once per request."""

TOLD = 10_000
"""Rows that did not pass are named in the log once each, and no more than these."""

_MAPPED: frozenset[type[Row]] = frozenset({Tenant, Key, Version, Alias, Client, IntakeKey, Approval})
"""The kinds of rows that `Facts` holds by their own keys."""


class Trust:
    """Verifies rows, and remembers those that held."""

    def __init__(self, fleet_keys: FleetKeys) -> None:
        self._fleet_keys = fleet_keys
        self._told: set[RowRef] = set()
        self._held: LRUCache[StoredRow, bool] = LRUCache(REMEMBERED)

    async def verified(self, answer: Answer) -> Facts:
        """The facts; rows whose MAC does not hold are only named. Raises `TokenUnavailable`."""
        retired = self._fleet_keys.retired
        held = self._held.get
        doubted = [stored for stored in answer.rows if held(stored) is None or stored.mac_version in retired]
        if doubted:
            macs = [Mac(stored.mac_version, stored.mac) for stored in doubted]
            good = await self._fleet_keys.verify([mac_input(stored.row) for stored in doubted], macs)
            self._held.update((stored, True) for stored, is_good in zip(doubted, good, strict=True) if is_good)
            refused = frozenset(stored.row.ref for stored, is_good in zip(doubted, good, strict=True) if not is_good)
        else:
            refused = frozenset()
        for ref in sorted(refused - self._told) if len(self._told) < TOLD else ():
            self._told.add(ref)
            log.critical("%s %s does not pass its check: it was changed by another hand", ref.table, ref.key)
        return _facts(answer, refused | answer.older)


def _facts(answer: Answer, tampered: frozenset[RowRef]) -> Facts:
    rows = [stored.row for stored in answer.rows if not tampered or stored.row.ref not in tampered]
    aliases = {row.name: row for row in rows if isinstance(row, Alias)}
    return Facts(
        now_ms=answer.now_ms,
        ledger=answer.ledger,
        deks=answer.deks,
        tenants={row.id: row for row in rows if isinstance(row, Tenant)},
        keys={row.id: row for row in rows if isinstance(row, Key)},
        versions={(row.key, row.number): row for row in rows if isinstance(row, Version)},
        aliases=aliases,
        names=_names(aliases.values()),
        clients={row.id: row for row in rows if isinstance(row, Client)},
        intake_keys={row.sequence: row for row in rows if isinstance(row, IntakeKey)},
        tampered=tampered,
        key_pages=answer.key_pages,
        client_pages=answer.client_pages,
        approvals={row.id: row for row in rows if isinstance(row, Approval)},
        rows={row.ref: row for row in rows if type(row) not in _MAPPED},
        distrusted=_distrusted(answer, tampered) if tampered else frozenset(),
        pages=answer.pages,
        below=answer.below,
        needs=answer.needs,
        rests=answer.rests,
        progress=answer.progress,
        failures=answer.failures,
        exposed=answer.exposed,
    )


def _distrusted(answer: Answer, tampered: frozenset[RowRef]) -> frozenset[str]:
    rows = [stored.row for stored in answer.rows if stored.row.ref in tampered]
    return frozenset(row.client for row in rows if isinstance(row, Rule | Grant))


def _names(aliases: Iterable[Alias]) -> Mapping[UUID, tuple[str, ...]]:
    names: dict[UUID, tuple[str, ...]] = {}
    for alias in aliases:
        names[alias.key] = (*names.get(alias.key, ()), alias.name)
    return names
