"""The command line against real services: from an empty database to keys and clients, over a supervised fleet."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.place import DEADLINE_S, Place, placed
from tests.stack import Services
from worker.client import load_identity
from worker.local import Token


@pytest.fixture
def place(stack: Services, database: str, softhsm: Token, prefix: str, tmp_path: Path) -> Place:
    return placed(tmp_path, stack.kafka, database, softhsm, prefix)


@pytest.fixture
def fleet(place: Place) -> Iterator[Place]:
    """Founded and running: a worker for control and interactive, and one for bulk."""
    assert "lacks schema versions" in place.keyriver("doctor", code=1)
    assert "is there already" not in place.keyriver("init ann bob")
    assert "nothing new was written" in place.keyriver("init ann bob")
    assert "all well" in place.keyriver("doctor")
    running = place.start("run")
    try:
        place.until_ready(2)
        yield place
        running.send_signal(signal.SIGTERM)
        assert running.wait(DEADLINE_S) == 0, place.log()
        assert place.log().count("drained and stopped") == 2
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
    _links(fleet)
    _clients(fleet)
    _policy(fleet)
    _survives_a_kill(fleet)
    _logs_no_secret(fleet)


def _links(fleet: Place) -> None:
    """Layer 2 follows its master key; no customer keeps a key here, and none can without a credential."""
    fleet.keyriver("key rotate acme")
    assert "1 of 1 layer 2 keys were rotated to the master key's version 2" in fleet.keyriver("tenant follow acme")
    assert "0 of 1" in fleet.keyriver("tenant follow acme")
    shown = fleet.json("key show acme/eu")
    assert isinstance(shown, dict)
    assert [each["parent_version"] for each in shown["versions"]] == [1, 2]
    there = "--provider xks --endpoint https://keys.example --key k1 --credential nobody"
    assert "KEYSTORE_UNFIT" in fleet.keyriver(f"link create corp {there}", code=1)
    assert fleet.json("link list") == []
    assert "NOT_FOUND" in fleet.keyriver("link show acme", code=1)
    assert "CONFLICT" in fleet.keyriver("tenant move acme", code=1)


def _clients(fleet: Place) -> None:
    file = fleet.folder / "identities" / "billing.json"
    fleet.keyriver("client add acme billing --keys acme/eu/* --allow wrap,unwrap")
    first = load_identity(file)
    assert (first.tenant, first.fleet) == ("acme", "dev-cli")
    fleet.keyriver("client add acme billing --identity-file other.json", code=1)
    assert not Path("other.json").exists(), "a refused client leaves no file"
    fleet.keyriver("client rotate acme billing")
    file.with_name("billing.new.json").replace(file)
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


def _policy(fleet: Place) -> None:
    fleet.keyriver("client add acme reports --allow wrap --keys acme/eu/payments")
    assert "refused, NOT_FOUND" in fleet.keyriver("policy check acme reports unwrap acme/eu/payments", code=1)
    fleet.keyriver("policy allow acme reports unwrap --keys acme/eu/* --context table --why report")
    told = fleet.keyriver("policy check acme reports unwrap acme/eu/payments --context table,row")
    assert "allowed by the rule" in told
    listed = fleet.json("policy list acme --client reports")
    assert isinstance(listed, list)
    ((by, keys, why),) = [(each["enrolled_by"], each["context_keys"], each["why"]) for each in listed]
    assert (by, keys, why) == ("ann+bob", ["table"], "report")
    assert "REVOKED" in fleet.keyriver(f"policy revoke acme {listed[0]['id']}")
    fleet.keyriver("grant give reports acme/eu/payments unwrap --version 1 --hours 0.5 --why incident")
    given = fleet.json("grant list acme")
    assert isinstance(given, list)
    assert [(each["client"], each["version"], each["given_by"]) for each in given] == [("reports", 1, "ann+bob")]
    assert "quota of acme: 500 a second" in fleet.keyriver("tenant quota acme --per-second 500 --burst 900")
    assert "900" in fleet.keyriver("tenant quota acme")
    assert fleet.json("approval list") == []
    decided = fleet.json("approval list --all")
    assert isinstance(decided, list)
    assert {one["state"] for one in decided} == {"approved"}
    assert "NOT_FOUND" in fleet.keyriver("fleet retire row-mac 7", code=1)
    fleet.keyriver("fleet rotate row-mac")
    assert "rows, or words about rows, still rest on row-mac version 1" in fleet.keyriver(
        "fleet retire row-mac 1", code=1
    )


def _survives_a_kill(fleet: Place) -> None:
    assert fleet.fetch("/livez") == (200, "lane control: ok\nlane interactive: ok\n")
    text = fleet.fetch("/metrics")[1]
    assert 'keyriver_results_total{code="OK",operation="tenant.create"} 1.0' in text
    assert "keyriver_lag_records{" in text
    log = [json.loads(line) for line in fleet.log().splitlines()]
    pids = [int(each["message"].rpartition(" ")[2]) for each in log if each["message"].startswith("worker 0 started")]
    assert len(pids) == 1, fleet.log()
    os.kill(pids[0], signal.SIGKILL)
    fleet.keyriver("tenant create later")
    fleet.until_ready(2)
    assert "worker 0 ended with code -9" in fleet.log()


def _logs_no_secret(fleet: Place) -> None:
    keys = [path.read_text() for path in (fleet.folder / "identities").glob("*.json")]
    secrets = [json.loads(key)[name] for key in keys for name in ("private_key", "recipient_private_key")]
    password = (fleet.folder / "dsn").read_text().split(":")[2].partition("@")[0]
    assert [secret for secret in (password, *secrets) if secret in fleet.log()] == []
