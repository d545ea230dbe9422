"""HPKE: info byte by byte, and sealed messages that must open for ever, also for an implementation that is not ours."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.vectors.rfc9180 import open_base
from worker.model.rows import Suite
from worker.seal import hpke

HERE = Path(__file__).parent
CASES: list[dict[str, Any]] = json.loads((HERE / "hpke.json").read_text(encoding="utf-8"))["cases"]
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])


def b(case: dict[str, Any], name: str) -> bytes:
    return bytes.fromhex(case[name])


@each
def test_info(case: dict[str, Any]) -> None:
    named = {name: case[name] for name in ("direction", "suite", "fleet", "tenant", "client", "operation")}
    info = hpke.info(**named, request_id=case["id"], recipient_public_key=b(case, "public"))
    assert info == b(case, "info")
    by_hand = b""
    for part in (
        b"keyriver/1",
        *[name.encode() for name in (*named.values(), case["id"])],
        sha256(b(case, "public")).digest(),
    ):
        by_hand += len(part).to_bytes(4, "big") + part
    assert by_hand == b(case, "info")


@each
def test_the_sealed_message_opens(case: dict[str, Any]) -> None:
    suite = Suite(case["suite"])
    assert hpke.load_keypair(suite, b(case, "private")).public == b(case, "public")
    plain = hpke.open_sealed(suite, b(case, "private"), b(case, "info"), b(case, "sealed"))
    assert plain == b(case, "plaintext")
    assert hpke.unpack_slots(plain, len(case["slots"])) == [bytes.fromhex(slot) for slot in case["slots"]]
    assert hpke.pack_slots([bytes.fromhex(slot) for slot in case["slots"]]) == plain


@each
def test_the_rfc_step_by_step_opens_it_too(case: dict[str, Any]) -> None:
    plain = open_base(case["suite"], b(case, "private"), b(case, "public"), b(case, "info"), b(case, "sealed"))
    assert plain == b(case, "plaintext")


def test_every_suite_is_here() -> None:
    assert {case["suite"] for case in CASES} == set(Suite)
