"""`keyriver demo`: it proves its point, it leaves nothing behind, and Ctrl-C is obeyed at once."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from worker.cli.demo import FOLDER
from worker.local.demo import CUSTOMERS, Row, cut, joined, read, written

COMMAND = [sys.executable, "-m", "worker", "demo"]


@pytest.fixture(autouse=True)
def _heeded() -> None:
    """What the tests' own starter ignores (nohup, a shell's `&`) a child would ignore as well."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def begun(folder: Path) -> "subprocess.Popen[str]":
    environ = os.environ | {"KEYRIVER_LOCAL": str(folder)}
    return subprocess.Popen(
        COMMAND, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def left_over(folder: Path) -> list[str]:
    """Processes that were started by a demo in this folder: its name is in their environment."""
    listed = subprocess.run(
        ["/usr/bin/env", "ps", "axeww", "-o", "command="], capture_output=True, text=True, check=True
    ).stdout
    return [line[:80] for line in listed.splitlines() if f"KEYRIVER_LOCAL={folder}" in line]


def test_the_bundled_file_is_put_together_again() -> None:
    file = CUSTOMERS.read_bytes()
    rows = cut(file)
    assert len({row.name for row in rows}) == len(rows) == 4000
    assert joined(rows) == joined(read(written(rows))) == file
    assert "Zofia" not in repr(rows[1])


def test_odd_files_are_put_together_again() -> None:
    for file in (b"", b"a,1", b"a,1\r\nb,2\n\nc", b"x\n" * 3):
        assert joined(read(written(cut(file)))) == file
    assert cut(b"a,1\nb") == [Row("a", b"a,1\n"), Row("b", b"b")]


def test_the_demo_reads_back_what_it_encrypted_and_leaves_nothing(tmp_path: Path) -> None:
    with begun(tmp_path) as demo:
        said, _ = demo.communicate(timeout=280)
    assert demo.returncode == 0, said
    for sentence in ("kill -9", "went on from there", "place: UNWRAP_FAILED", "none doubled", "Byte for byte the same"):
        assert sentence in said
    for sentence in ("400 reads, none refused", "Read a record: KEY_DISABLED", "Read the record again: C-000001"):
        assert sentence in said
    for sentence in ("STILL_NEEDED", "4,000 moved; 400 reads meanwhile, none refused"):
        assert sentence in said
    for sentence in ("The signed log has it.", "the path does not lead from the record to the checkpoint"):
        assert sentence in said
    assert "Traceback" not in said
    assert not left_over(tmp_path)
    assert not (tmp_path / FOLDER).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_interrupted_it_cleans_up(tmp_path: Path, number: signal.Signals) -> None:
    with begun(tmp_path) as demo:
        assert demo.stdout is not None
        # Workers, broker, database and client are all at work when a key has been asked for.
        said = next((line for line in demo.stdout if "keyriver tenant create" in line), "")
        assert said
        assert len(left_over(tmp_path)) > 4
        os.killpg(demo.pid, number)
        rest = demo.stdout.read()
        assert demo.wait(timeout=180) == 130, rest
    assert "nothing of the demo is left" in rest
    assert not left_over(tmp_path)
    assert not (tmp_path / FOLDER).exists()


def test_two_demos_in_one_folder_do_not_meet(tmp_path: Path) -> None:
    with (tmp_path / f"{FOLDER}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with begun(tmp_path) as demo:
            said, _ = demo.communicate(timeout=180)
    assert demo.returncode == 1
    assert "a demo is running" in said


def test_a_folder_of_somebody_else_is_not_removed(tmp_path: Path) -> None:
    mine = tmp_path / FOLDER / "thesis.txt"
    mine.parent.mkdir()
    mine.touch()
    with begun(tmp_path) as demo:
        said, _ = demo.communicate(timeout=180)
    assert demo.returncode == 1
    assert "move it away" in said
    assert mine.exists()
