"""A file job leaves alone what is not its own, goes on only with what it began, and has its files to itself."""

import fcntl
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.rewrap.filejobs import Killed, killed_after, run, the_plan, whole
from tests.unit.rewrap.rewraps import Client, all_moved
from worker.client import ItemError, Rewrapped
from worker.client.files import Counts, FileRefused, InputChanged, format_of


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


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.part", "out.jsonl.checkpoint", "out.jsonl.checkpoint.new"])
def test_rejects_are_a_file_of_their_own(tmp_path: Path, name: str) -> None:
    plan = replace(the_plan(tmp_path), rejects=tmp_path / "x" / ".." / name)
    plan.source.write_bytes(whole("jsonl", 4, {1}))
    client = Client()
    with pytest.raises(FileRefused, match="rejects"):
        run(plan, client)
    assert not client.asked
    assert list(tmp_path.iterdir()) == [plan.source]


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


def test_a_lock_on_a_file_that_its_owner_just_finished_is_none(tmp_path: Path) -> None:
    plan = the_plan(tmp_path)
    plan.source.write_bytes(whole("jsonl", 10, set()))
    part, lock = tmp_path / "out.jsonl.part", fcntl.flock

    def late(file: int, how: int) -> None:
        part.rename(tmp_path / "finished")
        lock(file, how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fcntl.flock", late)
        with pytest.raises(FileRefused, match="another process works"):
            run(plan)
    assert (tmp_path / "finished").read_bytes() == b""
    assert set(tmp_path.iterdir()) == {plan.source, tmp_path / "finished"}


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
