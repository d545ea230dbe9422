"""One background process that outlives the command which started it: a pid file, checked against the command line.

A pid alone proves nothing after a restart of the machine, so a process counts as ours only if its command line
contains the mark (a path inside the data directory) that we started it with.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.local.parts import PartFailed

POLL_SECONDS = 0.02
# Starts "$@" with its output in the file $0, prints its pid, and leaves behind a shell that only reaps it: where init
# does not reap (many containers), a zombie would otherwise keep its pid, and Postgres refuses to start beside it.
LAUNCH = '( exec 3>&1 >>"$0" 2>&1 </dev/null; "$@" 3>&- & echo $! >&3; exec 3>&-; wait ) &'


@dataclass(frozen=True, slots=True)
class Process:
    """A named process, its pid file, its log file and the mark in its command line."""

    name: str
    pid_file: Path
    log_file: Path
    mark: str

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        uid: int | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Start in a session of its own, as another user if asked."""
        self.log_file.touch()
        if uid is not None:
            shutil.chown(self.log_file, uid)
        answer = subprocess.run(
            ["/bin/sh", "-c", LAUNCH, str(self.log_file), *argv],
            start_new_session=True,
            stdout=subprocess.PIPE,
            env=None if env is None else dict(env),
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
            cwd=cwd,
            check=True,
        )
        self.pid_file.write_text(answer.stdout.decode().strip())

    def pid(self) -> int | None:
        """The process id, or None when it is not running (a zombie is not running)."""
        try:
            pid = int(self.pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        stat, command = _look(pid)
        return pid if self.mark in command and not stat.startswith("Z") else None

    def await_ready(self, ready: Callable[[], bool], seconds: float) -> None:
        """Poll until `ready`; raise PartFailed with the log's end if it dies or takes too long."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.pid() is None:
                raise PartFailed(f"{self.name} died at start: {self.last_words()}")
            if time.monotonic() > deadline:
                raise PartFailed(f"{self.name} was not ready in {seconds:.0f} s: {self.last_words()}")
            time.sleep(POLL_SECONDS)

    def stop(self, sign: signal.Signals = signal.SIGTERM, seconds: float = 20.0) -> None:
        """Ask it to end, wait, then kill it. Nothing is left afterwards; no process is no error."""
        pid = self.pid()
        if pid is not None:
            _send(pid, sign)
            if not _gone_within(seconds, [pid]):
                self.kill()
            _await_reaped(pid)
        self.pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """SIGKILL for it and its children, as a power cut would; returns when they are gone."""
        pid = self.pid()
        if pid is None:
            return
        family = [pid, *_children(pid)]
        for one in family:
            _send(one, signal.SIGKILL)
        if not _gone_within(10.0, family):
            raise PartFailed(f"{self.name} survives SIGKILL (pid file {self.pid_file})")
        _await_reaped(pid)
        self.pid_file.unlink(missing_ok=True)

    def last_words(self) -> str:
        """The last lines of its log."""
        try:
            lines = self.log_file.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return f"no log at {self.log_file}"
        return "\n".join([f"(end of {self.log_file})", *lines[-12:]])


def _gone_within(seconds: float, pids: Sequence[int]) -> bool:
    """Whether all of them end in time; a zombie has ended."""
    deadline = time.monotonic() + seconds
    while any(_alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _await_reaped(pid: int) -> None:
    """Wait for its shell to reap it, so that the pid is free; a zombie whose shell is gone is not waited for long."""
    deadline = time.monotonic() + 1.0
    while _look(pid)[0] and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _send(pid: int, sign: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sign)


def _children(pid: int) -> list[int]:
    """Direct children, by /proc or by ps."""
    try:
        return [int(child) for child in (Path("/proc") / f"{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        listed = _ps("-A", "-o", "pid=,ppid=").splitlines()
        return [int(child) for child, parent in (line.split() for line in listed) if int(parent) == pid]


def _alive(pid: int) -> bool:
    stat, _ = _look(pid)
    return stat[:1] not in ("", "Z")


def _look(pid: int) -> tuple[str, str]:
    """(state, command line) of a process, both empty when there is none."""
    proc = Path("/proc") / str(pid)
    try:
        command = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return (proc / "stat").read_text().rpartition(")")[2].strip(), command
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self").exists():
            return "", ""
    stat, _, command = _ps("-o", "stat=,command=", "-p", str(pid)).strip().partition(" ")
    return stat, command


def _ps(*words: str) -> str:
    """What `ps` says: for macOS, which has no /proc."""
    return subprocess.run(["/bin/ps", *words], capture_output=True, text=True, check=False).stdout
