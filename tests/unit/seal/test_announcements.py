"""A client believes only what its fleet's key signed, for this fleet, for now (S1)."""

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from worker.model.rows import Suite
from worker.seal import announcements as said
from worker.seal import hpke
from worker.seal.errors import BadCertificate
from worker.seal.signatures import ES256Signer

NOW = 1_764_000_000_000
DAY = 24 * 3_600_000
FLEET = ES256Signer("fleet", generate_private_key(SECP256R1()))
WORKER_KEY = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
CERTIFICATE = said.WorkerCertificate("dev-f", said.kid_of(WORKER_KEY), WORKER_KEY, NOW, NOW + DAY)
INTAKE = said.IntakeAnnouncement(
    "dev-f", Suite.X25519, 7, hpke.generate_keypair(Suite.X25519).public, NOW, NOW + said.MAX_LIFE_MS
)
BOTH: list[said.Announcement] = [CERTIFICATE, INTAKE]
both = pytest.mark.parametrize("announcement", BOTH, ids=["certificate", "intake"])


def spoken(announcement: said.Announcement, signer: ES256Signer = FLEET) -> bytes:
    return announcement.to_json(signer.sign(announcement.payload()))


def read(announcement: said.Announcement, value: bytes, now_ms: int = NOW) -> said.Announcement:
    return type(announcement).parse(value, "dev-f", FLEET.public_key, now_ms)


@both
def test_what_the_fleet_signed_is_believed_while_it_holds(announcement: said.Announcement) -> None:
    value = spoken(announcement)
    for now_ms in (announcement.not_before_ms - said.SKEW_MS, NOW, announcement.not_after_ms):
        assert read(announcement, value, now_ms) == announcement


@both
def test_before_and_after_its_life_it_is_refused(announcement: said.Announcement) -> None:
    for now_ms in (announcement.not_before_ms - said.SKEW_MS - 1, announcement.not_after_ms + 1):
        with pytest.raises(BadCertificate):
            read(announcement, spoken(announcement), now_ms)


@both
def test_a_life_that_is_too_long_or_none_is_refused(announcement: said.Announcement) -> None:
    for not_after in (NOW + said.MAX_LIFE_MS + 1, NOW):
        with pytest.raises(BadCertificate, match="life"):
            read(announcement, spoken(replace(announcement, not_after_ms=not_after)))


@both
def test_another_fleet_or_another_fleets_key_is_refused(announcement: said.Announcement) -> None:
    with pytest.raises(BadCertificate, match="another fleet"):
        read(announcement, spoken(replace(announcement, fleet="dev-g")))
    with pytest.raises(BadCertificate, match="did not sign"):
        read(announcement, spoken(announcement, ES256Signer("x", generate_private_key(SECP256R1()))))
    with pytest.raises(BadCertificate, match="did not sign"):
        read(announcement, announcement.to_json(b""))


@both
def test_nothing_can_be_changed_under_the_signature(announcement: said.Announcement) -> None:
    body = json.loads(spoken(announcement))
    for name, value in body.items():
        changed = value + 1 if isinstance(value, int) else value + "A"
        with pytest.raises(BadCertificate):
            read(announcement, json.dumps({**body, name: changed}).encode())


def test_a_certificate_is_never_taken_for_an_intake_key() -> None:
    assert CERTIFICATE.payload()[4:26] == b"keyriver-certificate/1"
    assert INTAKE.payload()[4:21] == b"keyriver-intake/1"
    for announcement, value in ((CERTIFICATE, spoken(INTAKE)), (INTAKE, spoken(CERTIFICATE))):
        with pytest.raises(BadCertificate):
            read(announcement, value)


@both
@pytest.mark.parametrize(
    "spoil",
    [
        list,
        lambda body: {**body, "extra": 1},
        lambda body: {name: value for name, value in body.items() if name != "signature"},
        lambda body: {**body, "not_before_ms": -1},
        lambda body: {**body, "public_key": "%%%"},
    ],
)
def test_what_is_not_readable_is_refused(
    announcement: said.Announcement, spoil: Callable[[dict[str, Any]], object]
) -> None:
    with pytest.raises(BadCertificate):
        read(announcement, json.dumps(spoil(json.loads(spoken(announcement)))).encode())
    with pytest.raises(BadCertificate):
        read(announcement, b"\xff not json")


def test_a_kid_is_its_keys() -> None:
    with pytest.raises(BadCertificate, match="kid"):
        read(CERTIFICATE, spoken(replace(CERTIFICATE, kid="0" * 32)))
    with pytest.raises(BadCertificate, match="Ed25519"):
        read(CERTIFICATE, spoken(replace(CERTIFICATE, kid=said.kid_of(b"short"), public_key=b"short")))


def test_an_intake_key_is_one_of_its_suite_and_none_older_is_taken() -> None:
    with pytest.raises(BadCertificate, match="suite"):
        read(INTAKE, spoken(replace(INTAKE, suite=Suite.P256)))
    value = spoken(INTAKE)
    assert said.IntakeAnnouncement.parse(value, "dev-f", FLEET.public_key, NOW, lowest=7) == INTAKE
    with pytest.raises(BadCertificate, match="newer"):
        said.IntakeAnnouncement.parse(value, "dev-f", FLEET.public_key, NOW, lowest=8)


def test_the_records_are_named_for_compaction() -> None:
    assert CERTIFICATE.record_key == b"certificate/" + CERTIFICATE.kid.encode()
    assert INTAKE.record_key == b"intake/x25519/7"
    assert len(CERTIFICATE.kid) == 32
    assert json.loads(spoken(INTAKE))["public_key"] == b64encode(INTAKE.public_key).decode()
