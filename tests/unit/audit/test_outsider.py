"""The stand-alone verifier as an outsider runs it: a process of its own, with two files and a key."""

import json
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from schemas.audit import verify
from tests.unit.audit.book import signer
from tests.vectors.test_golden_audit import FLEET_KEY, GOLDEN

ROTATED = json.loads((Path(__file__).parents[2] / "vectors" / "fleet.json").read_text(encoding="utf-8"))
Spoil = Callable[[dict[str, Any]], object]
PROOF: dict[str, Any] = GOLDEN["proof"]
OTHER = json.loads(GOLDEN["checkpoints"][0]["value"])
FORGERIES: dict[str, Spoil] = {
    "another body": lambda proof: proof["leaf"].update(body="{}"),
    "another time": lambda proof: proof["leaf"].update(at_us=1),
    "another id": lambda proof: proof["leaf"].update(id=GOLDEN["leaves"][2]["id"]),
    "another place": lambda proof: proof["leaf"].update(index=2),
    "a place outside": lambda proof: proof["leaf"].update(index=5),
    "a place before": lambda proof: proof["leaf"].update(index=-1),
    "another tenant": lambda proof: (proof["leaf"].update(tenant="bank"), proof["checkpoint"].update(tenant="bank")),
    "the tenant of the leaf only": lambda proof: proof["leaf"].update(tenant="bank"),
    "a short path": lambda proof: proof["path"].pop(),
    "a long path": lambda proof: proof["path"].append(proof["path"][0]),
    "another path": lambda proof: proof["path"].reverse(),
    "no path": lambda proof: proof.update(path=[]),
    "another root": lambda proof: proof["checkpoint"].update(root=OTHER["root"]),
    "another checkpoint": lambda proof: proof.update(checkpoint=OTHER),
    "another time of signing": lambda proof: proof["checkpoint"].update(time_ms=1),
    "another fleet": lambda proof: proof["checkpoint"].update(fleet="dev-other"),
    "another predecessor": lambda proof: proof["checkpoint"].update(previous_size=1),
    "no signature": lambda proof: proof["checkpoint"].update(signature=""),
    "another signature": lambda proof: proof["checkpoint"].update(signature=OTHER["signature"]),
    "a larger log": lambda proof: proof["checkpoint"].update(size=6),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_no_forgery_passes(name: str) -> None:
    proof = deepcopy(PROOF)
    FORGERIES[name](proof)
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is, it is no proof
        verify.verify(proof, FLEET_KEY)


def test_the_key_is_the_pinned_one_not_the_one_sent_along() -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011
        verify.verify(PROOF, signer(2).public_key)


ROTATION = json.loads(ROTATED["rotation"]["value"])
NEW_KEY = bytes.fromhex(ROTATED["rotation"]["public_key"])


def test_a_pin_from_after_a_rotation_believes_what_was_signed_before_it() -> None:
    """And not what the old key signed after its end; a branch that only one key signed leads nowhere."""
    assert FLEET_KEY in verify.keys_at([ROTATION], "dev-example", NEW_KEY, ROTATION["not_before_ms"])
    assert verify.keys_at([ROTATION], "dev-example", FLEET_KEY, ROTATION["not_before_ms"]) == {FLEET_KEY, NEW_KEY}
    assert verify.keys_at([ROTATION], "dev-example", FLEET_KEY, ROTATION["not_before_ms"] + 300_001) == {NEW_KEY}
    for name in ("by_predecessor", "by_itself"):
        forged = ROTATION | {name: ROTATION["by_itself" if name == "by_predecessor" else "by_predecessor"]}
        assert verify.keys_at([forged], "dev-example", FLEET_KEY, 0) == {FLEET_KEY}
    assert verify.keys_at([ROTATION], "dev-other", FLEET_KEY, 0) == {FLEET_KEY}
    assert verify.keys_at([ROTATION], "dev-example", signer(2).public_key, 0) == {signer(2).public_key}


def test_it_runs_alone(tmp_path: Path) -> None:
    script = Path(shutil.copy(verify.__file__, tmp_path))
    good, bad, kept = (tmp_path / name for name in ("good.json", "bad.json", "kept.json"))
    forged = deepcopy(PROOF)
    forged["leaf"]["body"] = "{}"
    for path, document in ((good, PROOF), (bad, forged), (kept, OTHER)):
        path.write_text(json.dumps(document))
    key = b64encode(FLEET_KEY).decode()

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-I", str(script), *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = run(str(good), key)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == PROOF["leaf"]
    assert run(str(bad), key).returncode != 0
    assert "another checkpoint" in run(str(good), key, str(kept)).stderr
