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
from pathlib import Path
from secrets import token_bytes
from unittest.mock import patch

from worker.app import Parts, Worker, found, run_worker
from worker.chain.plan import Decision
from worker.flow.clock import boottime
from worker.flow.events import Event
from worker.flow.opening import Dead, Opening
from worker.flow.river import River
from worker.model.facts import Facts
from worker.model.records import Record
from worker.model.requests import Request
from worker.model.rows import Suite
from worker.model.topics import Lane
from worker.seal.hpke import KeyPair, generate_keypair
from worker.seal.identity import dump_identity
from worker.settings import Settings
from worker.watch.health import Health
from worker.watch.http import serve_http


def born(env: Mapping[str, str], log_file: str, words: list[str]) -> None:
    """The life of a forked process: settings and log of its own, a session of its own, then `main`."""
    os.setsid()
    os.environ.update(env)
    log = os.open(log_file, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    main(words)


def main(words: list[str]) -> None:
    """Do what the words say; exceptions end the process with a traceback."""
    faulthandler.enable()
    _make_deadly()
    _make_tell()
    level = os.environ.get("KEYRIVER_LOG_LEVEL", "info").upper()
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    command, path, *names = words
    asyncio.run(init(Path(path), names) if command == "init" else run(Path(path), [Lane(name) for name in names]))


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


def _make_deadly() -> None:
    """KEYRIVER_TEST_DEADLY=stage:prefix: a record whose id begins so kills the worker at `decide` or at `open`."""
    stage, _, prefix = os.environ.get("KEYRIVER_TEST_DEADLY", "").partition(":")
    decide, decode = River._decide, Opening._decode

    async def deadly_decide(self: River, requests: list[Request], facts: Facts | None) -> list[Decision]:
        if any(request.key.id.startswith(prefix) for request in requests):
            os.kill(os.getpid(), signal.SIGKILL)
        return await decide(self, requests, facts)

    def deadly_decode(self: Opening, record: Record) -> Event | Dead:
        if dict(record.headers).get("ce_id", b"").startswith(prefix.encode()):
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(self, record)

    if stage == "decide":
        patch.object(River, "_decide", deadly_decide).start()
    elif stage == "open":
        patch.object(Opening, "_decode", deadly_decode).start()


def _make_tell() -> None:
    """KEYRIVER_TEST_TOLD=file: the private keys that this process makes for itself go there, in hex."""
    path = os.environ.get("KEYRIVER_TEST_TOLD")
    if path is None:
        return

    def told(secret: bytes) -> bytes:
        with Path(path).open("a") as file:
            file.write(f"{secret.hex()}\n")
        return secret

    def telling_keypair(suite: Suite) -> KeyPair:
        pair = generate_keypair(suite)
        told(pair.private)
        return pair

    patch("worker.flow.voice.token_bytes", lambda size: told(token_bytes(size))).start()
    patch("worker.flow.intakekeys.generate_keypair", telling_keypair).start()


if __name__ == "__main__":
    main(sys.argv[1:])
