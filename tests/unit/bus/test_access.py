"""Connection settings: what does not fit is named, and secrets are not told."""

from pathlib import Path

import pytest

from worker.edges.bus.access import KafkaAccess, Mechanism, Protocol


def test_sasl_without_a_password_is_refused() -> None:
    with pytest.raises(ValueError, match="username and password"):
        KafkaAccess("b:1", Protocol.SASL_SSL, username="u")


def test_a_client_certificate_without_tls_or_without_its_key_is_refused() -> None:
    with pytest.raises(ValueError, match="cert_file"):
        KafkaAccess("b:1", cert_file=Path("c"), key_file=Path("k"))
    with pytest.raises(ValueError, match="key_file"):
        KafkaAccess("b:1", Protocol.SSL, cert_file=Path("c"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ca_file"):
        KafkaAccess("b:1", Protocol.SSL, ca_file=tmp_path / "none.pem").options()


def test_the_password_is_given_to_the_client_and_to_nobody_else() -> None:
    access = KafkaAccess("b:1", Protocol.SASL_PLAINTEXT, Mechanism.SCRAM_SHA_256, "u", "planted-password")
    assert access.options()["sasl_plain_password"] == "planted-password"
    assert access.options()["sasl_mechanism"] == "SCRAM-SHA-256"
    assert "planted-password" not in repr(access)
    assert "planted-password" not in str(access.unreachable(OSError("no")))


def test_only_a_broker_that_learns_who_we_are_over_tls_is_for_production() -> None:
    assert not KafkaAccess("b:1").is_authenticated
    assert not KafkaAccess("b:1", Protocol.SSL).is_authenticated
    assert KafkaAccess("b:1", Protocol.SSL, cert_file=Path("c"), key_file=Path("k")).is_authenticated
    assert not KafkaAccess("b:1", Protocol.SASL_PLAINTEXT, username="u", password="p").is_authenticated
    assert KafkaAccess("b:1", Protocol.SASL_SSL, username="u", password="p").is_authenticated


def test_the_likely_causes_depend_on_what_was_tried() -> None:
    plain = str(KafkaAccess("b:1").unreachable(OSError("x")))
    assert "it wants TLS there" in plain
    assert "password" not in plain
    secure = str(KafkaAccess("b:1", Protocol.SASL_SSL, username="u", password="p").unreachable(OSError("x")))
    assert "it speaks plaintext there" in secure
    assert "username or password is wrong" in secure
