"""One process of a test's fleet, configured by KEYRIVER_…: `python -m tests.member init NAME NAME` or `… run LANE`."""

import asyncio
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from worker.app import Parts, Worker, found, run_worker
from worker.flow.clock import boottime
from worker.model.topics import Lane
from worker.seal.identity import dump_identity
from worker.settings import Settings
from worker.watch.health import Health
from worker.watch.http import serve_http

FOLDER = "KEYRIVER_TEST_FOLDER"


async def init(names: list[str]) -> None:
    """Found the fleet; each officer's identity becomes a file in the fleet's folder."""
    for identity in await found(Settings(), names):
        path = Path(os.environ[FOLDER]) / f"{identity.client}.json"
        path.touch(0o600)
        path.write_bytes(dump_identity(identity))


async def run(lanes: list[Lane]) -> None:
    """Serve until SIGTERM; the port of /metrics stands in a file named after the process."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with AsyncExitStack() as seen:
        watching: list[asyncio.Task[None]] = []

        def serving(worker: Worker, parts: Parts) -> None:
            del worker
            watching.append(asyncio.create_task(_watch(seen, parts)))

        await run_worker(Settings(), lanes, stop, serving)
        await asyncio.gather(*watching)


async def _watch(seen: AsyncExitStack, parts: Parts) -> None:
    health = Health((), lambda: (), boottime)
    port = await seen.enter_async_context(serve_http("127.0.0.1", 0, health, parts.metrics.render))
    part = Path(os.environ[FOLDER]) / f"{os.getpid()}.port"
    part.with_suffix(".new").write_text(str(port))
    part.with_suffix(".new").rename(part)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    command, *words = sys.argv[1:]
    asyncio.run(init(words) if command == "init" else run([Lane(word) for word in words]))
