"""Whose processor time an item costs: microseconds per item of each kind of process, so that a miss explains itself.

Time on the clock says little where other work shares the cores; processor time is each process's own. Only processes of
this machine are seen (`/proc`): with Postgres or Kafka in containers their share is left out.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.report import Figure, figure
from bench.rig import Rig
from tests.stack import CHECKOUT
from worker.local import Stack

TICKS = os.sysconf("SC_CLK_TCK")
GROUPS = ("bulk workers", "other workers", "Postgres", "Kafka", "client")
_BACKENDS = """
    SELECT a.pid FROM pg_stat_activity AS a
    WHERE a.datname = current_database() OR a.backend_type IN ('walwriter', 'checkpointer')
"""


async def seconds(made: Rig) -> dict[str, float]:
    """Processor seconds of each group so far. Of Postgres: this fleet's connections and the writers of the server."""
    bulk = bulk_workers(made) + made.more
    backends = [row["pid"] for row in await made.fleet.pool.fetch(_BACKENDS)]
    kafka = Stack(CHECKOUT / ".keyriver").kafka.process.pid()
    pids: dict[str, Iterable[int]] = {
        "bulk workers": bulk,
        "other workers": [pid for pid in made.workers() if pid not in bulk],
        "Postgres": [pid for pid in backends if _command(pid).startswith(b"postgres")],
        "Kafka": [] if kafka is None else [kafka],
        "client": [os.getpid()],
    }
    return {group: sum(map(_spent, of)) for group, of in pids.items()}


def bulk_workers(made: Rig) -> list[int]:
    """The fleet's own process for the bulk lane; those that a bench started are in `made.more`."""
    return [pid for pid in made.workers() if b"bulk" in _command(pid)]


def per_item(name: str, before: Mapping[str, float], after: Mapping[str, float], items: int) -> list[Figure]:
    """A line for each group, beside all of them together."""
    spent = {group: (after[group] - before[group]) / items * 1e6 for group in GROUPS}
    whole = sum(spent.values())
    return [figure(f"{name}: CPU of {group}", spent[group], "µs/item", "all processes", whole) for group in GROUPS]


def _spent(pid: int) -> float:
    """User and system time of all threads (proc(5), fields 14 and 15); 0 for a process that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
