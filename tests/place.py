"""A fleet's folder on real services, and the `keyriver` command that reads its settings: for tests of the command."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from worker.cli import PENDING
from worker.cli.local import adjacent
from worker.local import Token

DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True)
class Place:
    """A fleet's folder, and the command that reads its settings."""

    folder: Path
    env: dict[str, str]
    port: int

    def start(self, *words: str) -> "subprocess.Popen[str]":
        with (self.folder / "run.log").open("a") as log:
            command = [sys.executable, "-m", "worker", *words]
            return subprocess.Popen(command, env=self.env, stdout=log, stderr=log, text=True)

    def keyriver(self, line: str, code: int = 0) -> str:
        """The output of one command that must end with this code; on a surprise, what it said."""
        command = [sys.executable, "-m", "worker", *line.split()]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=120, check=False)
        waiting = re.search(r"keyriver approval approve (\S+)`", done.stderr) if done.returncode == PENDING else None
        if waiting and code == 0:  # the other officer agrees
            bob = self.folder / "identities" / "bob.json"
            return done.stdout + done.stderr + self.keyriver(f"approval approve {waiting[1]} --as {bob}")
        assert done.returncode == code, f"{line}: {done.stdout}{done.stderr}{self.log()}"
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def json(self, line: str) -> object:
        """What a command says to a program."""
        return json.loads(self.keyriver(f"{line} --json"))

    def fetch(self, path: str, index: int = 0) -> tuple[int, str]:
        """Status and text of a health route; status 0 while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port + index}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode()
        except OSError as error:
            return 0, str(error)

    def log(self) -> str:
        """What the workers said."""
        return (self.folder / "run.log").read_text()

    def until_ready(self, processes: int) -> None:
        """All have their lanes, and their store and token answer."""
        until = time.monotonic() + DEADLINE_S
        while {self.fetch("/readyz", index)[0] for index in range(processes)} != {200}:
            said = self.log()
            assert time.monotonic() < until, f"{self.fetch('/readyz')} {said}"
            assert "can't run" not in said, said
            time.sleep(0.1)


def placed(folder: Path, kafka: str, dsn: str, token: Token, prefix: str) -> Place:
    """Settings for a fleet of its own on these services."""
    (folder / "dsn").write_text(dsn)
    (folder / "dsn").chmod(0o400)
    port = adjacent(2)
    told = {
        "fleet": "dev-cli",
        "topic_prefix": prefix,
        "kafka_bootstrap": kafka,
        "kafka_partitions": 2,
        "kafka_session_s": 1.0,
        "postgres_dsn_file": str(folder / "dsn"),
        "hsm_module": str(token.module),
        "hsm_label": token.label,
        "hsm_pin_file": str(token.pin_file),
        "identities": str(folder / "identities"),
        "http_port": port,
    }
    config = folder / "keyriver.toml"
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in told.items()))
    (folder / "run.log").touch()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KEYRIVER_")}
    return Place(folder, clean | {"KEYRIVER_CONFIG": str(config)} | dict(token.env), port)
