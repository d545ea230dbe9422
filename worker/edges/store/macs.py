"""Rows by the version of their MAC, and the change of nothing but that."""

import json
from collections.abc import Sequence

from worker.edges.store.pool import Connection, Pool
from worker.edges.store.queries import SQL
from worker.edges.store.rows import RowReader, json_of
from worker.model.effects import Announce, PutRow
from worker.model.facts import StoredRow
from worker.model.words import Table


class PostgresMacRows:
    """The port `worker.flow.renewing.MacRows`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def older(self, table: Table, after: StoredRow | None, newest: int, limit: int) -> Sequence[StoredRow]:
        """One index scan from where the last one ended; a row that can't be read at all is left out."""
        start = None if after is None else _json(after)
        found = await self._pool.run(
            lambda connection: connection.fetch(SQL["older_macs"], table.value, start, newest, limit)
        )
        reader = RowReader()
        rows = [reader.read(table.value, one["doc"]) for one in found]
        return [row for row in rows if row is not None]

    async def renew(self, was: StoredRow, now: tuple[PutRow, Announce]) -> bool:
        """One statement per row, and no lock is waited for while another one is held."""
        put, told = now

        async def work(connection: Connection) -> bool:
            arguments = (was.row.TABLE.value, _json(was), put.mac_version, put.mac)
            announced = (told.id, told.type, told.tenant, told.body)
            return bool(await connection.fetchval(SQL["renew_mac"], *arguments, *announced))

        return await self._pool.run(work)


def _json(stored: StoredRow) -> str:
    return json.dumps(json_of(PutRow(stored.row, stored.mac_version, stored.mac)))
