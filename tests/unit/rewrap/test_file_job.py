"""A file job: cut anywhere it goes on to the same bytes; what is not its own it leaves alone; rejects are told."""

import asyncio
import fcntl
import gzip
import json
import os
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.rewrap.rewraps import QUICK, Client, Watched, a_blob, all_moved, moved
from worker.client import ItemError, Rewrapped
from worker.client.files import Counts, FileJob, FileRefused, InputChanged, Plan, TooManyRejects, format_of
from worker.client.files.checkpoint import Checkpoint

SUFFIXES = ("", ".gz", ".zst")
KINDS = ("jsonl", "csv")


class Killed(BaseException):
    """As a SIGKILL: nothing of the job runs after it but what closes its files."""


def line(kind: str, number: int, blob: bytes | None) -> bytes:
    shown = "?" if blob is None else b64encode(blob).decode()
    return (
        f'{number},{shown},"é ""{number}"""\n' if kind == "csv" else f'{{"n":{number}, "blob":"{shown}"}}\n'
    ).encode()


def whole(kind: str, many: int, bad: set[int], *, done: bool = False) -> bytes:
    """The input of so many records, or the output that it must give."""
    head = b"n,blob,note\n" if kind == "csv" else b""
    lines = []
    for number in range(many):
        if number in bad:
            lines += [] if done else [line(kind, number, None)]
        else:
            result = moved(a_blob(number))
            assert isinstance(result, Rewrapped)
            lines.append(line(kind, number, result.blob if done else a_blob(number)))
    return head + b"".join(lines)


def pack(path: Path, data: bytes) -> None:
    if path.suffix == ".gz":
        data = gzip.compress(data)
    path.write_bytes(zstandard.compress(data) if path.suffix == ".zst" else data)


def unpack(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".zst":
        return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    return data


def the_plan(folder: Path, kind: str = "jsonl", packed: tuple[str, str] = ("", "")) -> Plan:
    source, out = folder / f"in.{kind}{packed[0]}", folder / f"out.{kind}{packed[1]}"
    form = format_of(source, "blob")
    assert form is not None
    return Plan(
        source=source,
        out=out,
        rejects=folder / "rejects",
        form=form,
        fleet="dev-test",
        tenant="acme",
        bulk=QUICK,
        mark_s=0,
    )


def run(plan: Plan, client: Client | None = None, watched: Watched | None = None) -> Counts:
    return asyncio.run(FileJob(client or Client(), plan, watched or Watched()).run())


def killed_after(requests: int) -> Client:
    left = requests

    def answer(blobs: Sequence[bytes]) -> list[Rewrapped | ItemError]:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return all_moved(blobs)

    return Client(answer)


@given(
    kind=st.sampled_from(KINDS),
    packed=st.tuples(st.sampled_from(SUFFIXES), st.sampled_from(SUFFIXES)),
    many=st.integers(0, 60),
    bad=st.sets(st.integers(0, 59), max_size=8),
    kills=st.lists(st.integers(0, 6), max_size=3),
    cut=st.integers(0, 10_000),
    junk=st.binary(max_size=50),
)
@settings(max_examples=30)
def test_killed_and_cut_anywhere_it_ends_as_if_nothing_had_been(
    kind: str,
    packed: tuple[str, str],
    many: int,
    bad: set[int],
    kills: list[int],
    cut: int,
    junk: bytes,
) -> None:
    with TemporaryDirectory() as name:
        plan = the_plan(Path(name), kind, packed)
        pack(plan.source, whole(kind, many, bad))
        for requests in kills:
            if not plan.out.exists():
                with_kill(plan, requests)
                spoil(plan, cut, junk)
        counts = run(plan) if not plan.out.exists() else None
        wrong = sorted(number for number in bad if number < many)
        if counts is not None:
            assert (counts.rewrapped, counts.rejected) == (many - len(wrong), len(wrong))
        assert unpack(plan.out) == whole(kind, many, bad, done=True)
        told = [json.loads(one) for one in plan.rejects.read_bytes().splitlines()] if wrong else []
        first = 2 if kind == "csv" else 1
        assert [(one["line"], one["code"]) for one in told] == [(number + first, "MALFORMED") for number in wrong]
        assert [one["record"].encode() for one in told] == [line(kind, number, None) for number in wrong]
        left = {plan.source, plan.out, *([plan.rejects] if wrong else [])}
        assert set(Path(name).iterdir()) == left


def with_kill(plan: Plan, requests: int) -> None:
    try:
        run(plan, killed_after(requests))
    except Killed:
        assert not plan.out.exists()


def spoil(plan: Plan, cut: int, junk: bytes) -> None:
    """What lies beyond the mark may be there in part, in whole, or be anything: nothing was synced."""
    part, checkpoint = (plan.out.with_name(f"{plan.out.name}.{kind}") for kind in ("part", "checkpoint"))
    if not checkpoint.exists():
        return
    reached = Checkpoint.model_validate_json(checkpoint.read_bytes())
    for path, length in ((part, reached.output_bytes), (plan.rejects, reached.rejects_bytes)):
        data = path.read_bytes()
        path.write_bytes(data[: length + cut] + junk)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_input_without_records_gives_an_output_that_can_be_read(tmp_path: Path, suffix: str) -> None:
    plan = the_plan(tmp_path, packed=("", suffix))
    plan.source.touch()
    assert run(plan) == Counts()
    assert unpack(plan.out) == b""
    assert plan.out.exists()


def test_what_is_current_keeps_its_bytes_and_rejects_keep_theirs(tmp_path: Path) -> None:
    plan = the_plan(tmp_path)
    lines = [line("jsonl", 0, a_blob(0, 9)), line("jsonl", 1, b"no blob"), b"\xff\n", b"\n"]
    plan.source.write_bytes(b"".join(lines))
    assert run(plan) == Counts(unchanged=1, rejected=2, copied=1)
    assert plan.out.read_bytes() == lines[0] + lines[3]
    first, second = (json.loads(one) for one in plan.rejects.read_bytes().splitlines())
    assert (first["line"], first["code"], first["record"].encode()) == (2, "UNWRAP_FAILED", lines[1])
    assert (second["line"], second["code"], second["record_latin1"]) == (3, "MALFORMED", "ÿ\n")


def test_it_goes_on_from_its_mark_and_says_so(tmp_path: Path) -> None:
    plan = the_plan(tmp_path)
    plan.source.write_bytes(whole("jsonl", 100, set()))
    with pytest.raises(Killed):
        run(plan, killed_after(6))
    client, watched = Client(), Watched()
    run(plan, client, watched)
    ((total, before),) = watched.begins
    assert total == plan.source.stat().st_size
    assert 0 < before.records < 100
    assert before.records + sum(client.asked) == 100
    assert watched.moves[-1] == (total, Counts(rewrapped=100))


def test_another_input_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    plan = the_plan(tmp_path)
    plan.source.write_bytes(whole("jsonl", 100, set()))
    with pytest.raises(Killed):
        run(plan, killed_after(6))
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    about = plan.source.stat()
    plan.source.write_bytes(files[plan.source].replace(b'"n":1,', b'"n":7,'))
    os.utime(plan.source, ns=(about.st_atime_ns, about.st_mtime_ns))  # only its head tells
    with pytest.raises(InputChanged):
        run(plan)
    plan.source.write_bytes(files[plan.source])
    with pytest.raises(InputChanged):  # only its time tells
        run(plan)
    os.utime(plan.source, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files
    assert run(plan).rewrapped == 100


@pytest.mark.parametrize("change", ["to", "tenant", "rejects", "column"])
def test_another_task_is_refused(tmp_path: Path, change: str) -> None:
    plan = the_plan(tmp_path)
    plan.source.write_bytes(whole("jsonl", 100, set()))
    with pytest.raises(Killed):
        run(plan, killed_after(6))
    form = format_of(plan.source, "other")
    assert form is not None
    others = {
        "to": replace(plan, bulk=replace(plan.bulk, to="acme/x")),
        "tenant": replace(plan, tenant="globex"),
        "rejects": replace(plan, rejects=tmp_path / "elsewhere"),
        "column": replace(plan, form=form),
    }
    with pytest.raises(FileRefused, match="begun with another"):
        run(others[change])
    assert run(plan).rewrapped == 100


def test_an_input_that_changes_under_way_ends_the_job(tmp_path: Path) -> None:
    plan = the_plan(tmp_path)
    plan.source.write_bytes(whole("jsonl", 100, set()))

    def answer(blobs: Sequence[bytes]) -> list[Rewrapped | ItemError]:
        with plan.source.open("ab") as file:
            file.write(b"\n")
        return all_moved(blobs)

    with pytest.raises(InputChanged, match="while it was read"):
        run(plan, Client(answer))
    assert not plan.out.exists()


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.part", "rejects"])
def test_what_is_not_its_own_is_not_touched(tmp_path: Path, name: str) -> None:
    plan = the_plan(tmp_path)
    plan.source.write_bytes(whole("jsonl", 10, set()))
    (tmp_path / name).write_bytes(b"somebody's")
    with pytest.raises(FileRefused, match=name):
        run(plan)
    assert (tmp_path / name).read_bytes() == b"somebody's"
    assert set(tmp_path.iterdir()) == {plan.source, tmp_path / name}


def test_an_output_that_appears_under_way_is_not_touched(tmp_path: Path) -> None:
    plan = the_plan(tmp_path)
    plan.source.write_bytes(whole("jsonl", 10, set()))

    def answer(blobs: Sequence[bytes]) -> list[Rewrapped | ItemError]:
        plan.out.write_bytes(b"somebody's")
        return all_moved(blobs)

    with pytest.raises(FileRefused, match="appeared meanwhile"):
        run(plan, Client(answer))
    assert plan.out.read_bytes() == b"somebody's"
    plan.out.unlink()
    client = Client()
    assert run(plan, client).rewrapped == 10
    assert client.asked == []  # it was finished but for the name


def test_one_process_at_a_time(tmp_path: Path) -> None:
    plan = the_plan(tmp_path)
    plan.source.write_bytes(whole("jsonl", 10, set()))
    with (tmp_path / "out.jsonl.part").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(FileRefused, match="another process works"):
            run(plan)
    assert run(plan).rewrapped == 10


@pytest.mark.parametrize("died", ["before the name", "after the name"])
def test_death_around_the_end_is_no_failure(tmp_path: Path, died: str) -> None:
    plan = the_plan(tmp_path)
    plan.source.write_bytes(whole("jsonl", 10, {3}))
    run(plan)
    finished = plan.out.read_bytes()
    # Its checkpoint as it was before the last steps
    again = the_plan(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    copy = replace(again, out=other / "out.jsonl", rejects=other / "rejects")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.client.files.unfinished.Unfinished.finish", lambda _: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            run(copy)
    if died == "after the name":
        (other / "out.jsonl.part").rename(copy.out)
    client = Client()
    assert run(copy, client) == Counts(rewrapped=9, rejected=1)
    assert client.asked == []
    assert copy.out.read_bytes() == finished
    assert {path.name for path in other.iterdir()} == {"out.jsonl", "rejects"}


def test_many_rejects_in_a_row_end_it_and_are_not_booked(tmp_path: Path) -> None:
    plan = replace(the_plan(tmp_path), most_in_a_row=25)
    plan.source.write_bytes(whole("jsonl", 100, set()))
    disabled = ItemError("KEY_DISABLED", "The key is disabled.", retry=False)

    def answer(blobs: Sequence[bytes]) -> list[Rewrapped | ItemError]:
        return [disabled if one[56] >= 30 else moved(one) for one in blobs]

    with pytest.raises(TooManyRejects, match="KEY_DISABLED"):
        run(plan, Client(answer))
    # Enabled again, the same job ends without a reject
    assert run(plan) == Counts(rewrapped=100)
    assert plan.out.read_bytes() == whole("jsonl", 100, set(), done=True)
    assert not plan.rejects.exists()


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_broken_archive_is_told(tmp_path: Path, suffix: str) -> None:
    plan = the_plan(tmp_path, packed=(suffix, ""))
    pack(plan.source, whole("jsonl", 300, set()))
    data = plan.source.read_bytes()
    for broken in (data[:-1], data[: len(data) // 2], b"no archive" + data):
        plan.source.write_bytes(broken)
        with pytest.raises(FileRefused, match="cut short or broken"):
            run(plan)
        for path in set(tmp_path.iterdir()) - {plan.source}:
            path.unlink()


@pytest.mark.parametrize("spoilt", ["checkpoint", "part", "rejects"])
def test_files_of_its_own_that_somebody_changed_are_told(tmp_path: Path, spoilt: str) -> None:
    plan = the_plan(tmp_path)
    plan.source.write_bytes(whole("jsonl", 100, {1}))
    with pytest.raises(Killed):
        run(plan, killed_after(6))
    if spoilt == "checkpoint":
        (tmp_path / "out.jsonl.checkpoint").write_text("{}")
    elif spoilt == "part":
        (tmp_path / "out.jsonl.part").write_bytes(b"")
    else:
        plan.rejects.unlink()
    with pytest.raises(FileRefused, match=spoilt):
        run(plan)


def test_a_missing_input_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="No such file"):
        run(the_plan(tmp_path))
