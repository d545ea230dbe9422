"""The fleet's intake keys (S4): one per suite and day, shared by all workers, announced and signed.

Sequence = day × 8 + suite, so every worker knows which key is due without asking. A key holds for its UTC day and the
freshness window on both sides. Its private half stands in its row under the HSM-held intake wrap key, until every
request topic has been read past its end.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from cachetools import LRUCache

from worker.flow.authentic import authentic_rows
from worker.flow.trust import Trust
from worker.flow.voice import announce
from worker.model.effects import Seen, Settlement
from worker.model.facts import Question
from worker.model.rows import IntakeKey, Suite
from worker.ports import FleetKeys, Sink, Store, StoreUnavailable
from worker.seal.announcements import SKEW_MS, IntakeAnnouncement
from worker.seal.frames import framed
from worker.seal.hpke import Opener, generate_keypair

DAY_MS = 24 * 3_600_000
SUITES = (Suite.P256, Suite.X25519, Suite.MLKEM768_X25519)
"""A suite's place here is part of sequences for ever; new suites are appended, at most 8."""
OPEN = 32


class Progress(Protocol):
    """How far the request topics have been read."""

    async def is_read_past(self, moment_ms: int) -> bool:
        """Whether every request partition's committed offset lies behind all that was appended up to this time."""
        ...


@dataclass(slots=True)
class IntakeKeys:
    """Makes, announces, opens and forgets intake keys."""

    fleet: str
    intake_topic: str
    suites: Sequence[Suite]
    store: Store
    trust: Trust
    fleet_keys: FleetKeys
    sink: Sink
    progress: Progress
    private_halves: Callable[[int], Awaitable[Sequence[int]]]
    """The sequences below this one whose private half is still stored: a fleet may have slept for any time."""
    _openers: LRUCache[int, Opener] = field(default_factory=lambda: LRUCache(OPEN), repr=False)
    _announced: set[tuple[int, bytes]] = field(default_factory=set)

    async def opener(self, key: IntakeKey) -> Opener | None:
        """See `Openers`. The private half is decrypted in the token once and kept for as long as it is in use."""
        if not key.wrapped_private:
            return None
        opener = self._openers.get(key.sequence)
        if opener is None:
            private = await self.fleet_keys.unwrap_secret(key.wrapped_private, self._aad(key.sequence))
            opener = self._openers[key.sequence] = Opener(key.suite, private)
        return opener

    async def keep(self, now_ms: int) -> None:
        """Make and announce what is due now and in five minutes; forget what nobody can use any more."""
        days = {now_ms // DAY_MS, (now_ms + SKEW_MS) // DAY_MS}
        due = [sequence_of(day, suite) for day in sorted(days) for suite in self.suites]
        for key in await self._made(due, now_ms):
            if (key.sequence, self.fleet_keys.signing_key) not in self._announced:
                await self._announce(key)
        self._drop(now_ms)
        await self._forget(now_ms)

    async def _made(self, due: Iterable[int], now_ms: int) -> list[IntakeKey]:
        wanted = frozenset(due)
        known = await self._rows(wanted)
        missing = [sequence for sequence in wanted if sequence not in known]
        if missing:
            made = await authentic_rows(self.fleet_keys, [await self._new(sequence) for sequence in missing])
            await self.store.settle([Settlement(None, None, (), (), effects) for effects in made])
            known = await self._rows(wanted)  # another worker's, where it was quicker
        if len(known) < len(wanted):
            raise StoreUnavailable(f"intake keys are missing at {now_ms}")
        return list(known.values())

    async def _rows(self, sequences: frozenset[int]) -> dict[int, IntakeKey]:
        return dict((await self.trust.verified(await self.store.know(Question(intake_keys=sequences)))).intake_keys)

    async def _new(self, sequence: int) -> IntakeKey:
        day, suite = sequence // 8, SUITES[sequence % 8]
        pair = generate_keypair(suite)
        wrapped = await self.fleet_keys.wrap_secret(pair.private, self._aad(sequence))
        begins = day * DAY_MS - SKEW_MS
        return IntakeKey(sequence, suite, pair.public, wrapped, begins, _ends_ms(sequence), 1)

    async def _announce(self, key: IntakeKey) -> None:
        said = IntakeAnnouncement(
            self.fleet, key.suite, key.sequence, key.public_key, key.not_before_ms, key.not_after_ms
        )
        signer = self.fleet_keys.signing_key
        value = said.to_json(await self.fleet_keys.sign(said.payload()))
        await announce(self.sink, self.intake_topic, said.record_key, value)
        self._announced.add((key.sequence, signer))

    def _drop(self, now_ms: int) -> None:
        """Whoever deletes the row's half, no worker keeps its own: who still needs one asks the token again."""
        for sequence in list(self._openers):
            if _ends_ms(sequence) < now_ms:
                del self._openers[sequence]

    async def _forget(self, now_ms: int) -> None:
        """Delete private halves whose time is over once every request that may be sealed to them has been read."""
        past = frozenset(await self.private_halves(now_ms // DAY_MS * 8))
        rows = [row for row in (await self._rows(past)).values() if row.wrapped_private and row.not_after_ms < now_ms]
        for row in sorted(rows, key=lambda row: row.not_after_ms):
            if not await self.progress.is_read_past(row.not_after_ms + SKEW_MS):
                return
            bare = replace(row, wrapped_private=b"", revision=row.revision + 1)
            (effects,) = await authentic_rows(self.fleet_keys, [bare])
            await self.store.settle([Settlement(None, None, (Seen(row.ref, row.revision),), (row.ref,), effects)])

    def _aad(self, sequence: int) -> bytes:
        return framed(b"keyriver-intake-private/1", self.fleet.encode(), str(sequence).encode())


def sequence_of(day: int, suite: Suite) -> int:
    """The sequence of the key of this UTC day (days since 1970) and suite."""
    return day * 8 + SUITES.index(suite)


def _ends_ms(sequence: int) -> int:
    return (sequence // 8 + 1) * DAY_MS + SKEW_MS
