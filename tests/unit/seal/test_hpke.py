"""HPKE: what our three suites open, and everything that must not open."""

import inspect
import pickle
from dataclasses import replace
from typing import Any

import pytest

from worker.model.rows import Suite
from worker.seal import hpke
from worker.seal.errors import BadKey, BadSeal

SUITES = list(Suite)
SIZES = {Suite.X25519: (32, 32), Suite.P256: (32, 65), Suite.MLKEM768_X25519: (96, 1216)}
NAMES: dict[str, Any] = {
    "direction": "reply",
    "suite": Suite.X25519,
    "fleet": "dev-f",
    "tenant": "acme",
    "client": "payments",
    "operation": "wrap",
    "request_id": "r-1",
    "recipient_public_key": b"key",
}


@pytest.mark.parametrize("suite", SUITES)
def test_what_is_sealed_opens_only_with_its_key_and_info(suite: Suite) -> None:
    pair, other = hpke.generate_keypair(suite), hpke.generate_keypair(suite)
    assert (len(pair.private), len(pair.public)) == SIZES[suite]
    hpke.check_public_key(suite, pair.public)
    sealed = hpke.seal(suite, pair.public, b"info", b"dek")
    assert hpke.open_sealed(suite, pair.private, b"info", sealed) == b"dek"
    opener = hpke.Opener(suite, pair.private)
    assert opener.open(b"info", sealed) == opener.open(b"info", sealed) == b"dek"
    for private, info, text in (
        (other.private, b"info", sealed),
        (pair.private, b"infO", sealed),
        (pair.private, b"info", sealed[:-1] + bytes([sealed[-1] ^ 1])),
        (pair.private, b"info", bytes([sealed[0] ^ 1]) + sealed[1:]),
        (pair.private, b"info", sealed[:16]),
        (pair.private, b"info", b""),
    ):
        with pytest.raises(BadSeal):
            hpke.open_sealed(suite, private, info, text)


@pytest.mark.parametrize("suite", SUITES)
def test_no_two_messages_share_an_encapsulation(suite: Suite) -> None:
    pair = hpke.generate_keypair(suite)
    assert hpke.seal(suite, pair.public, b"", b"dek") != hpke.seal(suite, pair.public, b"", b"dek")


@pytest.mark.parametrize("suite", SUITES)
def test_a_key_pair_is_read_again_from_its_private_half(suite: Suite) -> None:
    pair = hpke.generate_keypair(suite)
    assert hpke.load_keypair(suite, pair.private) == pair


@pytest.mark.parametrize("suite", SUITES)
def test_bytes_that_are_no_key_of_the_suite_are_refused(suite: Suite) -> None:
    for length in (0, 31, 33, 64, 65, 1184, 1215, 1217):
        with pytest.raises(BadKey):
            hpke.seal(suite, b"\x05" * length, b"", b"")
    for length in (0, 31, 33, 64, 95, 97):
        with pytest.raises(BadKey):
            hpke.open_sealed(suite, b"\x05" * length, b"", b"")
    with pytest.raises(BadKey):
        hpke.check_public_key(suite, b"")


def test_a_scalar_out_of_range_is_no_key() -> None:
    for scalar in (bytes(32), b"\xff" * 32):
        with pytest.raises(BadKey):
            hpke.load_keypair(Suite.P256, scalar)


@pytest.mark.parametrize("suite", [Suite.X25519, Suite.MLKEM768_X25519])
def test_a_point_of_small_order_is_no_key(suite: Suite) -> None:
    pair = hpke.generate_keypair(suite)
    with pytest.raises(BadKey):
        hpke.seal(suite, pair.public[:-32] + bytes(32), b"", b"dek")


def test_info_binds_every_name() -> None:
    seen = {hpke.info(**NAMES)}
    for name in inspect.signature(hpke.info).parameters:
        changed: dict[str, Any] = {"direction": "request", "suite": Suite.P256, "recipient_public_key": b"other"}
        seen.add(hpke.info(**{**NAMES, name: changed.get(name, "other")}))
    assert len(seen) == 1 + len(NAMES)


def test_a_private_key_shows_in_no_repr_and_does_not_travel() -> None:
    pair = hpke.generate_keypair(Suite.X25519)
    assert pair.private.hex() not in repr(pair)
    assert repr(pair.private) not in repr(pair)
    assert replace(pair, public=b"") != pair
    for secret in (pair, hpke.Opener(Suite.X25519, pair.private)):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(secret)
