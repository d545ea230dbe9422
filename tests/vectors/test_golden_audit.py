"""Golden audit log: leaf, checkpoint and proof mean the same for ever, to us and to the outsider."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any
from uuid import UUID

from schemas.audit import verify
from worker.chain import audit
from worker.chain.merkle import check_consistency, root_of
from worker.model.audit import AuditLeaf
from worker.seal import checkpoints

HERE = Path(__file__).parent
GOLDEN: dict[str, Any] = json.loads((HERE / "audit.json").read_text(encoding="utf-8"))
FLEET_KEY = bytes.fromhex(json.loads((HERE / "keys.json").read_text(encoding="utf-8"))["signers"]["fleet"]["public"])


def test_leaves_have_their_hashes() -> None:
    for told in GOLDEN["leaves"]:
        leaf = AuditLeaf(0, UUID(told["id"]), told["tenant"], told["at_us"], told["body"].encode())
        assert audit.hash_of(leaf, told["index"]).hex() == told["hash"]
        assert verify.leaf_hash(told).hex() == told["hash"]


def test_checkpoints_are_signed_roots_that_continue_each_other() -> None:
    hashes = [bytes.fromhex(told["hash"]) for told in GOLDEN["leaves"]]
    first, second = [
        checkpoints.parse(told["value"].encode(), "dev-example", FLEET_KEY) for told in GOLDEN["checkpoints"]
    ]
    for told, said in zip(GOLDEN["checkpoints"], (first, second), strict=True):
        assert checkpoints.payload(said).hex() == told["payload"]
        assert checkpoints.to_json(said).decode() == told["value"]
        assert said.root.hex() == told["root"] == root_of(hashes[: said.size]).hex()
    check_consistency(first.size, first.root, second.size, second.root, second.consistency)


def test_the_outsiders_verifier_takes_the_proof() -> None:
    verify.verify(GOLDEN["proof"], FLEET_KEY, json.loads(GOLDEN["checkpoints"][1]["value"]))
    assert b64decode(GOLDEN["proof"]["fleet_key"]) == FLEET_KEY
