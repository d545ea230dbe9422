"""`keyriver key import-parameters|import-script|import` against real services: what a customer and an officer type."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.place import DEADLINE_S, Place, placed
from tests.stack import Services
from worker.local import Token


@pytest.fixture
def fleet(stack: Services, database: str, kryoptic: Token, prefix: str, tmp_path: Path) -> Iterator[Place]:
    place = placed(tmp_path, stack.kafka, database, kryoptic, prefix)
    place.keyriver("init ann bob")
    running = place.start("run")
    try:
        place.until_ready(2)
        yield place
        running.terminate()
        assert running.wait(DEADLINE_S) == 0, place.log()
    finally:
        running.kill()
        running.wait()


def wrap(folder: Path, key: Path, fleet: Path) -> str:
    """The customer's work; what the script said last."""
    done = subprocess.run(
        ["/bin/sh", folder / "wrap.sh", folder, key, fleet], capture_output=True, text=True, check=False
    )
    return done.stdout if done.returncode == 0 else f"refused: {done.stderr}"


def test_a_key_is_brought_by_hand(fleet: Place, tmp_path: Path) -> None:
    assert "master key" in fleet.keyriver("tenant create acme --origin imported")
    assert "WITHOUT ITS MATERIAL" in fleet.keyriver("key show acme")
    folder, key = tmp_path / "acme-import", tmp_path / "acme.key"
    assert "import parameters" in fleet.keyriver(f"key import-parameters acme --out {folder}")
    assert "is there already" in fleet.keyriver(f"key import-parameters acme --out {folder}", code=2)
    assert (folder / "wrap.sh").read_text() == fleet.keyriver("key import-script")
    said = wrap(folder, key, folder / "fleet.pem")
    check = (folder / "check-value").read_text().strip()
    assert said == f"keyriver key import TENANT --parameters {folder} --check-value {check}\n"
    # Anybody else's statement, key or fleet is refused by the script before anything is wrapped
    statement = folder / "statement.txt"
    kept = statement.read_text()
    statement.write_text(kept.replace("tenant: acme", "tenant: evil"))
    assert "did not sign" in wrap(folder, key, folder / "fleet.pem")
    statement.write_text(kept)
    public = (folder / "public.der").read_bytes()
    (folder / "public.der").write_bytes(public[:-1] + b"\0")
    assert "another key" in wrap(folder, key, folder / "fleet.pem")
    (folder / "public.der").write_bytes(public)
    # A wrong check value costs one, the right one brings the key
    import_it = f"key import acme --parameters {folder} --check-value"
    assert "IMPORT_REFUSED" in fleet.keyriver(f"{import_it} {int(check, 16) ^ 1:06x}", code=1)
    assert "check_value" in fleet.keyriver(f"{import_it} nonsense", code=2)
    assert "a time with its zone" in fleet.keyriver(f"{import_it} {check} --not-after 2030-01-01T00:00:00", code=2)
    shown = fleet.keyriver(f"{import_it} {check} --not-after 2030-01-01T00:00:00+00:00")
    assert "v1  active, material until 2030-01-01T00:00:00+00:00" in shown
    assert "IMPORT_USED" in fleet.keyriver(f"{import_it} {check}", code=1)
    fleet.keyriver("key create acme/eu")
    # Its successor, and a key that the fleet made so far: that takes two officers
    second = tmp_path / "second"
    fleet.keyriver(f"key import-parameters acme --algorithm RSAES_OAEP_SHA_256 --bits 4096 --out {second}")
    wrap(second, tmp_path / "acme-2.key", folder / "fleet.pem")
    check = (second / "check-value").read_text().strip()
    shown = fleet.keyriver(f"key import acme --parameters {second} --check-value {check} --rotate")
    assert "v2  active" in shown
    fleet.keyriver("tenant create corp")
    third = tmp_path / "third"
    fleet.keyriver(f"key import-parameters corp --out {third}")
    wrap(third, tmp_path / "corp.key", folder / "fleet.pem")
    check = (third / "check-value").read_text().strip()
    over = fleet.keyriver(f"key import corp --parameters {third} --check-value {check} --rotate")
    assert "approved" in over
    taken = fleet.json("key show corp")
    assert isinstance(taken, dict)
    assert taken["origin"] == "imported"
    (tmp_path / "statement.txt").write_text("nonsense")
    assert "is no statement" in fleet.keyriver(f"key import corp --parameters {tmp_path} --check-value {check}", code=2)
