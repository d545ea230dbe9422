"""A data team: blobs that it keeps itself, its folder, and the command as it types it."""

import asyncio
import os
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fleet import Fleet, House
from tests.stack import CHECKOUT
from worker.chain import blob
from worker.cli.identities import write
from worker.client import Unwrapped, WrappedDek
from worker.model.bodies import DekItem, KeyRotateBody
from worker.model.operations import Operation

PORTION = 1000


@dataclass
class Heap:
    """Blobs of version 1 with their DEKs, the key having been rotated since."""

    house: House
    blobs: list[bytes] = field(default_factory=list)
    deks: list[bytes] = field(default_factory=list)


async def a_heap(fleet: Fleet, many: int) -> Heap:
    house = await fleet.tenant()
    heap = Heap(house)
    for start in range(0, many, PORTION):
        contexts = [{"row": str(number)} for number in range(start, start + PORTION)]
        for one in await house.client.generate(house.key, contexts=contexts, store=False):
            assert isinstance(one, WrappedDek)
            assert one.blob is not None
            assert one.dek is not None
            heap.blobs.append(one.blob)
            heap.deks.append(one.dek)
    officer = await fleet.officer()
    await officer.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.key))
    return heap


class Team:
    """Its folder, its identity, and the command as it types it."""

    def __init__(self, fleet: Fleet, house: House, folder: Path) -> None:
        self.folder = folder
        self._env = os.environ | dict(fleet.env)
        self.signs = folder / "archive.json"
        write(self.signs, house.identity)

    def words(self, source: str, out: str, *more: str) -> list[str]:
        files = ["--in", self._place(source), "--out", self._place(out), "--as", str(self.signs)]
        return [sys.executable, "-m", "worker", "rewrap", *files, *more]

    async def run(self, source: str, out: str, *more: str) -> subprocess.CompletedProcess[str]:
        words = self.words(source, out, *more)
        return await asyncio.to_thread(
            subprocess.run, words, env=self._env, cwd=CHECKOUT, capture_output=True, text=True, check=False
        )

    async def killed(self, source: str, out: str, at: int, *more: str) -> None:
        """Start it; it dies once the output has so many bytes, or so many records were sent to the topic."""
        running = self.doomed(signal.SIGKILL, source, out, at, *more)
        _, said = await asyncio.to_thread(running.communicate)
        assert running.returncode == -signal.SIGKILL, said.decode()
        assert not (self.folder / out).exists()

    def doomed(self, sign: signal.Signals, source: str, out: str, at: int, *more: str) -> "subprocess.Popen[bytes]":
        """Start one that will send itself this signal."""
        words = [sys.executable, "-m", "tests.stories.doomed_job", sign.name, str(at)]
        words += self.words(source, out, *more)[3:]
        return subprocess.Popen(words, env=self._env, cwd=CHECKOUT, stderr=subprocess.PIPE)

    def _place(self, name: str) -> str:
        return name if name.startswith("topic:") else str(self.folder / name)


def text(raw: bytes) -> str:
    return b64encode(raw).decode()


def tampered(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1])


async def are_the_same(house: House, blobs: Sequence[bytes], numbers: Sequence[int], deks: Sequence[bytes]) -> None:
    """These blobs are of version 2, and unwrap to these DEKs in the contexts of their rows."""
    assert {blob.parse(one).version for one in blobs} == {2}
    for start in range(0, len(blobs), PORTION):
        part = slice(start, start + PORTION)
        pairs = zip(blobs[part], numbers[part], strict=True)
        items = [DekItem(blob=one, context={"row": str(number)}) for one, number in pairs]
        found = await house.client.unwrap(items)
        assert [one.dek for one in found if isinstance(one, Unwrapped)] == list(deks[part])
