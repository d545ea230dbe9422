"""Identity files: their owner's alone, whole or not there, never over another."""

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from worker.cli import identities
from worker.cli.errors import Refused
from worker.client import BadIdentityFile, load_identity
from worker.model.rows import FLEET_TENANT, Algorithm, Suite
from worker.seal.hpke import generate_keypair
from worker.seal.identity import Identity, generate_private_key_pem
from worker.seal.signatures import ES256Signer


def identity(name: str, tenant: str = FLEET_TENANT) -> Identity:
    return Identity(
        client=name,
        tenant=tenant,
        fleet="dev-test",
        fleet_key=ES256Signer("fleet", generate_private_key(SECP256R1())).public_key,
        algorithm=Algorithm.ED25519,
        private_key=generate_private_key_pem(Algorithm.ED25519),
        recipient=generate_keypair(Suite.X25519),
        reply_topic="keyriver.replies.v1",
    )


def test_what_is_written_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    path = identities.path_of(tmp_path / "new" / "folder", "ann")
    written = identity("ann")
    identities.write(path, written)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_identity(path) == written
    assert [each.name for each in path.parent.iterdir()] == ["ann.json"]


def test_an_identity_is_never_overwritten(tmp_path: Path) -> None:
    path = identities.path_of(tmp_path, "ann")
    first = identity("ann")
    identities.write(path, first)
    with pytest.raises(Refused, match="is there already"):
        identities.write(path, identity("ann"))
    assert load_identity(path) == first
    assert [each.name for each in tmp_path.iterdir()] == ["ann.json"]


def test_the_first_officer_signs_if_none_is_named(tmp_path: Path) -> None:
    for age, (name, tenant) in enumerate([("a-service", "acme"), ("zoe", FLEET_TENANT), ("ann", FLEET_TENANT)]):
        identities.write(identities.path_of(tmp_path, name), identity(name, tenant))
        os.utime(identities.path_of(tmp_path, name), (1000 + age, 1000 + age))
    assert identities.officer(None, tmp_path).client == "zoe"
    assert identities.officer(identities.path_of(tmp_path, "ann"), tmp_path).client == "ann"


def test_without_an_officer_the_cure_is_named(tmp_path: Path) -> None:
    identities.write(identities.path_of(tmp_path, "billing"), identity("billing", "acme"))
    with pytest.raises(Refused, match="--as FILE or KEYRIVER_IDENTITY, or run `keyriver init`"):
        identities.officer(None, tmp_path)


def test_a_file_that_others_may_read_is_refused_when_named(tmp_path: Path) -> None:
    path = identities.path_of(tmp_path, "ann")
    identities.write(path, identity("ann"))
    path.chmod(0o644)
    with pytest.raises(BadIdentityFile, match="0644"):
        identities.officer(path, tmp_path)
