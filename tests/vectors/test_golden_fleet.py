"""A rotation of the fleet's signing key, and what is told of a row: bytes that must be read for ever."""

import hmac
import json
from pathlib import Path

import pytest

from worker.model.words import RowRef, Table
from worker.seal.errors import BadSignature
from worker.seal.lineage import Lineage, Succession
from worker.seal.sequences import BadSequence, Sequence, record_key, record_key_of

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "fleet.json").read_text(encoding="utf-8"))
PINNED = bytes.fromhex(json.loads((HERE / "keys.json").read_text(encoding="utf-8"))["signers"]["fleet"]["public"])


def test_a_rotation() -> None:
    case = GOLDEN["rotation"]
    new = bytes.fromhex(case["public_key"])
    said = Succession.parse(case["value"].encode(), "dev-example")
    assert said == Succession("dev-example", case["number"], PINNED, new, case["not_before_ms"])
    assert said.payload().hex() == case["payload"]
    assert said.record_key.decode() == case["record_key"]
    signatures = [bytes.fromhex(case[name]) for name in ("by_predecessor", "by_itself")]
    assert said.to_json(*signatures).decode() == case["value"]
    for pin in (PINNED, new):
        lineage = Lineage("dev-example", pin)
        lineage.accept(case["value"].encode())
        assert lineage.keys == (new, PINNED)
        lineage.verify(signatures[1], said.payload(), said.not_before_ms)
        with pytest.raises(BadSignature):
            lineage.verify(signatures[1], said.payload() + b"x", said.not_before_ms)


def test_a_sequence() -> None:
    case = GOLDEN["sequence"]
    ref, mac = RowRef(Table(case["table"]), case["key"]), bytes.fromhex(case["mac"])
    said = Sequence(ref, case["revision"], case["mac_version"], mac)
    tag = hmac.digest(bytes.fromhex(case["row_mac_key"]), said.payload(), "sha256")
    assert (said.payload().hex(), tag.hex()) == (case["payload"], case["tag"])
    assert said.to_json(1, tag).decode() == case["value"]
    assert Sequence.parse(case["value"].encode()) == (said, 1, tag)
    assert record_key(ref) == record_key_of(case["value"].encode()) == case["record_key"].encode()
    for broken in (b"", b"{}", case["value"].replace('"revision":2', '"revision":0').encode()):
        with pytest.raises(BadSequence):
            Sequence.parse(broken)
