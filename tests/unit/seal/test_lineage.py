"""Who pinned one key of the fleet believes all that provably belong to it, and no branch beside them (S1)."""

import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from worker.seal import lineage as ours
from worker.seal.errors import BadCertificate, BadSignature
from worker.seal.lineage import LATE_MS, Lineage, Succession
from worker.seal.signatures import ES256Signer

NOW = 1_764_000_000_000
FLEET = "dev-f"
KEYS = [ES256Signer(str(number), generate_private_key(SECP256R1())) for number in range(5)]


def told(old: ES256Signer, new: ES256Signer, number: int = 2, at_ms: int = NOW) -> bytes:
    said = Succession(FLEET, number, old.public_key, new.public_key, at_ms)
    return said.to_json(old.sign(said.payload()), new.sign(said.payload()))


CHAIN = [told(KEYS[place], KEYS[place + 1], place + 2, NOW + place * 1_000_000) for place in range(3)]


def believes(lineage: Lineage, signer: ES256Signer, at_ms: int = NOW) -> bool:
    try:
        lineage.verify(signer.sign(b"said"), b"said", at_ms)
    except BadSignature:
        return False
    return True


@pytest.mark.parametrize("pinned", range(4))
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)])
def test_any_pin_leads_to_all_keys_in_whatever_order_they_are_told(pinned: int, order: tuple[int, ...]) -> None:
    lineage = Lineage(FLEET, KEYS[pinned].public_key)
    for place in order:
        lineage.accept(CHAIN[place])
    assert lineage.keys == tuple(key.public_key for key in reversed(KEYS[:4]))
    assert lineage.newest == KEYS[3].public_key
    assert all(believes(lineage, key) for key in KEYS[:4])
    assert sorted(lineage.links) == sorted(CHAIN)
    assert not believes(lineage, KEYS[4])
    again = lineage.keys
    for place in order:
        lineage.accept(CHAIN[place])
    assert lineage.keys == again


def test_what_an_old_key_says_of_a_time_after_its_end_is_not_believed() -> None:
    lineage = Lineage(FLEET, KEYS[0].public_key)
    assert believes(lineage, KEYS[0], NOW + 10 * LATE_MS)
    lineage.accept(CHAIN[0])
    assert believes(lineage, KEYS[0], NOW + LATE_MS)
    assert not believes(lineage, KEYS[0], NOW + LATE_MS + 1)
    assert believes(lineage, KEYS[1], NOW + 10 * LATE_MS)


def test_a_forged_chain_is_refused() -> None:
    lineage = Lineage(FLEET, KEYS[0].public_key)
    said = Succession(FLEET, 2, KEYS[0].public_key, KEYS[4].public_key, NOW)
    mine = KEYS[4].sign(said.payload())
    theirs = KEYS[0].sign(said.payload())
    for value in (
        said.to_json(mine, mine),
        said.to_json(theirs, theirs),
        said.to_json(b"", mine),
        replace(said, number=3).to_json(theirs, mine),
        replace(said, not_before_ms=NOW + 1).to_json(theirs, mine),
        replace(said, public_key=b"no key").to_json(theirs, mine),
        replace(said, fleet="dev-g").to_json(theirs, mine),
        replace(said, public_key=KEYS[0].public_key).to_json(theirs, theirs),
        b"{}",
        b"\xff",
    ):
        with pytest.raises(BadCertificate):
            lineage.accept(value)
    assert lineage.keys == (KEYS[0].public_key,)


def test_nothing_can_be_changed_under_the_signatures() -> None:
    body: dict[str, Any] = json.loads(CHAIN[0])
    for name, value in body.items():
        changed = value + 1 if isinstance(value, int) else value + "A"
        with pytest.raises(BadCertificate):
            Succession.parse(json.dumps({**body, name: changed}).encode(), FLEET)


def test_a_leaked_key_puts_no_branch_beside_what_was_accepted() -> None:
    lineage = Lineage(FLEET, KEYS[0].public_key)
    for value in CHAIN[:2]:
        lineage.accept(value)
    for forged in (
        told(KEYS[0], KEYS[4]),  # another successor
        told(KEYS[1], KEYS[4], 3),
        told(KEYS[4], KEYS[1]),  # another predecessor
        told(KEYS[0], KEYS[1], 2, NOW + 1),  # the same keys at another time
        told(KEYS[2], KEYS[0], 4),  # a ring
        told(KEYS[2], KEYS[1], 4),
    ):
        with pytest.raises(BadCertificate):
            lineage.accept(forged)
    assert lineage.keys == tuple(key.public_key for key in reversed(KEYS[:3]))


def test_strangers_wait_and_a_branch_among_them_comes_to_nothing() -> None:
    lineage = Lineage(FLEET, KEYS[0].public_key)
    lineage.accept(CHAIN[1])
    lineage.accept(told(KEYS[1], KEYS[4], 3))
    assert lineage.keys == (KEYS[0].public_key,)
    lineage.accept(CHAIN[0])
    assert [*lineage.keys] == [key.public_key for key in reversed(KEYS[:3])]
    assert not believes(lineage, KEYS[4])


def test_there_is_an_end_to_what_one_reader_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "MOST", 1)
    lineage = Lineage(FLEET, KEYS[0].public_key)
    lineage.accept(told(KEYS[3], KEYS[4]))
    lineage.accept(CHAIN[2])  # nobody knows these, and there is room for one
    lineage.accept(CHAIN[0])
    with pytest.raises(BadCertificate):
        lineage.accept(CHAIN[1])
    assert lineage.keys == (KEYS[1].public_key, KEYS[0].public_key)


def test_a_lone_pin_and_a_lineage_are_asked_alike() -> None:
    lineage = Lineage(FLEET, KEYS[0].public_key)
    for key in (lineage, KEYS[0].public_key):
        ours.verify(key, KEYS[0].sign(b"said"), b"said", NOW)
        with pytest.raises(BadSignature):
            ours.verify(key, KEYS[1].sign(b"said"), b"said", NOW)
    said = Succession.parse(CHAIN[0], FLEET)
    assert said.record_key == b"fleet-key/2"
