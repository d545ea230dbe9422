"""What the benches of bulk work share: its processes, its limits, and the figures of a run beside them."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter

from bench import cpu
from bench.report import Figure, figure
from bench.rig import Rig
from bench.rivals import plain_rewrap_rate
from tests.stack import CHECKOUT
from worker.model.topics import Lane

PATIENCE_S = 30.0
_PACE = """
    SELECT coalesce(min(w.pace), 1) FROM keyriver.workers AS w
    WHERE w.expires >= clock_timestamp() AND w.seen >= clock_timestamp() - interval '5 seconds'
"""
STEPS = ((True, "plain python-pkcs11, 3 operations an item"), (False, "plain python-pkcs11, 2 operations (no compare)"))


@dataclass(frozen=True, slots=True)
class Beside:
    """Bulk work beside the bare token; `limits` are its rewraps a second with and without the compare."""

    made: Rig
    limits: tuple[float, float]

    @classmethod
    def measured(cls, made: Rig) -> "Beside":
        """With the limits taken now."""
        compared, plain = (plain_rewrap_rate(made.folder, made.token, compare=compare) for compare, _ in STEPS)
        return cls(made, (compared, plain))

    def rate(self, name: str, value: float) -> list[Figure]:
        """A rate against both limits."""
        return [
            figure(name, value, "items/s", against, limit)
            for limit, (_, against) in zip(self.limits, STEPS, strict=True)
        ]

    async def figures(self, name: str, items: int, work: Callable[[], Awaitable[float]]) -> tuple[list[Figure], float]:
        """Do the work, which tells its items per second: its figures with everybody's processor time, and the rate."""
        await at_full_pace(self.made)
        before = await cpu.seconds(self.made)
        rate = await work()
        after = await cpu.seconds(self.made)
        return [*self.rate(name, rate), *cpu.per_item(name, before, after, items)], rate


async def at_full_pace(made: Rig) -> None:
    """Wait until bulk work need not step back any more for what was interactive before. Says so if it never can."""
    until = perf_counter() + PATIENCE_S
    while (pace := await made.fleet.pool.fetchval(_PACE)) < 1:
        if perf_counter() > until:
            print(f"NOT AT FULL PACE but at {pace:.2f}: interactive answers are slow on this machine now")
            return
        await asyncio.sleep(0.2)


@asynccontextmanager
async def one_more(made: Rig, module: str = "worker") -> AsyncIterator[None]:
    """A second bulk process while the block lasts."""
    env = os.environ | made.fleet.env | {"KEYRIVER_HTTP_PORT": "0", "KEYRIVER_LOG_LEVEL": "error"}
    command = [sys.executable, "-m", module, "run", "--lanes", "bulk"]
    running = subprocess.Popen(command, env=env, cwd=CHECKOUT)  # noqa: ASYNC220 - a bench may wait a moment
    made.more.append(running.pid)
    try:
        await made.fleet.at_work(2, (Lane.BULK,))
        yield
    finally:
        made.more.remove(running.pid)
        running.terminate()
        await asyncio.to_thread(running.wait)


@asynccontextmanager
async def uncompared(made: Rig) -> AsyncIterator[None]:
    """Instead of the fleet's own, which stands still meanwhile, a bulk process that does not compare."""
    own = cpu.bulk_workers(made)
    async with one_more(made, "bench.uncompared"):
        for pid in own:
            os.kill(pid, signal.SIGSTOP)
        try:
            await made.fleet.at_work(1, (Lane.BULK,))
            yield
        finally:
            for pid in own:
                os.kill(pid, signal.SIGCONT)
