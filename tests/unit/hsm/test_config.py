"""Settings are refused by name, and the PIN shows nowhere."""

import copy
import pickle
from pathlib import Path

import pytest

from worker.edges.hsm import HsmConfig, Pin

GOOD = {"module": Path("m.so"), "fleet": "dev-x", "pin": Pin("1234-secret"), "label": "t"}


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("label", "", "label or serial"),
        ("sessions", 0, "sessions"),
        ("sessions", 65, "sessions"),
        ("handles", 1, "handles"),
        ("handle_age_s", 0, "handle_age_s"),
        ("start_timeout_s", -1, "start_timeout_s"),
    ],
)
def test_a_wrong_setting_is_named(setting: str, value: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        HsmConfig(**GOOD | {setting: value})  # type: ignore[arg-type]


def test_a_serial_names_a_token_too() -> None:
    assert HsmConfig(**GOOD | {"label": "", "serial": "77"}).serial == "77"  # type: ignore[arg-type]


def test_the_river_waits_for_the_fleets_keys_no_longer_than_for_an_item() -> None:
    """DELIVERY D4: one second at most."""
    assert HsmConfig(**GOOD).fleet_timeout_s <= 1.0  # type: ignore[arg-type]


def test_the_pin_shows_nowhere() -> None:
    config = HsmConfig(**GOOD)  # type: ignore[arg-type]
    assert config.pin.reveal() == b"1234-secret"
    assert "secret" not in f"{config!r} {config} {config.pin} {config.pin!r}"
    for copying in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="PIN"):
            copying(config)
