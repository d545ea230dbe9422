"""The demo's own fleet: a stack in a folder of its own, `keyriver run` beside it, a worker killed, metrics read.

Nothing of another stack is touched; a demo that was killed itself is cleared away by the next one.
"""

import os
import re
import signal
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from http.client import HTTPException
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from worker.cli.errors import Refused
from worker.cli.local import write_config
from worker.local import Stack
from worker.local.process import Process
from worker.settings import CONFIG, Settings

PROCESSES = 2
SESSION_S = 3
"""So soon Kafka counts a silent worker as dead; in production it is 10 s."""
START_S = 60.0
_COUNTING = ("_total", "_count", "_sum")
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STARTED = re.compile(r"worker (\d+) started, pid (\d+)")


class Fleet:
    """The stack under `folder` and the workers on it."""

    def __init__(self, folder: Path) -> None:
        self.stack = Stack(folder)
        self.before: Counter[str] = Counter()
        """What workers had counted that are dead now."""

    def raise_stack(self) -> None:
        """Kafka, Postgres and a token, and the environment by which every command finds them and nothing else."""
        Stack.up(self.stack.folder)
        for name in Settings.model_fields:
            os.environ.pop(f"KEYRIVER_{name.upper()}", None)
        os.environ.pop("KEYRIVER_IDENTITY", None)
        os.environ |= {
            **self.stack.token.env,
            CONFIG: str(write_config(self.stack, "dev-demo")),
            "KEYRIVER_KAFKA_SESSION_S": str(SESSION_S),
            "KEYRIVER_KAFKA_PARTITIONS": "4",
            "KEYRIVER_RECOVERABLE_DAYS": "30",
        }

    def run(self) -> None:
        """Start `keyriver run` and wait until each of its workers serves."""
        command = [sys.executable, "-m", "worker", "run", "--processes", str(PROCESSES)]
        self._workers.start(command)
        self._workers.await_ready(lambda: all(self.serves(index) for index in range(PROCESSES)), START_S)

    def serves(self, index: int) -> bool:
        """Whether this worker is logged in to the token and has its partitions."""
        return _get(self._port + index, "/readyz") is not None

    def busiest(self) -> int:
        """The worker that did most so far."""
        return max(range(PROCESSES), key=lambda index: self._counted(index)["keyriver_stage_items_total execute"])

    def kill(self, index: int) -> int:
        """SIGKILL for one worker, only once it serves (a kill inside a login can destroy a SoftHSM2 token); its pid.

        `keyriver run` starts it again by itself. What it had counted is read just before and kept.
        """
        pid = self.pids()[index]
        self.before += self._counted(index)
        os.kill(pid, signal.SIGKILL)
        return pid

    def pids(self) -> dict[int, int]:
        """Process ids of the workers by their number, as the log of `keyriver run` has them."""
        started = _STARTED.findall(self._workers.log_file.read_text())
        return {int(index): int(pid) for index, pid in started}

    def counted(self) -> Counter[str]:
        """The workers' counters, summed over the living and the dead. Name and label values, a space between."""
        return sum((self._counted(index) for index in range(PROCESSES)), self.before.copy())

    def last_words(self) -> str:
        """The end of the workers' log, if they ever ran."""
        return self._workers.last_words() if self._workers.log_file.exists() else ""

    def clear(self) -> None:
        """End every process and remove the folder, whatever state they are in."""
        self._workers.kill()
        if self.stack.folder.exists():
            self.stack.kafka.kill()
        self.stack.wipe()

    @property
    def _workers(self) -> Process:
        folder = self.stack.folder
        return Process("keyriver run", folder / "workers.pid", folder / "workers.log", "worker run --processes")

    @property
    def _port(self) -> int:
        return Settings().http_port

    def _counted(self, index: int) -> Counter[str]:
        text = _get(self._port + index, "/metrics") or ""
        found: Counter[str] = Counter()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name.endswith(_COUNTING):
                    found[" ".join([sample.name, *sample.labels.values()])] += int(sample.value)
        return found


@contextmanager
def alone(folder: Path) -> Iterator[Fleet]:
    """A fleet in this folder, which nobody else may use meanwhile; when the block ends, all of it is gone."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            raise Refused(
                f"a demo is running in {folder}: wait for it, or set KEYRIVER_LOCAL to another folder"
            ) from None
        if folder.exists() and not (folder / "lock").exists():
            raise Refused(f"{folder} is there and no stack of a demo: move it away")
        fleet = Fleet(folder)
        fleet.clear()
        with _interruptible():
            try:
                yield fleet
            finally:
                for number in _ENDINGS:
                    signal.signal(number, signal.SIG_IGN)
                fleet.clear()


@contextmanager
def _interruptible() -> Iterator[None]:
    """A closed terminal or a SIGTERM end the demo as Ctrl-C does."""
    before = {number: signal.getsignal(number) for number in _ENDINGS}
    for number in (signal.SIGTERM, signal.SIGHUP):
        # As a SIGINT, so that in an event loop it cancels the work, instead of hitting some callback that swallows it.
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _get(port: int, path: str) -> str | None:
    """The body of a 200, or None."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return str(answer.read().decode())
    except (OSError, HTTPException):
        return None
