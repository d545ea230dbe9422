"""Inputs of a file job, the outputs they must give, and a job that is killed."""

import asyncio
import gzip
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import zstandard

from tests.unit.rewrap.rewraps import QUICK, Client, Watched, a_blob, all_moved, moved
from worker.client import ItemError, Rewrapped
from worker.client.files import Counts, FileJob, Plan, format_of

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
