"""The supervisor over real processes: one login at a time, the dead are replaced, a drain reaches all."""

import asyncio
import sys
from pathlib import Path

from worker.cli.supervisor import REFUSED, Patience, Post, Supervisor, posts
from worker.model.topics import Lane

QUICK = Patience(login=20.0, first_pause=0.01, longest_pause=0.05, drain=20.0)
CHILD = """
import os, signal, sys, time
name, folder, kind = sys.argv[1:]
def note(text):
    with open(folder, "a") as file:
        file.write(f"{name} {text}\\n")
drained = []
signal.signal(signal.SIGTERM, lambda *_: drained.append(1))
note("login")
if kind == "refused":
    sys.exit(78)
note("ready")
print("ready", flush=True)
if kind == "dies" and open(folder).read().count(f"{name} ready") < 3:
    sys.exit(1)
note("serves")
while not drained and kind != "deaf":
    time.sleep(0.01)
if kind == "deaf":
    sys.stdin.read()
note("drained")
"""


def one(name: str, index: int) -> Post:
    return Post(name, (Lane.CONTROL,), index)


def supervisor(folder: Path, kinds: dict[str, str], patience: Patience = QUICK) -> Supervisor:
    manned = [one(name, index) for index, name in enumerate(kinds)]

    def command(post: Post) -> list[str]:
        return [sys.executable, "-c", CHILD, post.name, str(folder / "log"), kinds[post.name]]

    return Supervisor(manned, command, patience)


async def until(folder: Path, line: str, times: int = 1) -> list[str]:
    while True:
        lines = (folder / "log").read_text().splitlines() if (folder / "log").exists() else []
        if lines.count(line) >= times:
            return lines
        await asyncio.sleep(0.01)


async def test_starts_one_after_the_other_and_drains_all(tmp_path: Path) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(supervisor(tmp_path, {"a": "good", "b": "good", "c": "good"}).run(stop))
    for name in "abc":
        await until(tmp_path, f"{name} serves")
    stop.set()
    assert await running
    lines = (tmp_path / "log").read_text().splitlines()
    steps = [line for line in lines if line.endswith(("login", "ready"))]
    assert steps == ["a login", "a ready", "b login", "b ready", "c login", "c ready"]
    assert sorted(line for line in lines if line.endswith("drained")) == ["a drained", "b drained", "c drained"]


async def test_the_dead_are_replaced_and_harm_no_neighbour(tmp_path: Path) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(supervisor(tmp_path, {"a": "good", "b": "dies"}).run(stop))
    lines = await until(tmp_path, "b serves")
    assert lines.count("b login") == 3
    assert lines.count("a login") == 1
    stop.set()
    assert await running


async def test_one_that_can_never_run_ends_the_run(tmp_path: Path) -> None:
    stop = asyncio.Event()
    assert not await supervisor(tmp_path, {"a": "good", "b": "refused"}).run(stop)
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines.count("b login") == 1, "a wrong PIN is not tried again"
    assert "a drained" in lines


async def test_one_that_does_not_drain_is_killed(tmp_path: Path) -> None:
    stop = asyncio.Event()
    impatient = Patience(login=20.0, first_pause=0.01, longest_pause=0.05, drain=0.2)
    running = asyncio.create_task(supervisor(tmp_path, {"a": "deaf"}, impatient).run(stop))
    await until(tmp_path, "a serves")
    stop.set()
    assert not await running
    assert "a drained" not in (tmp_path / "log").read_text()


def test_bulk_has_a_process_of_its_own() -> None:
    manned = posts(3)
    assert [post.lanes for post in manned] == [(Lane.CONTROL, Lane.INTERACTIVE)] * 3 + [(Lane.BULK,)]
    assert [post.index for post in manned] == [0, 1, 2, 3]


def test_the_exit_code_of_a_refusal_is_not_one_of_python() -> None:
    assert REFUSED not in (0, 1, 2)
