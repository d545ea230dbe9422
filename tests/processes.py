"""Worker processes of a test's fleet: started with failpoints, killed, frozen, thawed, asked to end."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests import member
from worker.model.topics import Lane

POLL_S = 0.02
Birth = Callable[[Mapping[str, str], str, list[str]], None]
NURSERY = get_context("forkserver")
"""Forks from a process that has imported everything and done nothing: a worker starts in a tenth of the time."""
NURSERY.set_forkserver_preload(["tests.member"])


async def until(holds: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Wait for a condition; the failure names it."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(POLL_S)


class Member:
    """One worker process that runs some lanes."""

    def __init__(
        self, name: str, folder: Path, env: Mapping[str, str], lanes: Sequence[Lane], born: Birth = member.born
    ) -> None:
        """`born`: how its life begins, if not as a worker's usually does; a function that can be imported."""
        self.name = name
        self.log_file = folder / f"{name}.log"
        self._port_file = folder / f"{name}.port"
        words = ["run", str(self._port_file), *lanes]
        self._process = NURSERY.Process(target=born, args=(dict(env), str(self.log_file), words), name=name)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    @property
    def is_running(self) -> bool:
        """Whether it has not ended; a frozen one has not."""
        return self._process.is_alive()

    @property
    def serves(self) -> bool:
        """Whether it has begun its work: /metrics is there."""
        return self._port_file.exists()

    @property
    def is_frozen(self) -> bool:
        """Whether a signal has stopped it."""
        if Path("/proc/self").exists():
            with contextlib.suppress(FileNotFoundError):
                return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
            return False
        said = subprocess.run(["/bin/ps", "-o", "stat=", "-p", str(self.pid)], capture_output=True, check=False)
        return said.stdout.startswith(b"T")

    def signal(self, sign: signal.Signals) -> None:
        """Send a signal; one that is gone already is no error."""
        if self.is_running:
            os.kill(self.pid, sign)

    def freeze(self) -> None:
        """As a machine that is suspended: nothing runs, connections stay open."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on where it was."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """As a power cut: no instruction of it runs after this."""
        self.signal(signal.SIGKILL)
        self._process.join()

    async def ended(self, seconds: float = 60.0) -> int:
        """Wait for its end: the exit code, or minus the signal that killed it."""
        await until(lambda: not self.is_running, f"{self.name} ends", seconds)
        assert self._process.exitcode is not None
        return self._process.exitcode

    async def terminated(self, seconds: float = 60.0) -> int:
        """Ask it to end, as an orchestrator does, and wait for its exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended(seconds)

    async def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of its /metrics, by name and labels."""
        await until(lambda: self.serves, f"{self.name} serves /metrics")
        url = f"http://127.0.0.1:{self._port_file.read_text()}/metrics"
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read().decode())
        families = text_string_to_metric_families(text)
        return {(one.name, frozenset(one.labels.items())): one.value for each in families for one in each.samples}

    async def total(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        wanted = labels.items()
        return sum(value for (given, has), value in (await self.metrics()).items() if given == name and wanted <= has)
