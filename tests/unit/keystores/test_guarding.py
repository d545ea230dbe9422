"""The guard around a keystore, in virtual time: what is tried again, what is not, whom a dead one harms (nobody)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.edges.keystores.fake import FakeKeystore
from worker.flow.breaker import BreakerRules
from worker.flow.guarding import GuardedKeystore, GuardedKeystores, Outcome, Patience, Time
from worker.model.keystores import (
    KeystoreAddress,
    KeystoreFault,
    KeystoreForbidden,
    KeystoreKey,
    KeystoreMisconfigured,
    KeystoreRefused,
    KeystoreThrottled,
    KeystoreUnreachable,
    Provider,
)

WHERE = KeystoreAddress(Provider.XKS, "https://kms.acme.example", "k", "acme")
SILENT, NO, BAD = KeystoreUnreachable("silent"), KeystoreForbidden("no"), KeystoreRefused("bad")
PATIENCE = Patience(budget_s=1.0, tries=3, pause_s=0.05, breaker=BreakerRules(failures=5, cool_s=1.0))


@dataclass
class Script(FakeKeystore):
    """Answers each call as the script says; None is a right answer."""

    answers: list[KeystoreFault | None] = field(default_factory=list)
    took_s: float = 0.0
    clock: "Clock | None" = None

    def __post_init__(self) -> None:
        super().__init__("k")

    async def describe(self) -> KeystoreKey:
        if self.clock is not None:
            self.clock.now_s += self.took_s
        answer = self.answers.pop(0) if self.answers else None
        self.calls += 1
        if answer is not None:
            raise answer
        return KeystoreKey("k", "", enabled=True)


@dataclass
class Clock:
    """Virtual: it moves when somebody sleeps."""

    now_s: float = 100.0
    slept: list[float] = field(default_factory=list)
    chance: float = 1.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds

    @property
    def time(self) -> Time:
        return Time(lambda: self.now_s, self.sleep, lambda: self.chance)


@dataclass
class Log:
    """A `KeystoreWatch`."""

    outcomes: list[Outcome] = field(default_factory=list)
    circuits: list[bool] = field(default_factory=list)

    def exchanged(self, where: KeystoreAddress, operation: str, outcome: Outcome, seconds: float) -> None:
        assert where == WHERE
        assert operation in ("describe", "encrypt", "decrypt")
        assert seconds >= 0
        self.outcomes.append(outcome)

    def circuit(self, where: KeystoreAddress, *, closed: bool) -> None:
        assert where == WHERE
        self.circuits.append(closed)


@dataclass
class Scene:
    store: Script
    clock: Clock
    log: Log
    guarded: GuardedKeystore

    async def ask(self) -> KeystoreFault | None:
        """Describe; the fault, or None."""
        try:
            await self.guarded.describe()
        except KeystoreFault as fault:
            return fault
        return None


def scene(*answers: KeystoreFault | None, patience: Patience = PATIENCE, took_s: float = 0.0) -> Scene:
    clock, log = Clock(), Log()
    store = Script(list(answers), took_s, clock)
    return Scene(store, clock, log, GuardedKeystore(WHERE, store, patience, log, clock.time))


async def test_what_comes_through_is_what_was_said() -> None:
    guarded = GuardedKeystores({Provider.XKS: lambda where: FakeKeystore(where.key)}).of(WHERE)
    blob = await guarded.encrypt(b"text", b"aad")
    assert await guarded.decrypt(blob, b"aad") == b"text"
    assert await guarded.describe() == KeystoreKey("k", "1", enabled=True)
    await guarded.close()


async def test_silence_is_tried_again() -> None:
    made = scene(SILENT, SILENT, None)
    assert await made.ask() is None
    assert made.clock.slept == [0.1, 0.2]
    assert made.log.outcomes == [Outcome.UNREACHABLE, Outcome.UNREACHABLE, Outcome.OK]


async def test_a_few_tries_are_enough() -> None:
    made = scene(SILENT, SILENT, SILENT, None)
    assert await made.ask() is SILENT
    assert made.store.calls == 3


@pytest.mark.parametrize(("fault", "outcome"), [(NO, Outcome.FORBIDDEN), (BAD, Outcome.REFUSED)])
async def test_an_answer_is_final(fault: KeystoreFault, outcome: Outcome) -> None:
    made = scene(fault, None)
    assert await made.ask() is fault
    assert (made.store.calls, made.log.outcomes) == (1, [outcome])


async def test_throttling_waits_as_long_as_it_is_asked_to() -> None:
    made = scene(KeystoreThrottled("busy", 0.3), None)
    assert await made.ask() is None
    assert made.clock.slept == [0.4]
    assert made.log.outcomes == [Outcome.THROTTLED, Outcome.OK]


async def test_a_wait_beyond_the_budget_is_not_begun() -> None:
    busy = KeystoreThrottled("busy", 30.0)
    made = scene(busy, None)
    assert await made.ask() is busy
    assert made.clock.slept == []


async def test_slow_tries_use_the_budget_up() -> None:
    made = scene(SILENT, SILENT, None, took_s=0.6)
    assert await made.ask() is SILENT
    assert made.store.calls == 2


@given(st.lists(st.floats(0, 1), min_size=9, max_size=9))
def test_jitter_is_full_and_bounded(chances: list[float]) -> None:
    clock = Clock()
    draw = iter(chances)
    patience = Patience(budget_s=60.0, tries=10, breaker=BreakerRules(failures=100))
    store = Script([SILENT] * 9)
    guarded = GuardedKeystore(WHERE, store, patience, Log(), Time(lambda: clock.now_s, clock.sleep, lambda: next(draw)))
    asyncio.run(guarded.describe())
    most = [min(0.05 * 2.0**n, 0.4) for n in range(1, 10)]
    assert clock.slept == [chance * bound for chance, bound in zip(chances, most, strict=True)]


async def test_after_failures_in_a_row_nothing_is_sent() -> None:
    made = scene(*[SILENT] * 6)
    assert await made.ask() is SILENT
    assert isinstance(await made.ask(), KeystoreUnreachable)
    assert made.store.calls == 5  # the breaker opened in the middle of the second call, which then gave up
    made.clock.now_s += 0.5
    assert isinstance(await made.ask(), KeystoreUnreachable)
    assert (made.store.calls, made.log.outcomes[-1], made.log.circuits) == (5, Outcome.BREAKER, [False])


async def test_one_trial_then_all_again() -> None:
    made = scene(*[SILENT] * 5, None, None)
    await made.ask()
    await made.ask()
    made.clock.now_s += 1.0
    assert await made.ask() is None
    assert made.log.circuits == [False, True]
    assert await made.ask() is None


@pytest.mark.parametrize("answer", [NO, BAD, KeystoreThrottled("busy", 9.0)])
async def test_one_that_says_no_is_alive(answer: KeystoreFault) -> None:
    made = scene(*[answer] * 20)
    for _ in range(20):
        assert await made.ask() is answer
    assert made.store.calls == 20


async def test_a_trial_that_is_cancelled_lets_the_next_try() -> None:
    made = scene(*[SILENT] * 5)
    await made.ask()
    await made.ask()
    made.clock.now_s += 1.0
    store = Hanging()
    made.guarded._store = store
    trial = asyncio.create_task(made.guarded.describe())
    await store.began.wait()
    assert isinstance(await made.ask(), KeystoreUnreachable)  # one at a time
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    made.guarded._store = Script()
    assert await made.ask() is None


async def test_a_bug_is_no_silence() -> None:
    made = scene()
    made.guarded._store = Broken()
    for _ in range(10):
        with pytest.raises(ZeroDivisionError):
            await made.guarded.describe()
    made.guarded._store = made.store
    assert await made.ask() is None


class Broken(FakeKeystore):
    def __init__(self) -> None:
        super().__init__("k")

    async def describe(self) -> KeystoreKey:
        raise ZeroDivisionError


class Hanging(FakeKeystore):
    """Never answers; counts who is inside."""

    def __init__(self) -> None:
        super().__init__("k")
        self.began, self.inside, self.most = asyncio.Event(), 0, 0

    async def describe(self) -> KeystoreKey:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.inside -= 1
        raise AssertionError


PATIENT = Patience(budget_s=3600.0, at_once=4)
"""A dead one that hangs for an hour: no clock decides."""


def address(number: int) -> KeystoreAddress:
    return KeystoreAddress(Provider.XKS, f"https://kms-{number}.example", "k", f"customer-{number}")


async def test_one_dead_and_twenty_living() -> None:
    dead = Hanging()
    stores: dict[KeystoreAddress, FakeKeystore] = {address(0): dead}
    keystores = GuardedKeystores({Provider.XKS: lambda where: stores.setdefault(where, FakeKeystore("k"))}, PATIENT)
    waiting = [asyncio.create_task(keystores.of(address(0)).describe()) for _ in range(200)]
    await dead.began.wait()

    async def life(number: int) -> None:
        store = keystores.of(address(number))
        for turn in range(50):
            text = b"%d" % turn
            assert await store.decrypt(await store.encrypt(text, b"aad"), b"aad") == text

    await asyncio.gather(*(life(number) for number in range(1, 21)))

    still = [task for task in waiting if not task.done()]
    assert len(still) == dead.most == PATIENT.at_once
    shed: Sequence[object] = [task.exception() for task in waiting if task.done()]
    assert len(shed) == 196
    assert all(isinstance(fault, KeystoreThrottled) for fault in shed)
    for task in still:
        task.cancel()
    await asyncio.gather(*still, return_exceptions=True)
    assert dead.inside == 0
    await keystores.close()


async def test_whoever_left_makes_room() -> None:
    dead = Hanging()
    guarded = GuardedKeystore(address(0), dead, Patience(budget_s=3600.0, at_once=1), Quiet(), Time())
    task = asyncio.create_task(guarded.describe())
    await dead.began.wait()
    with pytest.raises(KeystoreThrottled):
        await guarded.describe()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    guarded._store = FakeKeystore("k")
    assert (await guarded.describe()).enabled


async def test_a_hanging_one_ends_with_the_budget() -> None:
    guarded = GuardedKeystore(address(0), Hanging(), Patience(budget_s=0.01), Quiet(), Time())
    with pytest.raises(KeystoreUnreachable):
        await guarded.describe()


class Quiet:
    def exchanged(self, where: KeystoreAddress, operation: str, outcome: Outcome, seconds: float) -> None:
        pass

    def circuit(self, where: KeystoreAddress, *, closed: bool) -> None:
        pass


async def test_one_guard_per_address() -> None:
    keystores = GuardedKeystores({Provider.XKS: lambda where: FakeKeystore(where.key)})
    assert keystores.of(address(1)) is keystores.of(address(1))
    assert keystores.of(address(1)) is not keystores.of(address(2))
    with pytest.raises(KeystoreMisconfigured):
        keystores.of(KeystoreAddress(Provider.TRANSIT, "https://x.example", "k", "c"))
    await keystores.close()


async def test_one_that_does_not_close_keeps_no_other_open() -> None:
    closed: list[str] = []

    class Stubborn(FakeKeystore):
        async def close(self) -> None:
            closed.append("tried")
            raise KeystoreUnreachable("no")

    keystores = GuardedKeystores({Provider.XKS: lambda _where: Stubborn("k")})
    keystores.of(address(1))
    keystores.of(address(2))
    await keystores.close()
    assert closed == ["tried", "tried"]
