"""A settlement that is a transaction of its own: `settle` with its locks first, then what rests on them (D8).

A campaign's slice moves a thousand rows and is done, or nothing of it is; a version is retired if nothing is left.
"""

from collections.abc import Sequence
from dataclasses import replace

from worker.edges.store.pool import Connection, Pool
from worker.edges.store.queries import SQL
from worker.edges.store.settling import Batch
from worker.model.effects import ALONE, Effect, FinishSlice, Moved, MoveDeks, Settled, Settlement, Settling, Vacant


class _Undone(Exception):
    """Something has moved: the transaction ends without a trace."""


def is_alone(settlements: Sequence[Settlement]) -> bool:
    """Whether this is one settlement with effects that need a transaction of its own. Raises `ValueError` for a mix."""
    found = any(isinstance(effect, ALONE) for one in settlements for effect in one.effects)
    if found and len(settlements) > 1:
        raise ValueError("a slice is settled alone")
    return found


async def settle_alone(pool: Pool, settlement: Settlement) -> Settling:
    """Settled, or moved with nothing written."""
    plain = tuple(effect for effect in settlement.effects if not isinstance(effect, ALONE))
    batch = Batch()
    batch.add(0, replace(settlement, effects=plain))
    arguments = batch.arguments()

    async def work(connection: Connection) -> Settling:
        async with connection.transaction():
            if await connection.fetch(SQL["settle"], *arguments):
                raise _Undone
            for effect in settlement.effects:
                await _write(connection, effect)
        return Settled()

    try:
        return await pool.run(work)
    except _Undone:
        return Moved()


async def _write(connection: Connection, effect: Effect) -> None:
    match effect:
        case MoveDeks():
            columns = (effect.version, effect.ids, effect.old_blobs, effect.blobs)
            if effect.ids and await connection.fetchval(SQL["move_deks"], *columns) != len(effect.ids):
                raise _Undone
        case FinishSlice():
            await _finish(connection, effect)
        case Vacant():
            if not await connection.fetchval(SQL["vacant"], effect.key, effect.version, effect.retired_only):
                raise _Undone


async def _finish(connection: Connection, done: FinishSlice) -> None:
    name = (done.slice.campaign, done.slice.round, done.slice.number, done.slice.epoch)
    if not await connection.fetchval(SQL["finish_slice"], *name, done.items, done.digest, done.exposed):
        raise _Undone
    await connection.execute(SQL["forget_failures"], done.slice.campaign, done.slice.after, done.slice.upto)
    if done.failures:
        items, codes = ([getattr(one, name) for one in done.failures] for name in ("item", "code"))
        await connection.execute(SQL["note_failures"], done.slice.campaign, items, codes)
