"""Ports are chosen once, remembered, and chosen anew only when somebody else sits on them."""

import socket
from pathlib import Path

from worker.local.ports import forget_taken, free, remembered

NAMES = ("broker", "controller")


def test_the_same_ports_come_back(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    first = remembered(file, NAMES)
    assert remembered(file, NAMES) == first
    assert first["broker"] != first["controller"]


def test_a_name_that_is_new_gets_a_port_and_the_old_one_stays(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    old = remembered(file, ("broker",))
    assert remembered(file, NAMES)["broker"] == old["broker"]


def test_two_checkouts_get_different_ports(tmp_path: Path) -> None:
    here, there = (set(remembered(tmp_path / name, NAMES).values()) for name in ("here", "there"))
    assert not here & there


def test_a_port_that_somebody_took_is_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    before = remembered(file, NAMES)
    with socket.socket() as other:
        other.bind(("127.0.0.1", before["broker"]))
        other.listen()
        forget_taken(file)
        after = remembered(file, NAMES)
    assert after["broker"] != before["broker"]
    assert after["controller"] == before["controller"]


def test_free_ports_are_distinct() -> None:
    assert len(set(free(20))) == 20
