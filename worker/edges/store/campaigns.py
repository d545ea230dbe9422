"""Campaigns in Postgres: leases of slices, what stands in them, and how far it is. Nothing here decides anything."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID

from asyncpg import Record

from worker.edges.store.pool import Connection, Pool
from worker.edges.store.queries import SQL
from worker.model.audit import Head
from worker.model.campaigns import ExposedSlice, Failure, Lease, Leased, Leftovers, Progress, Slice
from worker.model.facts import Answer, Paging, Question
from worker.model.ids import NO_ID
from worker.model.rows import Campaign, Dek

_SCANNED = 20_000
"""Rows that one statement of a scan looks at: a tenth of a second."""


def _plain(id_: UUID) -> UUID:
    """Asyncpg's own UUID type stays on this side of the edge."""
    return UUID(int=id_.int)


class PostgresSlices:
    """The port `Slices`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def at_work(self) -> list[tuple[str, UUID]]:
        """One statement, by a partial index."""
        rows = await self._pool.run(lambda connection: connection.fetch(SQL["campaigns_at_work"]))
        return [(row["tenant"], _plain(row["id"])) for row in rows]

    async def below(self, campaign: UUID) -> list[UUID]:
        """Those that a deep campaign made."""
        rows = await self._pool.run(lambda connection: connection.fetch(SQL["campaigns_below"], campaign))
        return [_plain(row["id"]) for row in rows]

    async def lease(self, campaign: Campaign, *, of_deks: bool, holder: str, seconds: float, size: int) -> Lease:
        """One committed statement."""
        columns = (campaign.id, campaign.round, campaign.key, of_deks, campaign.after, campaign.upto)
        (row,) = await self._pool.run(
            lambda connection: connection.fetch(SQL["lease_slice"], *columns, holder, seconds, size, campaign.items_s)
        )
        leased = Leased(row["leased"])
        if leased is not Leased.SLICE:
            return Lease(leased)
        place = (_plain(row["after"]), _plain(row["upto"]), row["epoch"])
        return Lease(leased, Slice(campaign.id, campaign.round, row["number"], *place))

    async def release(self, held: Slice) -> None:
        """A lease that another holds by now is his."""
        name = (held.campaign, held.round, held.number, held.epoch)
        await self._pool.run(lambda connection: connection.execute(SQL["release_slice"], *name))

    async def deks(self, held: Slice, key: UUID, version: int) -> list[Dek]:
        """By the index (key, id), in the order of ids."""
        rows = await self._pool.run(
            lambda connection: connection.fetch(SQL["slice_deks"], key, held.after, held.upto, version)
        )
        return [
            Dek(id_, key, found, blob) for id_, found, blob in rows
        ]  # ids go back into the next statement as they are

    async def versions(self, held: Slice, key: UUID, version: int) -> list[tuple[UUID, int]]:
        """Of the keys below whose ids lie in the slice."""
        rows = await self._pool.run(
            lambda connection: connection.fetch(SQL["slice_versions"], key, held.after, held.upto, version)
        )
        return [(_plain(row["key"]), row["number"]) for row in rows]

    async def leftovers(self, campaign: Campaign, *, of_deks: bool) -> Leftovers:
        """Page by page, so that no statement lasts long; the old version takes nothing new, so the sum is exact."""
        if not of_deks:
            columns = (campaign.key, campaign.from_version, campaign.id)
            rows = await self._pool.run(lambda connection: connection.fetch(SQL["leftover_versions"], *columns))
            fresh = [_plain(row["id"]) for row in rows if not row["failed"]]
            bounds = (_before(min(fresh)), max(fresh)) if fresh else ()
            return Leftovers(len(rows), len(rows) - len(fresh), *bounds)
        found, after, full = Leftovers(), NO_ID, True
        while full:
            row = await self._pool.run(partial(_scan, campaign, after))
            full, after = row["looked"] == _SCANNED, row["upto"]
            found = replace(found, rows=found.rows + row["rows"], failed=found.failed + row["failed"])
            if row["first"] is not None:
                first = min(found.first, _before(_plain(row["first"])))
                found = replace(found, first=first, last=_plain(row["last"]))
        return found

    async def progress(self, campaign: UUID) -> Progress:
        """Sums over its slices."""
        return await self._pool.run(lambda connection: _progress(connection, campaign))

    async def digests(self, campaign: UUID) -> list[bytes]:
        """Of the slices that moved something, in the order of rounds and numbers."""
        rows = await self._pool.run(lambda connection: connection.fetch(SQL["slice_digests"], campaign))
        return [row["digest"] for row in rows]

    async def checkpoint(self, tenant: str) -> Head:
        """The newest signed one: its size, and its root as the only hash; size 0 if there is none."""
        row = await self._pool.run(lambda connection: connection.fetchrow(SQL["last_checkpoint"], tenant))
        return Head(tenant) if row is None else Head(tenant, row["size"], (row["root"],))


async def _scan(campaign: Campaign, after: UUID, connection: Connection) -> Record:
    columns = (campaign.key, after, _SCANNED, campaign.from_version, campaign.id)
    row = await connection.fetchrow(SQL["scan_leftovers"], *columns)
    assert row is not None  # noqa: S101 - it has no FROM
    return row


def _before(id_: UUID) -> UUID:
    return UUID(int=id_.int - 1)


async def with_campaigns(connection: Connection, question: Question, answer: Answer) -> Answer:
    """The answer, and what was asked of campaigns besides their rows."""
    return replace(
        answer,
        progress={one: await _progress(connection, one) for one in question.progress},
        failures={page: await _failures(connection, page) for page in question.failures},
        exposed={page: await _exposed(connection, page) for page in question.exposed},
    )


async def _progress(connection: Connection, campaign: UUID) -> Progress:
    row = await connection.fetchrow(SQL["campaign_progress"], campaign)
    assert row is not None  # noqa: S101 - a sum is always there
    alone, pace = await connection.fetchval(SQL["measured_rate"]), await connection.fetchval(SQL["slowest_pace"])
    return Progress(**row, one_at_a_time=alone, pace=pace)


async def _failures(connection: Connection, page: Paging) -> tuple[Failure, ...]:
    rows = await connection.fetch(SQL["failure_page"], UUID(page.tenant), page.after, page.limit)
    return tuple(Failure(*row) for row in rows)


async def _exposed(connection: Connection, page: Paging) -> tuple[ExposedSlice, ...]:
    after: Sequence[int] = [int(number) for number in page.after.split("/")] if page.after else (-1, -1)
    rows = await connection.fetch(SQL["exposed_page"], UUID(page.tenant), *after, page.limit)
    return tuple(ExposedSlice(f"{row['round']}/{row['number']}", tuple(map(_plain, row["exposed"]))) for row in rows)
