"""A settings file in a folder of the test's own; no service is behind it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Configure = Callable[..., Path]
SECRET = "secret-giraffe-4711"


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Write a TOML file with these settings over good ones, and name it in KEYRIVER_CONFIG."""
    for name in ("dsn", "pin", "module"):
        (tmp_path / name).write_text(f"postgresql://keyriver:{SECRET}@127.0.0.1:1/x" if name == "dsn" else SECRET)
        (tmp_path / name).chmod(0o400)

    def write(**told: object) -> Path:
        good = {
            "fleet": "dev-test",
            "kafka_bootstrap": "127.0.0.1:1",
            "postgres_dsn_file": str(tmp_path / "dsn"),
            "hsm_module": str(tmp_path / "module"),
            "hsm_label": "keyriver",
            "hsm_pin_file": str(tmp_path / "pin"),
            "identities": str(tmp_path / "identities"),
        }
        path = tmp_path / "keyriver.toml"
        lines = (f"{name} = {json.dumps(value)}\n" for name, value in (good | told).items() if value is not None)
        path.write_text("".join(lines))
        monkeypatch.setenv("KEYRIVER_CONFIG", str(path))
        return path

    return write
