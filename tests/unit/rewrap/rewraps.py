"""A client in memory that rewraps by a rule, and a watcher that remembers; what a job needs and no more."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from worker.chain import blob
from worker.client import ItemError, Rewrapped
from worker.client.calls import Pace
from worker.client.files import Counts
from worker.client.rewrap import Bulk
from worker.model.bodies import RewrapItem

KEY = UUID("018f0000-0000-7000-8000-000000000001")
NO_DEK = UUID(int=0)
BAD = ItemError("UNWRAP_FAILED", "The blob does not unwrap under this key and context.", retry=False)
QUICK = Bulk(items=10, at_once=3, patience_s=5, pace=Pace(pause_s=0.0001, longest_pause_s=0.001))
Answer = Callable[[Sequence[bytes]], list[Rewrapped | ItemError]]


def a_blob(number: int, version: int = 1) -> bytes:
    """A blob by its form; its ciphertext is its number."""
    return blob.header(KEY, version, NO_DEK) + bytes(12) + number.to_bytes(4, "big") + bytes(16)


def moved(raw: bytes) -> Rewrapped | ItemError:
    """The same blob under the next version; version 9 is current, and what is no blob is refused."""
    try:
        parsed = blob.parse(raw)
    except blob.BadBlob:
        return BAD
    if parsed.version == 9:
        return Rewrapped(KEY, 9, None, raw, unchanged=True)
    made = blob.header(KEY, parsed.version + 1, NO_DEK) + parsed.nonce + parsed.ciphertext
    return Rewrapped(KEY, parsed.version + 1, None, made, unchanged=False)


def all_moved(blobs: Sequence[bytes]) -> list[Rewrapped | ItemError]:
    return [moved(one) for one in blobs]


@dataclass
class Client:
    """Answers by `answer`; the turn of the loop in which it does so varies, so that answers overtake each other."""

    answer: Answer = all_moved
    asked: list[int] = field(default_factory=list)
    under_way: int = 0
    most: int = 0
    targets: set[str | None] = field(default_factory=set)

    async def rewrap(
        self, items: Sequence[RewrapItem], *, to: str | None = None, return_blob: bool = False
    ) -> list[Rewrapped | ItemError]:
        assert return_blob
        self.targets.add(to)
        self.asked.append(len(items))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        for _ in range(7 * len(self.asked) % 5):
            await asyncio.sleep(0)
        self.under_way -= 1
        return self.answer([one.blob or b"" for one in items])


@dataclass
class Watched:
    """What a job told."""

    begins: list[tuple[int, Counts]] = field(default_factory=list)
    moves: list[tuple[int, Counts]] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)

    def began(self, total: int, counts: Counts) -> None:
        self.begins.append((total, counts))

    def moved(self, read: int, counts: Counts) -> None:
        self.moves.append((read, counts))

    def waits(self, why: str) -> None:
        self.waiting.append(why)
