"""A data team rewraps a file of wrapped DEKs that it keeps itself: killed three times, with bad lines in it."""

import asyncio
import csv
import gzip
import io
import json
import os
import signal
import subprocess
import time
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fleet import Fleet
from tests.processes import POLL_S, until
from tests.stories.data_team import Heap, Team, a_heap, are_the_same, tampered, text
from worker.chain import blob
from worker.cli.identities import write
from worker.client import Rewrapped, WrappedDek, rewrap_all
from worker.model.control import KeyCompromiseBody
from worker.model.operations import Operation, Permission
from worker.model.policies import GrantGiveBody

KILLS = (0.1, 0.4, 0.7)


@pytest.fixture(scope="module")
async def heap(fleet: Fleet) -> Heap:
    return await a_heap(fleet, 20_000)


@dataclass(frozen=True)
class Sheet:
    """The team's file: one blob a line, and ten bad lines: unreadable, changed, and another tenant's."""

    heap: Heap
    foreign: bytes

    @property
    def bad(self) -> dict[int, int]:
        many = len(self.heap.blobs)
        return {many * place // 11 + place: place for place in range(10)}

    def line(self, number: int, wrapped: bytes) -> str:
        whole = {"row": number, "wrapped": text(wrapped), "note": "größer", "n": 1.50}
        return json.dumps(whole, ensure_ascii=False) + "\n"

    def bad_line(self, number: int) -> str:
        return (
            "no JSON\n",
            json.dumps({"row": number}) + "\n",
            json.dumps({"row": number, "wrapped": "%%%"}) + "\n",
            self.line(number, tampered(self.heap.blobs[number])),
            self.line(number, self.foreign),
        )[self.bad[number] % 5]

    def write(self, path: Path) -> int:
        """Make the file; its length in bytes."""
        bad = self.bad
        with path.open("w") as file:
            file.writelines(
                self.bad_line(number) if number in bad else self.line(number, raw)
                for number, raw in enumerate(self.heap.blobs)
            )
        return path.stat().st_size

    async def check(self, path: Path, sample: int) -> None:
        """It is complete, in order, no line twice, only the blobs are others; every `sample`-th is the same DEK."""
        bad, picked, moved = self.bad, [], []
        good = [number for number in range(len(self.heap.blobs)) if number not in bad]
        with path.open() as file:
            for place, (number, found) in enumerate(zip(good, file, strict=True)):
                now = b64decode(json.loads(found)["wrapped"])
                assert found == self.line(number, now)
                assert now != self.heap.blobs[number]
                if place % sample == 0:
                    picked.append(number)
                    moved.append(now)
        await are_the_same(self.heap.house, moved, picked, [self.heap.deks[number] for number in picked])


async def _killed_thrice(fleet: Fleet, heap: Heap, folder: Path, sample: int) -> None:
    # Given a file of blobs with ten bad lines
    stranger = await fleet.tenant()
    (foreign,) = await stranger.client.generate(stranger.key, store=False)
    assert isinstance(foreign, WrappedDek)
    sheet = Sheet(heap, foreign.blob or b"")
    total = sheet.write(folder / "deks.jsonl")
    # When the job is killed three times and started again each time
    team = Team(fleet, heap.house, folder)
    more = ("--column", "wrapped", "--in-flight", "2")
    for share in KILLS:
        await team.killed("deks.jsonl", "moved.jsonl", int(total * share), *more)
    done = await team.run("deks.jsonl", "moved.jsonl", *more, "--json")
    # Then it ends, and says by its exit code that there are rejects
    assert done.returncode == 4, done.stderr
    summary, rejects = json.loads(done.stdout), "moved.jsonl.rejects.jsonl"
    assert [summary[name] for name in ("rewrapped", "unchanged", "rejected")] == [len(heap.blobs) - 10, 0, 10]
    assert {path.name for path in folder.iterdir()} == {"archive.json", "deks.jsonl", "moved.jsonl", rejects}
    # The output is as it has to be
    await sheet.check(folder / "moved.jsonl", sample)
    # The rejects are the ten, each with its line, its code and its text
    told = [json.loads(one) for one in (folder / rejects).read_text().splitlines()]
    assert [(one["line"], one["record"]) for one in told] == [(n + 1, sheet.bad_line(n)) for n in sorted(sheet.bad)]
    codes = ["MALFORMED", "MALFORMED", "MALFORMED", "UNWRAP_FAILED", "NOT_FOUND"]
    assert [one["code"] for one in told] == codes * 2


async def test_a_job_killed_three_times_is_complete(fleet: Fleet, heap: Heap, tmp_path: Path) -> None:
    await _killed_thrice(fleet, heap, tmp_path, sample=1)


@pytest.mark.storm
@pytest.mark.timeout(3600)
async def test_a_million_lines(fleet: Fleet, tmp_path: Path) -> None:
    await _killed_thrice(fleet, await a_heap(fleet, 1_000_000), tmp_path, sample=50)


async def test_a_packed_table_is_killed_too_and_keeps_its_other_columns(
    fleet: Fleet, heap: Heap, tmp_path: Path
) -> None:
    # Given a CSV with quotes and line ends in its other columns, packed
    blobs = heap.blobs[:5000]
    made = io.StringIO(newline="")
    table = csv.writer(made)
    table.writerow(["row", "blob", "who said"])
    table.writerows([number, text(raw), f'"{number}",\nhe said'] for number, raw in enumerate(blobs))
    data = made.getvalue().encode()
    (tmp_path / "deks.csv.gz").write_bytes(gzip.compress(data))
    # When it is rewrapped to a packed table, killed on the way
    team = Team(fleet, heap.house, tmp_path)
    await team.killed("deks.csv.gz", "moved.csv.gz", 1000, "--in-flight", "1")
    done = await team.run("deks.csv.gz", "moved.csv.gz")
    assert done.returncode == 0, done.stderr
    # Then any program reads it, and only the blobs are others
    with gzip.open(tmp_path / "moved.csv.gz", "rt", newline="") as file:
        heading, *rows = csv.reader(file)
    assert heading == ["row", "blob", "who said"]
    assert [(row[0], row[2]) for row in rows] == [(str(n), f'"{n}",\nhe said') for n in range(len(blobs))]
    moved = [b64decode(row[1]) for row in rows]
    await are_the_same(heap.house, moved, range(len(moved)), heap.deks[: len(moved)])
    assert not (tmp_path / "moved.csv.gz.rejects.jsonl").exists()
    # And done again it changes nothing: all are current
    again = await team.run("moved.csv.gz", "again.csv.zst", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["unchanged"] == len(blobs)


async def test_a_job_goes_on_with_what_it_began_and_nothing_else(fleet: Fleet, heap: Heap, tmp_path: Path) -> None:
    # Given a job that was killed
    lines = [json.dumps({"blob": text(raw)}) + "\n" for raw in heap.blobs[:5000]]
    source = tmp_path / "deks.jsonl"
    source.write_text("".join(lines))
    team = Team(fleet, heap.house, tmp_path)
    await team.killed("deks.jsonl", "moved.jsonl", 1000, "--in-flight", "1")
    # When its input was changed, Then going on is refused
    before = source.stat()
    source.write_text("".join([*lines, lines[0]]))
    refused = await team.run("deks.jsonl", "moved.jsonl")
    assert refused.returncode == 1
    assert "the input changed" in refused.stderr
    # With another target, too
    source.write_text("".join(lines))
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    refused = await team.run("deks.jsonl", "moved.jsonl", "--to", heap.house.key)
    assert refused.returncode == 1
    assert "another to" in refused.stderr
    # And as it was it ends
    assert (await team.run("deks.jsonl", "moved.jsonl")).returncode == 0
    # A finished output is not written over
    refused = await team.run("deks.jsonl", "moved.jsonl")
    assert refused.returncode == 1
    assert "is there already" in refused.stderr


async def test_two_processes_do_not_share_a_job(fleet: Fleet, heap: Heap, tmp_path: Path) -> None:
    # Given a job that is frozen in the middle
    (tmp_path / "deks.jsonl").write_text("".join(json.dumps({"blob": text(raw)}) + "\n" for raw in heap.blobs[:5000]))
    team = Team(fleet, heap.house, tmp_path)
    first = team.doomed(signal.SIGSTOP, "deks.jsonl", "moved.jsonl", 1000, "--in-flight", "1")
    try:
        stopped = os.WSTOPPED | os.WNOWAIT | os.WNOHANG
        await until(lambda: os.waitid(os.P_PID, first.pid, stopped) is not None, "it stands still")
        # When another takes it up, Then it is refused, and the first one ends well
        second = await team.run("deks.jsonl", "moved.jsonl")
        assert second.returncode == 1
        assert "another process works" in second.stderr
    finally:
        await _goes_on(first)
    assert len((tmp_path / "moved.jsonl").read_text().splitlines()) == 5000


async def _goes_on(stopped: "subprocess.Popen[bytes]") -> None:
    """It stops itself at each step from there on; let it go on until its end, which is a good one."""
    ending = asyncio.create_task(asyncio.to_thread(stopped.communicate))
    while not ending.done():
        stopped.send_signal(signal.SIGCONT)
        await asyncio.wait([ending], timeout=POLL_S)
    assert stopped.returncode == 0


async def test_a_dry_run_tells_what_there_is_to_do(fleet: Fleet, heap: Heap, tmp_path: Path) -> None:
    # Given a file in which half of the blobs are moved already
    half = heap.blobs[:500]
    moved = [one async for one in rewrap_all(heap.house.client, half)]
    blobs = heap.blobs[500:1000] + [one.blob or b"" for one in moved if isinstance(one, Rewrapped)]
    (tmp_path / "deks.jsonl").write_text("".join(json.dumps({"blob": text(raw)}) + "\n" for raw in blobs))
    team = Team(fleet, heap.house, tmp_path)
    files = set(tmp_path.iterdir())
    began = time.time_ns()
    # When it is looked at
    done = await team.run("deks.jsonl", "moved.jsonl", "--dry-run", "--json")
    # Then it is told by key and version, and nothing was made
    assert done.returncode == 0, done.stderr
    key = str(blob.parse(blobs[0]).key)
    assert json.loads(done.stdout)["versions"] == [
        {"key": key, "version": 1, "blobs": 500},
        {"key": key, "version": 2, "blobs": 500},
    ]
    assert set(tmp_path.iterdir()) == files
    assert all(path.stat().st_mtime_ns < began for path in files)


async def test_a_key_that_is_off_stops_the_job_and_costs_no_line(fleet: Fleet, heap: Heap, tmp_path: Path) -> None:
    # Given a file of blobs of a key that the client may not rewrap
    (tmp_path / "deks.jsonl").write_text("".join(json.dumps({"blob": text(raw)}) + "\n" for raw in heap.blobs[:3000]))
    team = Team(fleet, heap.house, tmp_path)
    mine, team.signs = team.signs, tmp_path / "stranger.json"
    write(team.signs, await fleet.service(heap.house.tenant, pattern=f"{heap.house.tenant}/elsewhere"))
    # When it is rewrapped all the same, Then the job stops instead of rejecting everything
    stopped = await team.run("deks.jsonl", "moved.jsonl")
    assert stopped.returncode == 1
    assert "1000 records in a row were rejected, the last with NOT_FOUND" in stopped.stderr
    # And whoever may goes on with the very same job, without a reject
    team.signs = mine
    assert (await team.run("deks.jsonl", "moved.jsonl")).returncode == 0


async def test_under_a_compromised_version_it_needs_an_officers_grant(fleet: Fleet, tmp_path: Path) -> None:
    # Given a file of blobs under a version that was compromised since
    heap = await a_heap(fleet, 2000)
    house = heap.house
    await fleet.command(
        Operation.KEY_COMPROMISE, KeyCompromiseBody(tenant=house.tenant, key=house.key, version=1, why="a leak")
    )
    (tmp_path / "deks.jsonl").write_text("".join(json.dumps({"blob": text(raw)}) + "\n" for raw in heap.blobs))
    team = Team(fleet, house, tmp_path)
    # When it is rewrapped, Then the job stops, and no line of it is lost
    stopped = await team.run("deks.jsonl", "moved.jsonl")
    assert stopped.returncode == 1
    assert "the last with KEY_STATE" in stopped.stderr
    # When two officers give a grant for just that, Then the same job goes through
    allowed = [Permission.REWRAP]
    await fleet.command(
        Operation.GRANT_GIVE,
        GrantGiveBody(
            tenant=house.tenant,
            client=house.identity.client,
            key=house.key,
            version=1,
            permissions=allowed,
            for_s=600,
            why="incident 17: our own blobs",
        ),
    )
    done = await team.run("deks.jsonl", "moved.jsonl")
    assert done.returncode == 0, done.stderr
    moved = [b64decode(json.loads(line)["blob"]) for line in (tmp_path / "moved.jsonl").read_text().splitlines()]
    await are_the_same(house, moved, range(len(moved)), heap.deks)
