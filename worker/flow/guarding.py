"""What stands around every keystore (S13): a bulkhead, a breaker, a few retries.

Each keystore has its own, so a dead one never slows another. Its faults are kept apart: UNREACHABLE, FORBIDDEN,
THROTTLED.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from time import monotonic
from typing import Protocol, TypeVar

from worker.flow.breaker import Breaker, BreakerRules, Circuit
from worker.model.keystores import (
    KeystoreAddress,
    KeystoreFault,
    KeystoreForbidden,
    KeystoreKey,
    KeystoreMisconfigured,
    KeystoreThrottled,
    KeystoreUnreachable,
    Provider,
)
from worker.ports import Keystore

MOST = 10_000
"""Addresses that are kept open."""

T = TypeVar("T")


class Outcome(StrEnum):
    """How one exchange with a keystore ended, or why there was none."""

    OK = "OK"
    UNREACHABLE = "UNREACHABLE"
    FORBIDDEN = "FORBIDDEN"
    THROTTLED = "THROTTLED"
    REFUSED = "REFUSED"
    BREAKER = "BREAKER"
    """Not sent: the breaker is open."""
    BULKHEAD = "BULKHEAD"
    """Not sent: too many calls to this keystore are under way."""

    @property
    def was_sent(self) -> bool:
        """Whether the keystore was asked at all."""
        return self not in (Outcome.BREAKER, Outcome.BULKHEAD)


class KeystoreWatch(Protocol):
    """Told what happens; must be quick and must not raise."""

    def exchanged(self, where: KeystoreAddress, operation: str, outcome: Outcome, seconds: float) -> None:
        """One try of an operation ended; `seconds` is 0 when nothing was sent."""
        ...

    def circuit(self, where: KeystoreAddress, *, closed: bool) -> None:
        """The breaker opened, or closed again."""
        ...


class Unwatched:
    """Keeps nothing."""

    def exchanged(self, where: KeystoreAddress, operation: str, outcome: Outcome, seconds: float) -> None:
        """See `KeystoreWatch`."""

    def circuit(self, where: KeystoreAddress, *, closed: bool) -> None:
        """See `KeystoreWatch`."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how often one call tries.

    At most `tries` (one at least) within `budget_s` seconds; the wait before the n-th is drawn from 0 to
    `pause_s` × 2^n, at most `longest_pause_s` (full jitter). No more than `at_once` calls are under way.
    """

    budget_s: float = 1.0
    tries: int = 3
    pause_s: float = 0.05
    longest_pause_s: float = 0.4
    at_once: int = 8
    breaker: BreakerRules = field(default_factory=BreakerRules)


@dataclass(frozen=True, slots=True)
class Time:
    """The clock, the wait and the chance that a guard uses; tests bring their own."""

    now_s: Callable[[], float] = monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = field(default=random.random)  # not a secret: it spreads retries


class GuardedKeystore:
    """Implements `worker.ports.Keystore` over another one."""

    def __init__(
        self, where: KeystoreAddress, store: Keystore, patience: Patience, watch: KeystoreWatch, time: Time
    ) -> None:
        self._where, self._store, self._patience, self._watch, self._time = where, store, patience, watch, time
        self._breaker = Breaker(patience.breaker)
        self._inside = 0

    async def describe(self) -> KeystoreKey:
        """See `worker.ports.Keystore.describe`."""
        return await self._guarded("describe", self._store.describe)

    async def encrypt(self, plaintext: bytes, aad: bytes) -> bytes:
        """See `worker.ports.Keystore.encrypt`."""
        return await self._guarded("encrypt", lambda: self._store.encrypt(plaintext, aad))

    async def decrypt(self, ciphertext: bytes, aad: bytes) -> bytes:
        """See `worker.ports.Keystore.decrypt`."""
        return await self._guarded("decrypt", lambda: self._store.decrypt(ciphertext, aad))

    async def close(self) -> None:
        """See `worker.ports.Keystore.close`."""
        await self._store.close()

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way."""
        return not self._inside

    async def _guarded(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        until_s = self._time.now_s() + self._patience.budget_s
        with self._place(operation):
            again = 0
            while True:
                try:
                    return await self._try(operation, call, until_s)
                except (KeystoreUnreachable, KeystoreThrottled) as fault:
                    again += 1
                    pause_s = self._pause_s(again, fault)
                    now_s = self._time.now_s()
                    if again == self._patience.tries or now_s + pause_s >= until_s:
                        raise
                    if self._breaker.circuit(now_s) is Circuit.OPEN:
                        raise
                await self._time.sleep(pause_s)

    @contextmanager
    def _place(self, operation: str) -> Iterator[None]:
        """One of the places at this keystore. Nobody queues: whoever finds none free is told to come again."""
        if self._inside >= self._patience.at_once:
            self._watch.exchanged(self._where, operation, Outcome.BULKHEAD, 0.0)
            raise KeystoreThrottled("too many calls to this keystore are under way", self._patience.budget_s)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def _try(self, operation: str, call: Callable[[], Awaitable[T]], until_s: float) -> T:
        began_s = self._time.now_s()
        admitted = self._breaker.admit(began_s)
        if admitted is None:
            self._watch.exchanged(self._where, operation, Outcome.BREAKER, 0.0)
            raise KeystoreUnreachable("it did not answer; nothing is sent for a while")
        self._turn(admitted)
        ended = partial(self._ended, operation, began_s, trial=admitted.trying)
        try:
            result = await _within(call, until_s - began_s)
        except KeystoreFault as fault:
            ended(_OUTCOMES.get(type(fault), Outcome.REFUSED))
            raise
        except BaseException:  # whoever called is cancelled, or a bug: nothing is known of the keystore
            self._turn(self._breaker.given_up(trial=admitted.trying))
            raise
        ended(Outcome.OK)
        return result

    def _ended(self, operation: str, began_s: float, outcome: Outcome, *, trial: bool) -> None:
        """Only silence speaks against a keystore: one that says no is alive."""
        now_s = self._time.now_s()
        silent = outcome is Outcome.UNREACHABLE
        self._turn(self._breaker.failed_at(now_s, trial=trial) if silent else self._breaker.succeeded())
        self._watch.exchanged(self._where, operation, outcome, now_s - began_s)

    def _turn(self, breaker: Breaker) -> None:
        """The half-open state is told as open: both mean that the keystore does not answer."""
        if bool(breaker.opened) is not bool(self._breaker.opened):
            self._watch.circuit(self._where, closed=not breaker.opened)
        self._breaker = breaker

    def _pause_s(self, again: int, fault: KeystoreFault) -> float:
        most_s = min(self._patience.pause_s * 2.0**again, self._patience.longest_pause_s)
        asked_s = fault.retry_after_s if isinstance(fault, KeystoreThrottled) else 0.0
        return asked_s + most_s * self._time.chance()


class Credentials(Protocol):
    """What opens customers' keystores."""

    async def changed(self) -> frozenset[str]:
        """Names of credentials that are other ones since the last call. Raises `KeystoreMisconfigured`."""
        ...


class GuardedKeystores:
    """Implements `worker.ports.Keystores`: one guarded keystore per address, kept while it is used.

    Of more than `MOST` those go that were not asked for longest, and with them what their breaker knew.
    """

    def __init__(
        self,
        openers: Mapping[Provider, Callable[[KeystoreAddress], Keystore]],
        patience: Patience = Patience(),
        watch: KeystoreWatch | None = None,
        time: Time = Time(),
    ) -> None:
        """An opener makes a keystore without I/O, or raises `KeystoreMisconfigured`."""
        self._openers, self._patience, self._watch, self._time = openers, patience, watch or Unwatched(), time
        self._open: dict[KeystoreAddress, GuardedKeystore] = {}
        self._left: list[GuardedKeystore] = []

    def of(self, where: KeystoreAddress) -> GuardedKeystore:
        """See `worker.ports.Keystores.of`."""
        found = self._open.get(where)
        if found is None:
            opener = self._openers.get(where.provider)
            if opener is None:
                raise KeystoreMisconfigured(f"no keystore of the kind {where.provider} is set up")
            found = GuardedKeystore(where, opener(where), self._patience, self._watch, self._time)
            while len(self._open) >= MOST:
                self._left.append(self._open.pop(next(iter(self._open))))
        else:
            del self._open[where]
        self._open[where] = found  # the last is the one that was asked for last
        return found

    async def renew(self, credentials: Credentials) -> int:
        """Open anew what has another credential now; how many. What went before is closed."""
        names = await credentials.changed()
        gone = [where for where in self._open if where.credential in names]
        self._left += [self._open.pop(where) for where in gone]
        left = [store for store in self._left if store.is_idle]
        self._left = [store for store in self._left if not store.is_idle]
        await asyncio.gather(*(store.close() for store in left), return_exceptions=True)
        return len(gone)

    async def close(self) -> None:
        """Close them all."""
        kept, self._open, self._left = [*self._open.values(), *self._left], {}, []
        await asyncio.gather(*(store.close() for store in kept), return_exceptions=True)


_OUTCOMES: dict[type[KeystoreFault], Outcome] = {
    KeystoreUnreachable: Outcome.UNREACHABLE,
    KeystoreForbidden: Outcome.FORBIDDEN,
    KeystoreThrottled: Outcome.THROTTLED,
}


async def _within(call: Callable[[], Awaitable[T]], seconds: float) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await call()
    except TimeoutError:
        raise KeystoreUnreachable(f"no answer within {seconds * 1000:.0f} ms") from None
