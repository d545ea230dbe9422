"""`keyriver audit` as a command, and a worker that is not ready while the log is behind."""

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.place import DEADLINE_S, Place, placed
from tests.stack import Services
from worker.local import Token


@pytest.fixture
def place(stack: Services, database: str, softhsm: Token, prefix: str, tmp_path: Path) -> Place:
    return placed(tmp_path, stack.kafka, database, softhsm, prefix)


@pytest.fixture
def fleet(place: Place) -> Iterator[Place]:
    """One worker at work."""
    place.keyriver("init ann bob")
    running = place.start("run", "--lanes", "control,interactive")
    try:
        place.until_ready(1)
        yield place
    finally:
        running.kill()
        running.wait()


@pytest.fixture
async def raw(database: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


def until(place: Place, status: int, said: str) -> None:
    """Until /readyz answers so."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        found, text = place.fetch("/readyz")
        if found == status and said in text:
            return
        assert time.monotonic() < deadline, f"{text}{place.log()}"
        time.sleep(0.05)


async def test_a_worker_is_not_ready_while_the_log_is_behind(
    fleet: Place, raw: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    until(fleet, 200, "audit: ok")
    async with raw.transaction():
        await raw.execute("SELECT 1 FROM keyriver.sequencer FOR UPDATE")  # nobody can hold the lease
        fleet.keyriver("tenant create acme")
        until(fleet, 503, "s behind")
        assert fleet.fetch("/livez")[0] == 200
    until(fleet, 200, "audit: ok")
    assert "keyriver_audit_behind_seconds 0.0" in fleet.fetch("/metrics")[1]
    _verifies(fleet)
    _exports_and_proves(fleet)


def _verifies(fleet: Place) -> None:
    assert "whole" in fleet.keyriver("audit verify")
    told = fleet.json("audit verify")
    assert isinstance(told, dict)
    assert told["whole"]
    assert {log["tenant"]: log["records"] for log in told["logs"]} == {"acme": 1}
    accepted = fleet.folder / "audit-accepted.json"
    (kept,) = json.loads(accepted.read_text())
    assert (kept["tenant"], kept["size"]) == ("acme", 1)
    assert "TENANT" in fleet.keyriver("audit verify --tenant acme --offline")
    assert fleet.json("audit verify --tenant nobody")["logs"] == []  # type: ignore[index]
    key = json.loads((fleet.folder / "identities" / "ann.json").read_text())["fleet_key"]
    assert "whole" in fleet.keyriver(f"audit verify --fleet-key dev-cli:{key}")
    assert "another fleet" in fleet.keyriver(f"audit verify --fleet-key dev-other:{key}", code=1)
    assert "--fleet-key" in fleet.keyriver("audit verify --fleet-key dev-cli:AAAA", code=2)
    record = fleet.folder / "kept.json"
    record.write_text(json.dumps(kept))
    assert "whole" in fleet.keyriver(f"audit verify --checkpoint {record}")
    record.write_text(json.dumps(kept | {"size": 2}))
    assert "did not sign" in fleet.keyriver(f"audit verify --checkpoint {record}", code=1)
    assert "no-file" in fleet.keyriver("audit verify --checkpoint no-file", code=1)
    accepted.write_text("[")
    assert "accepted checkpoints" in fleet.keyriver("audit verify", code=1), (
        "a lost memory is not begun anew in silence"
    )
    accepted.write_text(json.dumps([kept]))


def _exports_and_proves(fleet: Place) -> None:
    (record,) = [json.loads(line) for line in fleet.keyriver("audit export").splitlines()]
    assert (record["actor"]["user"]["name"], record["api"]["operation"]) == ("ann", "keyriver.tenant.create.v1")
    assert fleet.keyriver("audit export --from 2100-01-01") == ""
    assert "--from" in fleet.keyriver("audit export --from yesterday", code=2)
    for name in (record["metadata"]["uid"], record["api"]["request"]["uid"]):
        proof = json.loads(fleet.keyriver(f"audit prove {name}"))
        assert (proof["leaf"]["tenant"], proof["leaf"]["index"], proof["path"]) == ("acme", 0, [])
    assert "no log has a record" in fleet.keyriver("audit prove 00000000-0000-0000-0000-000000000000", code=1)
    assert "no log has a record" in fleet.keyriver("audit prove nothing", code=1)
    _ends_with_its_reader(fleet)


def _ends_with_its_reader(fleet: Place) -> None:
    """`keyriver audit export | head`."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-u", "-m", "worker", "audit", "export"]
    with os.fdopen(writer, "wb") as output:
        done = subprocess.run(command, env=fleet.env, stdout=output, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (141, b"")
