"""`keyriver rewrap` as far as it needs no fleet: the census, what it refuses, and what it tells of its pace."""

import json
from base64 import b64encode
from pathlib import Path
from uuid import UUID

import pytest

from tests.unit.cli.conftest import Configure
from tests.unit.rewrap.rewraps import a_blob
from worker.chain import blob
from worker.cli import obey
from worker.cli.pace import Bar, Meter, Ticker
from worker.client.files import Counts

OTHER = UUID("018f0000-0000-7000-8000-000000000002")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three blobs of one key, one of another, one that is none, one line that is none."""
    other = blob.header(OTHER, 7, UUID(int=0)) + bytes(40)
    blobs = [a_blob(1), a_blob(2, 2), a_blob(3), other, b"no blob"]
    path = tmp_path / "in.csv"
    path.write_text("id;blob\n" + "".join(f"x;{b64encode(one).decode()}\n" for one in blobs) + "x;?\n")
    return path


def test_a_dry_run_counts_by_key_and_version_and_needs_nothing(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYRIVER_CONFIG", "/nowhere")
    before = set(source.parent.iterdir())
    assert obey(["rewrap", "--in", str(source), "--delimiter", ";", "--dry-run", "--json"]) == 4
    assert json.loads(capsys.readouterr().out) == {
        "versions": [
            {"key": "018f0000-0000-7000-8000-000000000001", "version": 1, "blobs": 2},
            {"key": "018f0000-0000-7000-8000-000000000001", "version": 2, "blobs": 1},
            {"key": str(OTHER), "version": 7, "blobs": 1},
        ],
        "faults": {"the bytes are no blob of a known format": 1, "the blob is not base64": 1},
        "first_fault": 6,
    }
    assert obey(["rewrap", "--in", str(source), "--delimiter", ";", "--dry-run"]) == 4
    told = capsys.readouterr()
    assert [line.split() for line in told.out.splitlines()][1] == ["018f0000-0000-7000-8000-000000000001", "1", "2"]
    assert "the first of these in line 6" in told.err
    assert set(source.parent.iterdir()) == before


def test_a_file_without_faults_counts_to_a_good_end(tmp_path: Path) -> None:
    path = tmp_path / "blobs"
    path.write_text(json.dumps({"key": b64encode(a_blob(1)).decode()}))
    assert obey(["rewrap", "--in", str(path), "--format", "jsonl", "--column", "key", "--dry-run"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--out"),
        (["--out", "{}/out.csv"], "--as"),
        (["--out", "{}/out.jsonl", "--as", "{}/a.json"], "--out"),
        (["--out", "{}/out.csv", "--as", "{}/a.json", "--in-flight", "0"], "--in-flight"),
        (["--delimiter", "ab", "--dry-run"], "--delimiter"),
        (["--delimiter", '"', "--dry-run"], "--delimiter"),
    ],
)
def test_what_the_command_line_lacks_is_told(
    source: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert obey(["rewrap", "--in", str(source), *(word.format(source.parent) for word in words)]) == 2
    assert said in capsys.readouterr().err


def test_a_name_that_tells_no_format_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert obey(["rewrap", "--in", str(tmp_path / "blobs"), "--dry-run"]) == 2
    assert "--format" in capsys.readouterr().err


def test_an_unknown_column_and_a_missing_file_are_plain_sentences(
    source: Path, capsys: pytest.CaptureFixture[str], configure: Configure
) -> None:
    assert obey(["rewrap", "--in", str(source), "--dry-run", "--column", "wrapped"]) == 1
    assert "the column wrapped is not in the heading" in capsys.readouterr().err
    assert obey(["rewrap", "--in", str(source.with_name("gone.csv")), "--dry-run"]) == 1
    assert "No such file" in capsys.readouterr().err


def test_the_pace_is_this_runs_own() -> None:
    meter = Meter()
    meter.begin(1000, Counts(rewrapped=500))
    meter.move(500, Counts(rewrapped=500))
    assert ", about " not in meter.sentence()  # nothing is known yet
    meter.move(750, Counts(rewrapped=740, rejected=10))
    assert ", about 0:00 left" in meter.sentence()
    assert meter.rate > 0
    assert meter.sentence().startswith("750 records (75%), ")
    assert meter.sentence().endswith("10 rejected")


def test_without_a_terminal_there_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Ticker(every_s=0) as ticker:
        ticker.began(1000, Counts(rewrapped=5))
        ticker.moved(500, Counts(rewrapped=10))
        ticker.waits("THROTTLED: later")
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "going on after 5 records"
    assert told[1].startswith("10 records (50%), ")
    assert told[2] == "waiting: THROTTLED: later"


def test_a_bar_shows_rate_and_rejects(capsys: pytest.CaptureFixture[str]) -> None:
    assert not Bar.fits()
    with Bar() as bar:
        bar.began(1000, Counts())
        bar.waits("[red]THROTTLED")
        bar.moved(500, Counts(rewrapped=8, rejected=2))
    told = capsys.readouterr().err
    assert "10 records" in told
    assert "2 rejected" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "topic:b", "--dry-run"], "--dry-run: only of files"),
        (["--out", "b.jsonl"], "a topic goes to a topic"),
        (["--out", "topic:b", "--rejects", "b.jsonl"], "a topic goes to a topic"),
        (["--out", "topic:b", "--format", "csv"], "jsonl or raw"),
        (["--out", "topic:b"], "--as"),
    ],
)
def test_a_topic_goes_to_a_topic(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert obey(["rewrap", "--in", "topic:a", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_file_goes_to_a_file(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--out", "topic:b"], ["--out", f"{source}.out.csv", "--rejects", "topic:b"], ["--format", "raw"]):
        assert obey(["rewrap", "--in", str(source), *words]) == 2
        assert capsys.readouterr().err
