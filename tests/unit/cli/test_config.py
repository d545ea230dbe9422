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
        ({"ledger_window_days": 7}, "ledger_window_days"),
        ({"keystore_credentials": "/nowhere"}, "keystore_credentials: there is no folder"),
        ({"keystore_endpoints": ["http://kms.acme.example"]}, "keystore_endpoints"),
        ({"keystore_endpoints": ["https://kms.acme.example/"]}, "keystore_endpoints"),
        ({"keystore_timeout_ms": 0}, "keystore_timeout_ms"),
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


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        (f"postgresql://u:{SECRET}@h/d?sslmode=disable&application_name=sslmode=verify-full", "needs sslmode"),
        (f"postgresql://u:{SECRET}@h/d?sslmode=verify-full&sslmode=disable", "needs sslmode"),
        (f"postgresql://u:{SECRET}@h/sslmode=verify-full", "needs sslmode"),
        (f"postgresql://u:{SECRET}@h/d?sslmode=disable#sslmode=verify-full", "needs sslmode"),
        (f"host=h password={SECRET} sslmode=verify-full", "of the form postgresql://"),
        (f"postgresql://u:{SECRET}@h/d?sslmode=verify-full&{SECRET}", "can't be read"),
    ],
)
def test_production_reads_the_address_of_postgres_as_the_driver_does(
    configure: Configure, tmp_path: Path, dsn: str, said: str
) -> None:
    file = tmp_path / "elsewhere"
    file.write_text(dsn)
    configure(fleet="prod", kafka_protocol="SASL_SSL", postgres_dsn_file=str(file))
    with pytest.raises(BadSettings, match=f"postgres_dsn_file: .*{said}") as caught:
        load(Settings)
    assert SECRET not in str(caught.value)


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


def test_modules_of_customers_exist(configure: Configure, tmp_path: Path) -> None:
    path = configure()
    path.write_text(path.read_text() + f'[keystore_modules]\nluna = "{tmp_path / "module"}"\nother = "/nowhere"\n')
    with pytest.raises(BadSettings, match="keystore_modules: there is no file /nowhere"):
        load(Settings)
