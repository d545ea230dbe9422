"""The settings file of the one-machine stack: what every other command needs, secrets apart and closed."""

import stat
from pathlib import Path

import pytest

from worker.cli.config import load
from worker.cli.local import adjacent, write_config
from worker.local import Stack
from worker.settings import Settings


def test_it_is_enough_for_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(tmp_path)
    stack.token.folder.mkdir(parents=True)
    for folder in ("kafka", "postgres"):
        (tmp_path / folder).mkdir()
    stack.token.pin_file.write_text("1234")
    path = write_config(stack)
    monkeypatch.setenv("KEYRIVER_CONFIG", str(path))
    settings = load(Settings)
    assert settings.is_development
    assert settings.kafka_bootstrap == stack.kafka.bootstrap
    assert settings.postgres_dsn() == stack.postgres.dsn()
    assert settings.hsm_env == dict(stack.token.env)
    assert settings.identities == tmp_path / "identities"
    assert stat.S_IMODE(settings.postgres_dsn_file.stat().st_mode) == 0o400
    assert stack.postgres.dsn() not in path.read_text()


def test_written_again_it_keeps_its_port(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    for folder in ("kafka", "postgres", "token"):
        (tmp_path / folder).mkdir()
    first = write_config(stack).read_text()
    assert write_config(stack).read_text() == first


def test_ports_in_a_row_leave_the_systems_range_alone() -> None:
    assert 20_000 <= adjacent(8) < 30_000
