"""A data team: blobs that it keeps itself, its folder, and the command as it types it."""

import asyncio
import os
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fleet import Fleet, House
from tests.processes import until
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

    async def killed(self, source: str, out: str, at_bytes: int, *more: str) -> None:
        """Start it, and kill it as soon as the output has so many bytes."""
        part = self.folder / f"{out}.part"

        async def grown(running: subprocess.Popen[bytes]) -> None:
            await until(lambda: size(part) >= at_bytes or running.poll() is not None, f"{at_bytes} bytes", 300)

        await self.killed_when(grown, source, out, *more)
        assert not (self.folder / out).exists()

    async def killed_when(
        self, enough: Callable[[subprocess.Popen[bytes]], Awaitable[None]], source: str, out: str, *more: str
    ) -> None:
        """Start it, and kill it as soon as that returns."""
        running = subprocess.Popen(self.words(source, out, *more), env=self._env, cwd=CHECKOUT, stderr=subprocess.PIPE)
        try:
            await enough(running)
        finally:
            running.kill()
            _, said = running.communicate()
        assert running.returncode == -signal.SIGKILL, said.decode()

    def _place(self, name: str) -> str:
        return name if name.startswith("topic:") else str(self.folder / name)


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


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
