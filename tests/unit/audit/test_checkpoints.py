"""A checkpoint is believed only as the fleet signed it."""

import json
from dataclasses import replace

import pytest

from tests.unit.audit.book import FLEET, Book, leaves, signed, signer
from worker.model.audit import Checkpoint
from worker.seal import checkpoints
from worker.seal.checkpoints import BadCheckpoint

KEY = signer().public_key


@pytest.fixture
def said() -> Checkpoint:
    book = Book()
    book.grow(leaves(3))
    book.sign()
    book.grow(leaves(4, 3))
    return book.sign(1_795_471_200_000)


def test_it_travels_as_json_and_back(said: Checkpoint) -> None:
    value = checkpoints.to_json(said)
    assert checkpoints.parse(value, FLEET, KEY) == said
    assert json.loads(value)["kind"] == "checkpoint"


@pytest.mark.parametrize(
    ("name", "value"),
    [("tenant", "other"), ("size", 8), ("root", b"\0" * 32), ("time_ms", 1), ("previous_size", 2)],
)
def test_each_field_is_signed(said: Checkpoint, name: str, value: object) -> None:
    changed = replace(said, **{name: value})  # type: ignore[arg-type]
    with pytest.raises(BadCheckpoint, match="did not sign"):
        checkpoints.check(changed, FLEET, KEY)


def test_another_key_another_fleet_and_no_signature_are_refused(said: Checkpoint) -> None:
    with pytest.raises(BadCheckpoint, match="did not sign"):
        checkpoints.check(said, FLEET, signer(2).public_key)
    with pytest.raises(BadCheckpoint, match="another fleet"):
        checkpoints.check(said, "dev-other", KEY)
    with pytest.raises(BadCheckpoint, match="did not sign"):
        checkpoints.check(replace(said, signature=b""), FLEET, KEY)


def test_what_the_fleet_would_never_sign_is_refused_even_if_signed(said: Checkpoint) -> None:
    for changed in (replace(said, previous_size=7), replace(said, previous_size=-1)):
        with pytest.raises(BadCheckpoint, match="out of order"):
            checkpoints.check(signed(changed), FLEET, KEY)
    for changed in (replace(said, root=b"short"), replace(said, consistency=(b"short",))):
        with pytest.raises(BadCheckpoint, match="32 bytes"):
            checkpoints.check(signed(changed), FLEET, KEY)


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b'{"kind":"intake"}', b"\xff"])
def test_rubbish_is_refused(value: bytes) -> None:
    with pytest.raises(BadCheckpoint, match="not readable"):
        checkpoints.parse(value, FLEET, KEY)


def test_an_unknown_field_is_refused(said: Checkpoint) -> None:
    document = json.loads(checkpoints.to_json(said)) | {"more": 1}
    with pytest.raises(BadCheckpoint, match="not readable"):
        checkpoints.parse(json.dumps(document).encode(), FLEET, KEY)
