"""What stands around a river in tests: a clock, a fence, who counts, a store that can be told what to do."""
# ruff: noqa: ARG002 - ports give more than a test looks at

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from inspect import isawaitable
from uuid import UUID

from worker.client.answers import Refusal, Result
from worker.client.wire import Prepared
from worker.flow.river import Concluded
from worker.model.codes import Code
from worker.model.effects import Settlement, Settling
from worker.model.facts import Answer as Known
from worker.model.facts import Question
from worker.model.hsm import Condemned, Fault, HsmFault, HsmOp, HsmResult
from worker.model.records import Entry, Partition, Record, Undeliverable
from worker.model.requests import Envelope
from worker.ports import Hsm, Store
from worker.seal.identity import Identity

NOW = 1_750_000_000_000


class Clock:
    """Unix milliseconds, moved by hand."""

    def __init__(self) -> None:
        self.ms = NOW

    def __call__(self) -> int:
        return self.ms


@dataclass
class Fence:
    """Every assignment is current but those that a test gives back."""

    stale: set[tuple[Partition, int]] = field(default_factory=set)

    def is_current(self, partition: Partition, epoch: int) -> bool:
        return (partition, epoch) not in self.stale


@dataclass
class Watch:
    """Who counts."""

    stages: list[str] = field(default_factory=list)
    answered: list[tuple[str, Concluded]] = field(default_factory=list)
    dead: Counter[Code] = field(default_factory=Counter)
    undelivered_: list[Undeliverable] = field(default_factory=list)

    def stage(self, name: str, items: int, seconds: float) -> None:
        self.stages.append(name)

    def concluded(self, request: Envelope, item: Concluded) -> None:
        self.answered.append((request.key.id, item))

    def buried(self, record: Record, code: Code) -> None:
        self.dead[code] += 1

    def noted(self, record: Record, code: Code) -> None:
        raise AssertionError("no test of the river floods")

    def undelivered(self, topic: str, reason: Undeliverable) -> None:
        self.undelivered_.append(reason)


class Between:
    """A store with something between it and the river: `script` may answer a settle in its place."""

    def __init__(self, store: Store) -> None:
        self.behind = store
        self.script: list[object] = []
        """What the next calls of `settle` do: None passes; an exception is raised; a function gets the settlements."""
        self.settled: list[list[Settlement]] = []

    async def know(self, question: Question) -> Known:
        return await self.behind.know(question)

    async def settle(self, settlements: Sequence[Settlement]) -> list[Settling]:
        self.settled.append(list(settlements))
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            raise step
        if callable(step) and isawaitable(waits := step()):
            await waits
        if isinstance(step, list):
            return step
        return await self.behind.settle(settlements)


class Hiccups:
    """A token that does not do some operations of the next runs: `skipped` says so for each in turn."""

    def __init__(self, hsm: Hsm) -> None:
        self._hsm = hsm
        self.skipped: list[bool] = []

    async def run(self, ops: Sequence[HsmOp], timeout_s: float) -> list[HsmResult]:
        results = await self._hsm.run(ops, timeout_s)
        skips = [self.skipped.pop(0) if self.skipped else False for _ in ops]
        away = HsmFault(Fault.UNAVAILABLE)
        return [away if skip else result for skip, result in zip(skips, results, strict=True)]

    def drop(self, keys: Iterable[UUID] | None) -> None:
        self._hsm.drop(keys)

    def condemn(self, versions: Iterable[Condemned]) -> frozenset[Condemned]:
        return self._hsm.condemn(versions)


@dataclass(frozen=True, slots=True)
class Sent:
    """A signed request as a record, and what its answer must be bound to."""

    record: Record
    identity: Identity
    request: Prepared
    digest: bytes


@dataclass(frozen=True, slots=True)
class Told:
    """An answer whose signature held, its DEKs opened."""

    results: list[Result]
    deks: list[bytes]
    error: Refusal | None
    entry: Entry

    @property
    def code(self) -> str:
        """Why the whole request was refused."""
        return "" if self.error is None else self.error.code

    @property
    def codes(self) -> list[str]:
        """Why each item was refused."""
        return [result.code if isinstance(result, Refusal) else "" for result in self.results]


class Progress:
    """How far request topics were read."""

    def __init__(self) -> None:
        self.is_past = False
        self.asked: list[int] = []

    async def is_read_past(self, moment_ms: int) -> bool:
        self.asked.append(moment_ms)
        return self.is_past
