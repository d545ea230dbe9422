"""A settlement that is a transaction of its own: `settle` with its locks first, then what rests on them (D8).

A campaign's slice moves a thousand rows and is done, or nothing of it is; a version is retired if nothing is left.
One statement does it: a worker that stands still in the middle of a transaction of several would keep its locks.
"""

from collections.abc import Sequence
from dataclasses import replace

import asyncpg

from worker.edges.store.pool import Connection, Pool
from worker.edges.store.queries import SQL
from worker.edges.store.settling import Batch
from worker.model.effects import ALONE, FinishSlice, Moved, MoveDeks, Settled, Settlement, Settling, Vacant

_MOVED = "KR001"
"""What the database says when something has moved, and nothing of the transaction stays."""
_NO_MOVES, _NO_SLICE, _NOTHING = (None,) * 4, (None,) * 11, (None,) * 3


def is_alone(settlements: Sequence[Settlement]) -> bool:
    """Whether this is one settlement with effects that need a transaction of its own. Raises `ValueError` for a mix."""
    found = any(isinstance(effect, ALONE) for one in settlements for effect in one.effects)
    if found and len(settlements) > 1:
        raise ValueError("a slice is settled alone")
    return found


async def settle_alone(pool: Pool, settlement: Settlement) -> Settling:
    """Settled, or moved with nothing written. One effect of each of these kinds at most."""
    batch = Batch()
    plain = tuple(effect for effect in settlement.effects if not isinstance(effect, ALONE))
    batch.add(0, replace(settlement, effects=plain))
    moves: Sequence[object] = _NO_MOVES
    done: Sequence[object] = _NO_SLICE
    vacant: Sequence[object] = _NOTHING
    for effect in settlement.effects:
        if isinstance(effect, MoveDeks):
            moves = (effect.version, effect.ids, effect.old_blobs, effect.blobs)
        elif isinstance(effect, FinishSlice):
            done = _finishing(effect)
        elif isinstance(effect, Vacant):
            vacant = (effect.key, effect.version, effect.retired_only)
    arguments = (*batch.arguments(), *moves, *done, *vacant)

    async def work(connection: Connection) -> Settling:
        try:
            return Settled() if await connection.fetchval(SQL["settle_alone"], *arguments) else Moved()
        except asyncpg.PostgresError as error:
            if error.sqlstate == _MOVED:
                return Moved()
            raise

    return await pool.run(work)


def _finishing(done: FinishSlice) -> Sequence[object]:
    held = done.slice
    name = (held.campaign, held.round, held.number, held.epoch)
    items, codes = ([getattr(one, column) for one in done.failures] for column in ("item", "code"))
    return (*name, done.items, done.digest, done.exposed, held.after, held.upto, items, codes)
