"""What goes on beside the river: one task per duty, each repeated, none able to take the others with it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import uniform

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to be done every so often, in seconds; sooner after a failure."""

    name: str
    work: Callable[[], Awaitable[object]]
    every_s: float
    after_failure_s: float = 1.0


async def keep_up(duties: Sequence[Duty]) -> None:
    """Do them all until cancelled."""
    async with asyncio.TaskGroup() as group:
        for duty in duties:
            group.create_task(_repeat(duty), name=duty.name)


async def _repeat(duty: Duty) -> None:
    while True:
        pause = duty.every_s
        try:
            await duty.work()
        except Exception as error:  # noqa: BLE001 - a duty that fails is tried again, whatever it was
            pause = min(pause, duty.after_failure_s)
            log.warning("%s failed and is tried again: %r", duty.name, error)
        await asyncio.sleep(pause * uniform(0.9, 1.1))  # noqa: S311 - keeps workers apart, no secret
