"""Rows get their MAC before they are written, and each change is told on `keyriver.sequences.v1` (S7).

What is told goes through the outbox in the same transaction: a change that is committed is told, whoever dies.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import UUID

from worker.flow.fresh import new_ids
from worker.model.effects import Announce, Effect, PutRow, Settlement
from worker.model.rows import FLEET_TENANT, Row
from worker.model.sequences import SEQUENCE
from worker.ports import FleetKeys
from worker.seal.rowmac import mac_input
from worker.seal.sequences import Sequence as Told

Authentic = tuple[PutRow, Announce]
"""What is settled for one row: the effect that puts it, and the one that tells its sequence."""


async def authentic_rows(
    fleet_keys: FleetKeys, rows: Sequence[Row], ids: Callable[[int], list[UUID]] = new_ids
) -> list[Authentic]:
    """Both effects for each row. Raises `TokenUnavailable`."""
    if not rows:
        return []
    macs = await fleet_keys.mac([mac_input(row) for row in rows])
    told = [Told(row.ref, row.revision, mac.version, mac.value) for row, mac in zip(rows, macs, strict=True)]
    tags = await fleet_keys.mac([one.payload() for one in told])
    puts = [PutRow(row, mac.version, mac.value) for row, mac in zip(rows, macs, strict=True)]
    bodies = [one.to_json(tag.version, tag.value) for one, tag in zip(told, tags, strict=True)]
    announced = [Announce(id_, SEQUENCE, FLEET_TENANT, body) for id_, body in zip(ids(len(rows)), bodies, strict=True)]
    return list(zip(puts, announced, strict=True))


async def authenticated(fleet_keys: FleetKeys, settlement: Settlement) -> Settlement:
    """The settlement with a MAC for every row that it puts, and each of them told. Raises `TokenUnavailable`."""
    rows = [effect.row for effect in settlement.effects if isinstance(effect, PutRow)]
    if not rows:
        return settlement
    made = iter(await authentic_rows(fleet_keys, rows))
    effects: list[Effect] = []
    for effect in settlement.effects:
        effects += next(made) if isinstance(effect, PutRow) else (effect,)
    return replace(settlement, effects=tuple(effects))
