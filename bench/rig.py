"""A fleet for the bench: real Kafka, Postgres and SoftHSM2, `keyriver run` in processes of its own, one tenant."""

import asyncio
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from bench.load import Load
from tests.fleet import Fleet, House
from tests.stack import CHECKOUT, Services, services
from worker.local import Token, softhsm
from worker.local.ports import free
from worker.model.topics import Lane

PROCESSES = 2
STAGES = ("open", "know", "decide", "execute", "settle", "seal", "publish")


@dataclass(frozen=True, slots=True)
class Rig:
    """What a figure needs. `ports` are those of the workers' /metrics."""

    folder: Path
    token: Token
    fleet: Fleet
    house: House
    load: Load
    ports: tuple[int, ...]
    supervisor: int
    more: list[int] = field(default_factory=list)
    """Process ids of bulk workers that were started beside the supervisor's."""

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        children = Path(f"/proc/{self.supervisor}/task/{self.supervisor}/children")
        return [int(pid) for pid in children.read_text().split()]

    def peak_bytes(self) -> int:
        """The largest memory that the hungriest worker ever had (VmHWM)."""
        return max(_peak(pid) for pid in self.workers())

    def stage_seconds(self) -> dict[str, float]:
        """Seconds spent in each stage so far, over all workers."""
        spent = dict.fromkeys(STAGES, 0.0)
        for port in self.ports:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
                families = text_string_to_metric_families(page.read().decode())
            for sample in (sample for family in families for sample in family.samples):
                if sample.name == "keyriver_stage_seconds_sum" and sample.labels["stage"] in spent:
                    spent[sample.labels["stage"]] += sample.value
        return spent


@asynccontextmanager
async def rig(processes: int = PROCESSES) -> AsyncIterator[Rig]:
    """Everything up, with so many processes beside the one for bulk; afterwards everything gone."""
    with tempfile.TemporaryDirectory() as name, services() as found:
        folder = Path(name)
        token = softhsm.token(folder / "token")
        os.environ |= token.env
        async with _running(found, folder, token, processes) as made:
            yield made


@asynccontextmanager
async def _running(found: Services, folder: Path, token: Token, processes: int) -> AsyncIterator[Rig]:
    settings = {"partitions": 4, "interactive_p99_ms": 50, "bulk_niceness": 10, "kafka_session_s": 10}
    async with Fleet.founded(found, folder, token, **settings) as fleet:
        port = free(1)[0]
        env = os.environ | fleet.env | {"KEYRIVER_HTTP_PORT": str(port), "KEYRIVER_LOG_LEVEL": "warning"}
        command = [sys.executable, "-m", "worker", "run", "--processes", str(processes)]
        supervisor = subprocess.Popen(command, env=env, cwd=CHECKOUT)  # noqa: ASYNC220 - a bench may wait a moment
        try:
            house = await fleet.tenant()
            await fleet.at_work(processes, (Lane.CONTROL, Lane.INTERACTIVE))
            async with Load(found.kafka, house.identity.reply_topic) as load:
                ports = tuple(range(port, port + processes + 1))
                yield Rig(folder, token, fleet, house, load, ports, supervisor.pid)
        finally:
            supervisor.terminate()
            await asyncio.to_thread(supervisor.wait)


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
