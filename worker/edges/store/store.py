"""The river's memory in Postgres: `know` is one statement, so one snapshot; `settle` is one, so one transaction."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg

from worker.edges.store.alone import is_alone, settle_alone
from worker.edges.store.batch import arrange, fates
from worker.edges.store.campaigns import with_campaigns
from worker.edges.store.pool import Connection, Pool
from worker.edges.store.queries import SQL
from worker.edges.store.rows import RowReader
from worker.edges.store.settling import Batch, entry_from, entry_of
from worker.model.effects import LedgerEntry, Settlement, Settling
from worker.model.facts import Answer, Below, Needs, Paging, Question, RowPage, StoredRow
from worker.model.fleet import FleetKind
from worker.model.hsm import Purpose
from worker.model.ids import NO_ID
from worker.model.requests import LedgerKey
from worker.model.rows import Dek, RowRef, Table

_MAX_INT = 2**31 - 1
"""Of a column; a blob's header has room for twice as many versions."""


class PostgresStore:
    """The port `Store`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._reader = RowReader()

    async def know(self, question: Question) -> Answer:
        """One round trip; one more per page that is asked for."""

        async def work(connection: Connection) -> Answer:
            key_pages = {page: await _key_page(connection, page) for page in question.key_pages}
            client_pages = {page: await _client_page(connection, page) for page in question.client_pages}
            pages = {page: await _row_page(connection, page) for page in question.pages}
            keys = question.keys.union(question.trees, *key_pages.values())
            clients = question.clients.union(*client_pages.values())
            refs = question.refs.union(*pages.values())
            rows = await connection.fetch(SQL["know"], *_arguments(question, keys, clients, refs))
            answer = _answer(self._reader, rows, key_pages, client_pages)
            if not (pages or question.below or question.needs or question.rests):
                return answer
            below = {key: await _below(connection, key) for key in question.below}
            needs = {place: await _needs(connection, *place) for place in question.needs}
            rests = await _rests(connection) if question.rests else {}
            return replace(answer, pages=pages, below=below, needs=needs, rests=rests)

        answer = await self._pool.run(work)
        if not (question.progress or question.failures or question.exposed):
            return answer
        return await self._pool.run(lambda connection: with_campaigns(connection, question, answer))

    async def settle(self, settlements: Sequence[Settlement]) -> list[Settling]:
        """One round trip for the whole batch, whatever is in it; only what is settled alone takes some more."""
        if is_alone(settlements):
            return [await settle_alone(self._pool, settlements[0])]
        order = arrange(settlements)
        batch = Batch()
        for slot in order.free:
            batch.add(slot, settlements[slot])
        arguments = batch.arguments()
        rows = await self._pool.run(lambda connection: connection.fetch(SQL["settle"], *arguments))
        return fates(settlements, order, {row["slot"]: entry_of(row["stored"]) for row in rows})


def _arguments(
    question: Question, keys: frozenset[UUID], clients: frozenset[str], refs: frozenset[RowRef]
) -> Sequence[object]:
    possible = [(key, number) for key, number in question.versions if number <= _MAX_INT]
    versions = [*((key, 0) for key in keys), *possible]
    named = [ref for ref in refs if _possible(ref.key)]
    ledger = [key for key in question.ledger if _possible(key.tenant, key.client, key.source, key.id)]
    return (
        question.deks,
        [name for name in question.aliases if _possible(name)],
        [key for key, _ in versions],
        [number for _, number in versions],
        question.trees,
        [key.tenant for key in ledger],
        [key.client for key in ledger],
        [key.source for key in ledger],
        [key.id for key in ledger],
        [tenant for tenant in question.tenants if _possible(tenant)],
        [client for client in clients if _possible(client)],
        question.intake_keys,
        [ref.table.value for ref in named],
        [ref.key for ref in named],
        [client for client in question.licences if _possible(client)],
        [id_ for id_ in question.quotas if _possible(id_)],
    )


def _possible(*texts: str) -> bool:
    """Whether Postgres can hold these: no NUL, no lone surrogate. What it can't hold is not there, and harms nobody."""
    return not any("\0" in text for text in texts) and all(text.isascii() or _encodes(text) for text in texts)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _answer(
    reader: RowReader,
    found: Sequence[asyncpg.Record],
    key_pages: dict[Paging, tuple[UUID, ...]],
    client_pages: dict[Paging, tuple[str, ...]],
) -> Answer:
    now_ms = 0
    ledger: dict[LedgerKey, LedgerEntry] = {}
    deks: dict[UUID, Dek] = {}
    rows: list[StoredRow] = []
    for one in found:
        kind: str = one[0]
        if kind == "dek":
            dek = Dek(one[2], one[3], one[4], one[5])
            deks[dek.id] = dek
        elif kind == "ledger":
            entry = _entry(one)
            ledger[entry.key] = entry
        elif kind == "now":
            now_ms = one[1]
        elif (row := reader.read(kind, one["doc"] or one[kind])) is not None:
            rows.append(row)
    return Answer(now_ms, ledger, tuple(rows), deks, key_pages, client_pages)


def _entry(one: asyncpg.Record) -> LedgerEntry:
    return entry_from(one[6], one[7], one[8], one[9], one[10], one[5], one[11])


async def _key_page(connection: Connection, page: Paging) -> tuple[UUID, ...]:
    try:
        after = UUID(page.after) if page.after else NO_ID
    except ValueError:
        return ()
    return await _page(connection, "key_page", page, after)


async def _client_page(connection: Connection, page: Paging) -> tuple[str, ...]:
    return await _page(connection, "client_page", page, page.after)


async def _row_page(connection: Connection, page: RowPage) -> tuple[RowRef, ...]:
    if not _possible(page.tenant, page.after):
        return ()
    found = await connection.fetch(SQL["row_page"], page.table.value, page.tenant, page.after, page.limit)
    return tuple(RowRef(page.table, row["name"]) for row in found)


async def _below(connection: Connection, key: UUID) -> tuple[Below, ...]:
    rows = await connection.fetch(SQL["below"], key)
    return tuple(
        Below(UUID(int=id_.int), alias, layer, region, purpose == Purpose.WRAPS_DEKS, versions, deks, outside)
        for id_, alias, layer, region, purpose, versions, deks, outside in rows
    )


async def _rests(connection: Connection) -> dict[tuple[FleetKind, int], int]:
    rows = await connection.fetch(SQL["rests"], [table.value for table in Table])
    return {(FleetKind(row["kind"]), row["number"]): row["rests"] for row in rows}


async def _needs(connection: Connection, key: UUID, number: int) -> Needs:
    (row,) = await connection.fetch(SQL["needs"], key, number)
    return Needs(**row)


async def _page(connection: Connection, name: str, page: Paging, after: object) -> tuple[Any, ...]:
    if not _possible(page.tenant, page.after):
        return ()
    return tuple(row["id"] for row in await connection.fetch(SQL[name], page.tenant, after, page.limit))
