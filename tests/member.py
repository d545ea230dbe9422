"""One process of a test's fleet, configured by KEYRIVER_…: `python -m tests.member init FOLDER NAME NAME`.

Workers are forked with everything imported, see `tests.processes`.
"""

import asyncio
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from multiprocessing import parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread

import uvloop

from worker.app import Worker, found, run_worker
from worker.flow.clock import boottime
from worker.model.topics import Lane
from worker.parts import Parts
from worker.seal.identity import dump_identity
from worker.settings import Settings
from worker.watch.health import Health
from worker.watch.http import serve_http


def born(env: Mapping[str, str], log_file: str, words: list[str]) -> None:
    """The life of a forked process: settings and log of its own, a session of its own, then `main`."""
    os.setsid()
    Thread(target=_die_with_the_tests, daemon=True).start()
    os.environ.update(env)
    log = os.open(log_file, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    main(words)


def _die_with_the_tests() -> None:
    """Whatever ends the tests, even a SIGKILL, leaves no worker behind."""
    tests = parent_process()
    assert tests is not None
    wait([tests.sentinel])
    os._exit(1)


def main(words: list[str]) -> None:
    """Do what the words say; exceptions end the process with a traceback."""
    faulthandler.enable()
    level = os.environ.get("KEYRIVER_LOG_LEVEL", "info").upper()
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    command, path, *names = words
    uvloop.run(init(Path(path), names) if command == "init" else run(Path(path), [Lane(name) for name in names]))


async def init(folder: Path, names: list[str]) -> None:
    """Found the fleet; each officer's identity becomes a file in the folder."""
    for identity in await found(Settings(), names):
        path = folder / f"{identity.client}.json"
        path.touch(0o600)
        path.write_bytes(dump_identity(identity))


async def run(port_file: Path, lanes: list[Lane]) -> None:
    """Serve until SIGTERM; the port of /metrics goes into the file."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with AsyncExitStack() as seen:
        watching: list[asyncio.Task[None]] = []

        def serving(worker: Worker, parts: Parts) -> None:
            del worker
            watching.append(asyncio.create_task(_watch(seen, parts, port_file)))

        await run_worker(Settings(), lanes, stop, serving)
        await asyncio.gather(*watching)


async def _watch(seen: AsyncExitStack, parts: Parts, port_file: Path) -> None:
    health = Health((), lambda: (), boottime)
    port = await seen.enter_async_context(serve_http("127.0.0.1", 0, health, parts.metrics.render))
    port_file.with_suffix(".new").write_text(str(port))
    port_file.with_suffix(".new").rename(port_file)


if __name__ == "__main__":
    main(sys.argv[1:])
