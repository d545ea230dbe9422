"""A background process: found again by another object, never mistaken, gone when told."""

import os
import sys
from pathlib import Path

import pytest

from worker.local.parts import PartFailed
from worker.local.process import Process, _alive

SLEEPER = "import sys, time; print('up', flush=True); time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"


def sleeper(folder: Path, program: str = SLEEPER) -> Process:
    made = Process("sleeper", folder / "pid", folder / "log", str(folder))
    made.start([sys.executable, "-c", program, str(folder)])
    made.await_ready(lambda: "up" in made.log_file.read_text(), 20.0)
    return made


def exists(pid: int | None) -> bool:
    assert pid is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_outlives_its_starter_and_another_object_stops_it(tmp_path: Path) -> None:
    pid = sleeper(tmp_path).pid()
    assert exists(pid)
    Process("sleeper", tmp_path / "pid", tmp_path / "log", str(tmp_path)).stop()
    assert not exists(pid)
    assert not (tmp_path / "pid").exists()


def test_one_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    made = sleeper(tmp_path, DEAF)
    pid = made.pid()
    made.stop(seconds=0.1)
    assert not exists(pid)


def test_kill_takes_its_children_along(tmp_path: Path) -> None:
    made = sleeper(
        tmp_path,
        "import subprocess, sys, time;"
        f"c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', '{tmp_path}']);"
        "print(c.pid, 'up', flush=True); time.sleep(600)",
    )
    child = int(made.log_file.read_text().split()[0])
    made.kill()
    assert not _alive(child)


def test_a_foreign_process_with_our_pid_is_not_ours(tmp_path: Path) -> None:
    made = Process("sleeper", tmp_path / "pid", tmp_path / "log", str(tmp_path))
    made.pid_file.write_text(str(os.getpid()))
    assert made.pid() is None
    made.stop()


def test_a_death_at_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    made = Process("sleeper", tmp_path / "pid", tmp_path / "log", str(tmp_path))
    made.start([sys.executable, "-c", "import sys; sys.exit('no room at the inn')", str(tmp_path)])
    with pytest.raises(PartFailed, match="no room at the inn"):
        made.await_ready(lambda: False, 20.0)
