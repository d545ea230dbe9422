"""A file job: cut anywhere it goes on to the same bytes, and rejects are told."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.rewrap.filejobs import KINDS, SUFFIXES, Killed, killed_after, line, pack, run, the_plan, unpack, whole
from tests.unit.rewrap.rewraps import Client, Watched, a_blob, moved
from worker.client import ItemError, Rewrapped
from worker.client.files import Counts, FileRefused, Plan, TooManyRejects
from worker.client.files.checkpoint import Checkpoint


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
    current = line("jsonl", 0, a_blob(0, 9)).replace(b'"S', b'"\\u0053')  # the same text, written another way
    lines = [current, line("jsonl", 1, b"no blob"), b"\xff\n", b"\n"]
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
