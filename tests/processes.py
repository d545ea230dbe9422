"""Worker processes of a test's fleet: started with failpoints, killed, frozen, thawed, asked to end."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from worker.model.topics import Lane

CHECKOUT = Path(__file__).resolve().parent.parent
POLL_S = 0.02


async def until(holds: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Wait for a condition; the failure names it."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(POLL_S)


class Member:
    """One worker process."""

    def __init__(self, name: str, folder: Path, env: Mapping[str, str], words: Sequence[str]) -> None:
        self.name = name
        self.log_file = folder / f"{name}.log"
        self._folder = folder
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.member", *words],
                env=os.environ | env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=CHECKOUT,
                start_new_session=True,
            )

    @classmethod
    def serving(cls, name: str, folder: Path, env: Mapping[str, str], lanes: Sequence[Lane]) -> "Member":
        """A process that runs these lanes."""
        return cls(name, folder, env, ["run", *lanes])

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self.log_file.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether it has not ended; a frozen one has not."""
        return self._process.poll() is None

    @property
    def is_frozen(self) -> bool:
        """Whether a signal has stopped it."""
        state = Path(f"/proc/{self.pid}/stat")
        if Path("/proc/self").exists():
            with contextlib.suppress(FileNotFoundError):
                return state.read_text().rpartition(")")[2].split()[0] == "T"
            return False
        said = subprocess.run(["/bin/ps", "-o", "stat=", "-p", str(self.pid)], capture_output=True, check=False)
        return said.stdout.startswith(b"T")

    def signal(self, sign: signal.Signals) -> None:
        """Send a signal; one that is gone already is no error."""
        self._process.send_signal(sign)

    def freeze(self) -> None:
        """As a machine that is suspended: nothing runs, connections stay open."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on where it was."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """As a power cut: no instruction of it runs after this."""
        self._process.kill()
        self._process.wait()

    async def ended(self, seconds: float = 30.0) -> int:
        """Wait for its end: the exit code, or minus the signal that killed it."""
        await until(lambda: not self.is_running, f"{self.name} ends", seconds)
        return self._process.returncode

    async def terminated(self, seconds: float = 30.0) -> int:
        """Ask it to end, as an orchestrator does, and wait for its exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended(seconds)

    async def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of its /metrics, by name and labels."""
        port_file = self._folder / f"{self.pid}.port"
        await until(port_file.exists, f"{self.name} serves /metrics")
        url = f"http://127.0.0.1:{port_file.read_text()}/metrics"
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read().decode())
        families = text_string_to_metric_families(text)
        return {(one.name, frozenset(one.labels.items())): one.value for each in families for one in each.samples}

    async def total(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        wanted = labels.items()
        return sum(value for (given, has), value in (await self.metrics()).items() if given == name and wanted <= has)
