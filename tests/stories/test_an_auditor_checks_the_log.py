"""An auditor verifies a tenant's log, gives a proof of one record to an outsider, and finds what was tampered with."""

import json
import os
import re
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from tests.fleet import Fleet, House
from tests.stack import CHECKOUT
from worker.client import ItemError
from worker.model.bodies import DekItem

VERIFIER = CHECKOUT / "schemas" / "audit" / "verify.py"
SQL = (CHECKOUT / "tests" / "contract" / "audit_tampering.sql").read_text()


class Auditor:
    """The `keyriver audit` command on a machine that may read the store and the topics; and an outsider's own."""

    def __init__(self, fleet: Fleet, tenant: str, folder: Path) -> None:
        self._fleet = fleet
        self._folder = folder
        self._tenant = tenant
        self._env = os.environ | fleet.env | {"KEYRIVER_IDENTITIES": str(fleet.folder)}
        self.pinned = b64encode(fleet.officers[0].fleet_key).decode()

    def audit(self, *words: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "worker", "audit", *words, "--tenant", self._tenant]
        done = subprocess.run(command, env=self._env, cwd=CHECKOUT, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def verify(self, *words: str, code: int = 0) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(
            self.audit("verify", "--accepted-file", str(self._folder / "accepted.json"), "--json", *words, code=code)
        )
        return told

    def records(self, *words: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.audit("export", *words).splitlines()]

    def outsider(self, proof: str, *kept: Path) -> "subprocess.CompletedProcess[str]":
        """Somebody who has the proof and the pinned key, and nothing of ours."""
        path = self._folder / "proof.json"
        path.write_text(proof)
        command = [sys.executable, "-I", str(VERIFIER), str(path), self.pinned, *map(str, kept)]
        return subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False)


@pytest.fixture
def auditor(fleet: Fleet, house: House, tmp_path: Path) -> Auditor:
    return Auditor(fleet, house.tenant, tmp_path)


async def signed(fleet: Fleet, tenant: str, seconds: float = 60.0) -> int:
    """Wait until all that was answered to this tenant is under a published checkpoint; how many records."""
    count: int = await fleet.pool.fetchval("SELECT count(*) FROM keyriver.leaves WHERE tenant = $1", tenant)
    async with fleet.tap(fleet.topics.audit) as tap:
        sizes = [0]
        await tap.until(
            lambda entries: max([*sizes, *(size(one.value) for one in entries if one.key == tenant.encode())]) >= count,
            f"a checkpoint of {count} records",
            seconds,
        )
    return count


def size(value: bytes | None) -> int:
    found = json.loads(value or b"{}")["size"]
    assert isinstance(found, int)
    return found


async def test_from_verification_to_a_proof_and_a_forgery(
    fleet: Fleet, house: House, auditor: Auditor, tmp_path: Path
) -> None:
    # Given a tenant that used its keys, and somebody who asked for a DEK that is not his
    (made,) = await house.client.generate(house.key)
    other = await fleet.tenant()
    assert not isinstance(made, ItemError)
    (denied,) = await other.client.unwrap([DekItem(blob=made.blob, id=None)] if made.blob else [DekItem(id=made.id)])
    assert isinstance(denied, ItemError)
    count = await signed(fleet, house.tenant)

    # When the auditor verifies the log, Then it is whole, and its last checkpoint is accepted
    told = auditor.verify()
    assert told["whole"]
    assert [(log["records"], log["accepted"]) for log in told["logs"]] == [(count, count)]

    # And the export names who did what, and marks the denied attempt in the log of who made it
    records = auditor.records()
    assert [record["metadata"]["sequence"] for record in records] == list(range(count))
    wrap = records[-1]
    assert (wrap["api"]["operation"], wrap["status"]) == ("keyriver.wrap.v1", "Success")
    assert wrap["actor"]["user"]["name"] == house.identity.client
    await signed(fleet, other.tenant)
    attempt = Auditor(fleet, other.tenant, tmp_path).records("--from", "2026-01-01")[-1]
    assert (attempt["status_code"], attempt["severity"], attempt["activity_name"]) == ("NOT_FOUND", "Medium", "Read")
    assert attempt["status_detail"] == "NOT_FOUND: foreign"
    assert auditor.records("--to", "2026-01-01") == []

    # When an outsider gets the proof of that record, Then the pinned key and a kept checkpoint are all that he needs
    proof = auditor.audit("prove", wrap["metadata"]["uid"])
    async with fleet.tap(fleet.topics.audit) as tap:
        mine = [one.value for one in await tap.to_end() if one.key == house.tenant.encode()]
    kept = tmp_path / "kept.json"
    kept.write_bytes(mine[-1] or b"")
    done = auditor.outsider(proof, kept)
    assert done.returncode == 0, done.stderr
    assert json.loads(json.loads(done.stdout)["body"])["client"] == house.identity.client
    assert json.loads(auditor.audit("prove", wrap["api"]["request"]["uid"])) == json.loads(proof)
    assert json.loads(auditor.audit("prove", wrap["metadata"]["uid"], "--checkpoint", str(kept))) == json.loads(proof)

    # But no other record passes under that proof
    forged = json.loads(proof)
    forged["leaf"]["body"] = forged["leaf"]["body"].replace(house.identity.client, "somebody-else")
    assert auditor.outsider(json.dumps(forged)).returncode != 0

    # When somebody who owns the database changes who it was, Then the record is named
    change = (
        "UPDATE keyriver.leaves SET body = $2 WHERE id = $1 RETURNING (SELECT body FROM keyriver.leaves WHERE id = $1)"
    )
    before = await fleet.pool.fetchval(change, wrap["metadata"]["uid"], forged["leaf"]["body"].encode())
    (flaw,) = auditor.verify(code=1)["flaws"]
    assert (flaw["fault"], flaw["first"], flaw["leaf"]) == ("altered", count - 1, wrap["metadata"]["uid"])
    assert wrap["metadata"]["uid"] in auditor.audit("verify", "--offline", code=1)
    assert "not what was signed" in auditor.audit("prove", wrap["metadata"]["uid"], code=1)
    await fleet.pool.execute("UPDATE keyriver.leaves SET body = $2 WHERE id = $1", wrap["metadata"]["uid"], before)
    assert auditor.verify()["whole"]


async def test_a_log_that_was_written_anew_is_refused(fleet: Fleet, house: House, auditor: Auditor) -> None:
    # Given a log that the auditor accepted
    count = await signed(fleet, house.tenant)
    assert auditor.verify()["whole"]

    # When its first record is changed and all of it is appended and signed again, by the fleet's own sequencer
    scenes = dict(re.findall(r"^-- state: (.*)\n((?:(?!-- ).*\n)+)", SQL, re.MULTILINE))
    anew = scenes["its first record is another"] + scenes["as if nothing had been appended yet"]
    await fleet.pool.execute(anew.replace(":log", f"'{house.tenant}'"))
    (await house.client.generate(house.key, 2))
    await signed(fleet, house.tenant)

    # Then the log by itself looks whole, but it is not the one that was accepted, nor the one that was published
    fresh = Auditor(fleet, house.tenant, auditor._folder / "..")
    told = auditor.verify("--offline", code=1)
    assert [flaw["fault"] for flaw in told["flaws"]] == ["forked"]
    assert told["logs"][0]["accepted"] is None
    assert "forked" in fresh.audit("verify", "--accepted-file", str(auditor._folder / "none.json"), code=1)
    assert (auditor._folder / "none.json").exists() is False

    # When it is cut down to what it was before the auditor came, Then it has shrunk
    cut = "DELETE FROM keyriver.{} WHERE tenant = $1"
    for table in ("log_entries", "log_nodes", "checkpoints", "logs", "leaves"):
        await fleet.pool.execute(cut.format(table), house.tenant)
    told = auditor.verify("--offline", code=1)
    assert ("shrunk", 0, count - 1) in [(flaw["fault"], flaw["first"], flaw["last"]) for flaw in told["flaws"]]
