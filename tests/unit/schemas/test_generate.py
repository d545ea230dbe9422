"""The check says what differs and what would break somebody; nothing incompatible can be frozen."""

import json
import shutil
from pathlib import Path

import pytest

from schemas import generate


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the committed contract that may be spoilt."""
    root = tmp_path / "schemas"
    shutil.copytree(generate.ROOT, root, ignore=shutil.ignore_patterns("spring", "*.py", "__pycache__"))
    monkeypatch.setattr(generate, "ROOT", root)
    monkeypatch.setattr(generate, "BASELINE", root / "baseline.json")
    return root


def test_a_clean_copy_passes(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("path", ["asyncapi.json", "codes.json", "messages/keyriver.wrap.v1.json"])
def test_a_file_that_is_not_the_codes_is_named_and_mended(
    copied: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / path).write_text("{}")
    assert generate.main(["--check"]) == 1
    assert path in capsys.readouterr().out
    assert generate.main([]) == 0


def test_a_missing_and_a_left_over_file_are_named(copied: Path) -> None:
    (copied / "examples" / "keyriver.wrap.v1.json").rename(copied / "examples" / "keyriver.gone.v1.json")
    assert len(generate.problems()) == 2


def test_what_would_break_somebody_fails_and_is_not_frozen(copied: Path) -> None:
    baseline = copied / "baseline.json"
    released = json.loads(baseline.read_text())
    released["codes"]["OLDER"] = released["codes"]["STALE"]
    baseline.write_text(json.dumps(released))
    assert generate.main(["--check"]) == 1
    assert generate.main(["--freeze"]) == 1
    assert "OLDER" in baseline.read_text()


def test_what_only_adds_is_frozen(copied: Path) -> None:
    baseline = copied / "baseline.json"
    released = json.loads(baseline.read_text())
    del released["codes"]["STALE"]
    baseline.write_text(json.dumps(released))
    assert generate.main(["--freeze"]) == 0
    assert "STALE" in baseline.read_text()
