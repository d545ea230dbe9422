"""Opening a token: library, device, pool and fleet keys, put together."""

from __future__ import annotations

import asyncio

from worker.edges.hsm.binding import Library
from worker.edges.hsm.config import HsmConfig, Observer, TokenState, Unobserved
from worker.edges.hsm.device import Device
from worker.edges.hsm.fleet import TokenFleetKeys
from worker.edges.hsm.pool import Pool
from worker.ports import TokenUnavailable


class Token:
    """An open token. Made by `open_token`."""

    def __init__(self, device: Device, pool: Pool, fleet_keys: TokenFleetKeys) -> None:
        self._device = device
        self.hsm = pool
        self.fleet_keys = fleet_keys

    @property
    def serial(self) -> str:
        """Of the token; region-bound keys name it (S19)."""
        return self._device.info.serial

    @property
    def state(self) -> TokenState:
        """For the alarm: `PIN_REFUSED` needs a person."""
        return self._device.state

    @property
    def healthy(self) -> bool:
        """Whether calls are answered; for readyz."""
        return self._device.state is TokenState.READY

    async def close(self) -> None:
        """Finish what is begun, close every session, finalise the module."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self.hsm.stop()
        self._device.stop()


async def open_token(config: HsmConfig, observer: Observer | None = None, *, create_fleet_keys: bool = False) -> Token:
    """Initialise, log in, probe, and find the fleet's keys; `create_fleet_keys` (`keyriver init`) makes those missing.

    At most one open token per module in a process. Raises `TokenUnavailable` (`PinRefused` among it), `TokenLacks`
    naming a mechanism, or `FleetKeyMissing` naming a label.
    """
    seen = observer or Unobserved()
    try:
        library = await asyncio.to_thread(Library, config.module)
    except OSError as error:
        raise TokenUnavailable(f"hsm module {config.module}: {error}") from error
    device = Device(config, library, seen)
    await asyncio.to_thread(device.start)
    pool = Pool(config, device, seen)
    token = Token(device, pool, TokenFleetKeys(config, pool))
    try:
        if create_fleet_keys:
            await token.fleet_keys.create()
        await token.fleet_keys.load()
    except BaseException:
        await token.close()
        raise
    return token
