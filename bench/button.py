"""The red button under load: how long unwraps still succeed after an officer read that the key is off.

`python -m bench.button`. Four workers serve 200 unwraps a second while a key of layer 2 or 3 is disabled and enabled
again and again. The exit code is 1 if an unwrap succeeded that was produced after the officer's reply was read (D11).
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter

from bench.load import Load, signed
from bench.report import Figure, figure, report
from bench.rig import Rig, rig
from worker.client.results import WrappedDek
from worker.model.bodies import DekItem, UnwrapBody
from worker.model.control import KeyDisableBody, KeyEnableBody
from worker.model.operations import Operation
from worker.model.replies import DisableResult
from worker.seal.identity import Identity

WORKERS, RATE, CYCLES = 4, 200, 100
OFF_S, PATIENCE_S, POLL_S = 0.25, 30.0, 0.005


@dataclass
class Stream:
    """Single unwraps at a fixed rate, each signed when it is sent; when each was handed to the producer."""

    load: Load
    identity: Identity
    prefix: str
    body: UnwrapBody
    sent: dict[str, float] = field(default_factory=dict)

    async def flow(self) -> None:
        """Send until cancelled."""
        begun, number = perf_counter(), 0
        while True:
            (request,) = signed(self.identity, self.prefix, Operation.UNWRAP, self.body, 1)
            self.sent[request.id] = perf_counter()
            await self.load.send(request)
            number += 1
            await asyncio.sleep(max(0.0, begun + number / RATE - perf_counter()))

    def succeeded(self, name: str) -> bool:
        """Whether this request has an answer with a DEK."""
        if name not in self.load.answers:
            return False
        return not any("code" in one for one in json.loads(self.load.answers[name][1]).get("results", [{"code": ""}]))

    async def answered(self, names: Sequence[str]) -> None:
        """Wait for the answers to all of these."""
        async with asyncio.timeout(PATIENCE_S):
            while any(name not in self.load.answers for name in names):  # noqa: ASYNC110 - events come by thousands
                await asyncio.sleep(POLL_S)

    async def serving(self) -> None:
        """Wait until something that is sent from now on succeeds; forget what was before."""
        now = perf_counter()
        async with asyncio.timeout(PATIENCE_S):
            while not any(at > now and self.succeeded(name) for name, at in self.sent.items()):  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
        self.sent = {name: at for name, at in self.sent.items() if at > now}
        self.load.answers = {name: answer for name, answer in self.load.answers.items() if name in self.sent}


@dataclass(frozen=True, slots=True)
class Cycle:
    """Seconds relative to when the officer's reply was read; `late`: what must never be."""

    reply: float
    last_produced: float
    last_answered: float
    trips: list[float]
    probes: int
    late: int


@asynccontextmanager
async def streaming(made: Rig) -> AsyncIterator[Stream]:
    """The load, as long as the block."""
    (dek,) = await made.house.client.generate(made.house.key, return_dek=False)
    assert isinstance(dek, WrappedDek)
    stream = Stream(made.load, made.house.identity, made.fleet.prefix, UnwrapBody(items=[DekItem(id=dek.id)]))
    tasks = [asyncio.create_task(made.load.listen()), asyncio.create_task(stream.flow())]
    try:
        yield stream
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def cycle(made: Rig, stream: Stream, key: str) -> Cycle:
    """Off and on again. It is switched on only when every unwrap that was produced while it was off is answered."""
    tenant, officer = made.house.tenant, await made.fleet.officer()
    await stream.serving()
    pressed = perf_counter()
    done = await officer.command(Operation.KEY_DISABLE, KeyDisableBody(tenant=tenant, key=key))
    read = perf_counter()
    assert isinstance(done, DisableResult)
    await asyncio.sleep(OFF_S)
    closed = perf_counter()
    sent = {name: at for name, at in stream.sent.items() if at <= closed}
    await stream.answered(list(sent))
    good = [name for name in sent if stream.succeeded(name)]
    answers = made.load.answers
    result = Cycle(
        reply=read - pressed,
        last_produced=max(sent[name] for name in good) - read,
        last_answered=max(answers[name][0] for name in good) - read,
        trips=[answers[name][0] - sent[name] for name in good],
        probes=sum(at > read for at in sent.values()),
        late=sum(sent[name] > read for name in good),
    )
    await made.fleet.command(
        Operation.KEY_ENABLE, KeyEnableBody(tenant=tenant, key=key, revision=done.key.disabled_revision or 0)
    )
    return result


def _share(values: Sequence[float], share: float) -> float:
    """A quantile in milliseconds."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1000


def figures(cycles: Sequence[Cycle]) -> list[Figure]:
    """Distributions against the unwraps' own round trips."""
    trips = [trip for one in cycles for trip in one.trips]
    p50, p99 = _share(trips, 0.5), _share(trips, 0.99)
    made = [figure("disable: round trip, p50", _share([one.reply for one in cycles], 0.5), "ms", "unwrap p50", p50)]
    after, unwrap = "after the officer's reply", "unwrap p99"
    for share, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (1.0, "most")):
        produced = _share([one.last_produced for one in cycles], share)
        answered = _share([one.last_answered for one in cycles], share)
        made.append(figure(f"last success produced {after}, {name}", produced, "ms", unwrap, p99))
        made.append(figure(f"last success answered {after}, {name}", answered, "ms", unwrap, p99))
    late, probes = sum(one.late for one in cycles), sum(one.probes for one in cycles)
    made.append(
        figure("produced after the officer's reply and a success", late, "unwraps", "all produced then", probes)
    )
    return made


async def run() -> tuple[list[Figure], int]:
    """The figures, and how many unwraps succeeded that must not."""
    async with rig(WORKERS) as made, streaming(made) as stream:
        keys = (made.house.key, made.house.upper)
        cycles = [await cycle(made, stream, keys[number % 2]) for number in range(CYCLES)]
    return figures(cycles), sum(one.late for one in cycles)


def main() -> list[Figure]:
    """Print the table and write the figures; ends the process if the button leaks."""
    found, late = asyncio.run(run())
    kept = report(found)
    if late:
        sys.exit(f"{late} unwraps were produced after the officer's reply and succeeded")
    return kept


if __name__ == "__main__":
    main()
