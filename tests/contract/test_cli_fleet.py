"""The command line against real services: from an empty database to keys and clients, over a supervised fleet."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.stack import Services
from worker.cli.local import adjacent
from worker.client import load_identity
from worker.local import Token

DEADLINE_S = 60.0


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
        assert done.returncode == code, f"{line}: {done.stdout}{done.stderr}{(self.folder / 'run.log').read_text()}"
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

    def until_ready(self) -> None:
        """Both processes have their lanes."""
        until = time.monotonic() + DEADLINE_S
        while [self.fetch("/readyz", index)[0] for index in (0, 1)] != [200, 200]:
            said = (self.folder / "run.log").read_text()
            assert time.monotonic() < until, f"{self.fetch('/readyz')} {said}"
            assert "can't run" not in said, said
            time.sleep(0.1)


@pytest.fixture
def place(stack: Services, database: str, softhsm: Token, prefix: str, tmp_path: Path) -> Place:
    (tmp_path / "dsn").write_text(database)
    (tmp_path / "dsn").chmod(0o400)
    port = adjacent(2)
    told = {
        "fleet": "dev-cli",
        "topic_prefix": prefix,
        "kafka_bootstrap": stack.kafka,
        "kafka_partitions": 2,
        "kafka_session_s": 1.0,
        "postgres_dsn_file": str(tmp_path / "dsn"),
        "hsm_module": str(softhsm.module),
        "hsm_label": softhsm.label,
        "hsm_pin_file": str(softhsm.pin_file),
        "identities": str(tmp_path / "identities"),
        "http_port": port,
    }
    config = tmp_path / "keyriver.toml"
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in told.items()))
    (tmp_path / "run.log").touch()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KEYRIVER_")}
    return Place(tmp_path, clean | {"KEYRIVER_CONFIG": str(config)} | dict(softhsm.env), port)


@pytest.fixture
def fleet(place: Place) -> Iterator[Place]:
    """Founded and running: a worker for control and interactive, and one for bulk."""
    assert "lacks schema versions" in place.keyriver("doctor", code=1)
    assert "is there already" not in place.keyriver("init ann bob")
    assert "nothing new was written" in place.keyriver("init ann bob")
    assert "all well" in place.keyriver("doctor")
    running = place.start("run")
    try:
        place.until_ready()
        yield place
        running.send_signal(signal.SIGTERM)
        assert running.wait(DEADLINE_S) == 0, (place.folder / "run.log").read_text()
        assert (place.folder / "run.log").read_text().count("drained and stopped") == 2
    finally:
        running.kill()
        running.wait()


def test_from_nothing_to_keys_and_clients(fleet: Place) -> None:
    assert "master key" in fleet.keyriver("tenant create acme")
    assert "EXISTS" in fleet.keyriver("tenant create acme", code=1)
    fleet.keyriver("key create acme/eu")
    fleet.keyriver("key create acme/eu/payments")
    assert "v2  active" in fleet.keyriver("key rotate acme/eu/payments")
    shown = fleet.json("key show acme/eu/payments")
    assert isinstance(shown, dict)
    assert [(each["number"], each["state"]) for each in shown["versions"]] == [(1, "deactivated"), (2, "active")]
    tree = fleet.keyriver("key tree acme").splitlines()
    assert tree == ["acme  L1  v1", "└── acme/eu  L2  v1", "    └── acme/eu/payments  L3  v2"]
    listed = fleet.json("key list acme")
    assert isinstance(listed, list)
    assert {each["alias"]: each["layer"] for each in listed} == {"acme": 1, "acme/eu": 2, "acme/eu/payments": 3}
    assert "NOT_FOUND" in fleet.keyriver("key show acme/nothing", code=1)
    _clients(fleet)
    _survives_a_kill(fleet)


def _clients(fleet: Place) -> None:
    file = fleet.folder / "identities" / "billing.json"
    fleet.keyriver("client add acme billing --keys acme/eu/* --allow wrap,unwrap")
    first = load_identity(file)
    assert (first.tenant, first.fleet) == ("acme", "dev-cli")
    fleet.keyriver("client add acme billing --identity-file other.json", code=1)
    assert not Path("other.json").exists(), "a refused client leaves no file"
    fleet.keyriver("client rotate acme billing")
    assert load_identity(file).private_key != first.private_key
    assert load_identity(file).recipient == first.recipient
    assert "NOT_FOUND" in fleet.keyriver(f"tenant create evil --as {file}", code=1), "a service is no officer"
    assert "REVOKED" in fleet.keyriver("client revoke acme billing --as " + str(file.with_name("bob.json")))
    listed = fleet.json("client list acme")
    assert isinstance(listed, list)
    assert [(each["id"], each["revoked"], each["pattern"]) for each in listed] == [("billing", True, "acme/eu/*")]
    officers = fleet.json("client list fleet")
    assert isinstance(officers, list)
    assert [each["id"] for each in officers] == ["ann", "bob"]


def _survives_a_kill(fleet: Place) -> None:
    assert fleet.fetch("/livez") == (200, "lane control: ok\nlane interactive: ok\n")
    text = fleet.fetch("/metrics")[1]
    assert 'keyriver_results_total{code="OK",operation="tenant.create"} 1.0' in text
    assert "keyriver_lag_records{" in text
    log = [json.loads(line) for line in (fleet.folder / "run.log").read_text().splitlines()]
    (pid,) = [int(each["message"].rpartition(" ")[2]) for each in log if each["message"].startswith("worker 0 started")]
    os.kill(pid, signal.SIGKILL)
    fleet.keyriver("tenant create later")
    fleet.until_ready()
    assert "worker 0 ended with code -9" in (fleet.folder / "run.log").read_text()
