"""Rows that are written without a request get their MACs here (S7)."""

from dataclasses import replace

from worker.model.effects import Effect, PutRow, Settlement
from worker.ports import FleetKeys
from worker.seal.rowmac import mac_input


async def authenticated(fleet_keys: FleetKeys, settlement: Settlement) -> Settlement:
    """The settlement with a MAC for every row that it puts. Raises `TokenUnavailable`."""
    puts = [effect for effect in settlement.effects if isinstance(effect, PutRow)]
    if not puts:
        return settlement
    macs = iter(await fleet_keys.mac([mac_input(put.row) for put in puts]))
    effects: list[Effect] = []
    for effect in settlement.effects:
        if isinstance(effect, PutRow):
            mac = next(macs)
            effects.append(PutRow(effect.row, mac.version, mac.value))
        else:
            effects.append(effect)
    return replace(settlement, effects=tuple(effects))
