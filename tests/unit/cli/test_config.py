"""Wrong settings are named, and never shown."""

from pathlib import Path

import pytest

from tests.unit.cli.conftest import SECRET, Configure
from worker.cli.config import BadSettings, load
from worker.settings import Reach, Settings


def test_an_officers_machine_needs_no_token_and_no_database(configure: Configure) -> None:
    configure(hsm_module=None, hsm_pin_file=None, postgres_dsn_file=None)
    assert load(Reach).kafka_bootstrap == "127.0.0.1:1"
    with pytest.raises(BadSettings, match="postgres_dsn_file: Field required"):
        load(Settings)


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"kafka_partitions": 0}, "kafka_partitions"),
        ({"hsm_label": ""}, "hsm_label or hsm_serial"),
        ({"hsm_pin_file": "/nowhere"}, "hsm_pin_file: there is no file"),
        ({"hsm_pim_file": SECRET}, "hsm_pim_file"),
        ({"fleet": "prod"}, "kafka_protocol: a production fleet needs"),
        ({"fleet": "prod", "kafka_protocol": "SSL"}, "kafka_protocol: a production fleet needs"),
        ({"fleet": "prod", "kafka_protocol": "SASL_SSL"}, "postgres_dsn_file: a production fleet needs sslmode"),
        ({"fleet": "prod", "failpoints": "x"}, "failpoints"),
    ],
)
def test_each_fault_has_its_settings_name(configure: Configure, told: dict[str, object], named: str) -> None:
    configure(**told)
    with pytest.raises(BadSettings, match=named) as caught:
        load(Settings)
    assert SECRET not in str(caught.value)


def test_in_production_the_pin_file_is_read_only(configure: Configure, tmp_path: Path) -> None:
    dsn = tmp_path / "verified"
    dsn.write_text(f"postgresql://keyriver:{SECRET}@db/x?sslmode=verify-full")
    configure(fleet="prod", kafka_protocol="SASL_SSL", postgres_dsn_file=str(dsn))
    assert not load(Settings).is_development
    (tmp_path / "pin").chmod(0o600)
    with pytest.raises(BadSettings, match="hsm_pin_file: its mode must be 0400"):
        load(Settings)


def test_the_environment_is_over_the_file(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    configure()
    monkeypatch.setenv("KEYRIVER_FLEET", "dev-other")
    assert load(Settings).fleet == "dev-other"


def test_a_missing_or_broken_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYRIVER_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(BadSettings, match="there is no file"):
        load(Settings)
    (tmp_path / "none.toml").write_text("fleet = ")
    with pytest.raises(BadSettings, match="not TOML"):
        load(Settings)
