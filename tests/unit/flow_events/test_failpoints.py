"""Failpoints: read once, exact about what they are told, and able to end or stop a process (D11)."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import until
from worker.flow.failpoints import NAMES, NONE, FailpointError, Failpoints, parse


def test_every_point_can_be_armed() -> None:
    for name in NAMES:
        points = Failpoints(parse(f"{name}=error"))
        with pytest.raises(FailpointError, match=name):
            points.reach(name)
        points.reach(name)  # once only


def test_the_hit_counts() -> None:
    points = Failpoints(parse("settled=error@3,published=error"))
    points.reach("settled")
    points.reach("settled")
    points.reach("caught")
    with pytest.raises(FailpointError):
        points.reach("settled")
    with pytest.raises(FailpointError):
        points.reach("published")


def test_nothing_is_armed_by_default() -> None:
    assert parse("") == {}
    for name in NAMES:
        NONE.reach(name)


@pytest.mark.parametrize(
    "text",
    ["settled", "nowhere=kill", "settled=explode", "settled=kill@x", "settled=kill@-1", "=kill", "settled=", "a"],
)
def test_what_is_wrong_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="KEYRIVER_FAILPOINTS"):
        parse(f"caught=kill,{text}")


def _process(action: str) -> "subprocess.Popen[bytes]":
    code = f"""from worker.flow.failpoints import Failpoints, parse
points = Failpoints(parse("known={action}"))
print("before", flush=True)
points.reach("known")
print("after", flush=True)"""
    root = Path(__file__).resolve().parents[3]
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=root)


def test_kill_is_as_a_power_cut() -> None:
    process = _process("kill")
    said, _ = process.communicate(timeout=30)
    assert (said, process.returncode) == (b"before\n", -signal.SIGKILL)


async def test_freeze_stops_and_a_thaw_goes_on() -> None:
    process = _process("freeze")
    stat = Path(f"/proc/{process.pid}/stat")
    await until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "the process is frozen")
    process.send_signal(signal.SIGCONT)
    said, _ = process.communicate(timeout=30)
    assert (said, process.returncode) == (b"before\nafter\n", 0)
