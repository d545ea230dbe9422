"""What is done with customers' keystores in the background (S13): keys opened and made, links tried, keystores probed.

Nothing here is waited for by a batch. Whatever is asked twice is done once; what was prepared waits in memory for the
request to come again, and a crash leaves nothing: an inner blob is never kept, neither here nor on disk.
"""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from random import uniform
from typing import Protocol, TypeVar
from uuid import UUID

from worker.flow.contact import Contact, Contacts, Probe
from worker.flow.failpoints import NONE, Failpoints
from worker.model.hsm import (
    CreatedKey,
    CreatedMaster,
    CreateKey,
    CreateLink,
    CreateMaster,
    CreateOutside,
    Fault,
    HsmFault,
    HsmResult,
    Kek,
    OpenedKey,
    OpenKey,
    Outside,
)
from worker.model.keystores import (
    KeystoreFault,
    KeystoreForbidden,
    KeystoreMisconfigured,
    KeystoreRefused,
    KeystoreThrottled,
)
from worker.ports import Hsm, Keystore, Keystores

log = logging.getLogger(__name__)
T = TypeVar("T")

HSM_S = 1.0
MOST = 10_000
"""Things under way in one process; what comes beyond is not begun, and comes again."""
KEPT_S = 30.0
"""How long a prepared result waits for its request to come again."""
REFRESH_S = 240.0
"""A handle in use is opened anew when it is so old: long before the cache thinks it too old (600 s)."""
PROBE_AAD = b"keyriver-probe/1"

Preparing = CreateOutside | CreateLink
Name = tuple[UUID, int, int]


@dataclass(slots=True)
class _Open:
    """A KEK that this process opened, and when."""

    kek: Kek
    opened: float
    used: float


class LinkWatch(Protocol):
    """Who counts what this process refuses. Must not block or raise."""

    def barred(self, links: Mapping[Fault, int]) -> None:
        """So many links are barred now, by why."""
        ...


class Keystones:
    """The background of one process. `clock` is CLOCK_BOOTTIME in seconds."""

    def __init__(
        self,
        hsm: Hsm,
        keystores: Keystores,
        contacts: Contacts,
        probe_s: float,
        clock: Callable[[], float],
        watch: LinkWatch,
        failpoints: Failpoints = NONE,
    ) -> None:
        self._watch, self._failpoints = watch, failpoints
        self._hsm, self._keystores, self._contacts = hsm, keystores, contacts
        self._probe_s, self._clock = probe_s, clock
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}
        self._opened: dict[Name, _Open] = {}
        self._prepared: dict[Preparing, tuple[HsmResult, float]] = {}
        self._flaws: dict[Name, tuple[HsmFault, float]] = {}
        self._opening: dict[Name, Kek] = {}
        self._void: set[Name] = set()
        """What is being opened and was dropped meanwhile."""
        self.done: Counter[str] = Counter()
        """What was done, by its end."""

    # Asked by batches; none of these waits.

    def open(self, kek: Kek, outside: Outside) -> None:
        """Open this KEK in the background, unless that is under way."""
        self._begin(_name(kek), lambda: self._open_one(kek, outside))

    def flaw(self, kek: Kek) -> HsmFault | None:
        """What was wrong with the bytes of this KEK when it was opened a moment ago."""
        known = self._flaws.get(_name(kek))
        return known[0] if known is not None and self._clock() - known[1] < KEPT_S / 6 else None

    def use(self, kek: Kek) -> None:
        """A batch uses it: it is to be kept open."""
        known = self._opened.get(_name(kek))
        if known is not None:
            known.used = self._clock()

    def take(self, op: Preparing) -> HsmResult:
        """What was prepared for this operation; else it is begun, and the answer is `COLD`."""
        result, made = self._prepared.pop(op, (None, 0.0))
        if result is not None and self._clock() - made < KEPT_S:
            return result
        self._begin(op, lambda: self._prepare(op))
        return HsmFault(Fault.COLD, "the customer's keystore is being asked")

    def dropped(self, keys: Iterable[UUID] | None) -> None:
        """Handles were dropped: what is being opened below these keys was decided before, and is not kept."""
        gone = None if keys is None else set(keys)
        self._void |= {name for name, kek in self._opening.items() if gone is None or not gone.isdisjoint(_line(kek))}

    # Beside the batches.

    async def turn(self) -> None:
        """Drop what has to go, probe what is due, open anew what gets old. Waits for no keystore."""
        now = self._clock()
        for contact, bar in self._contacts.turned(now):
            if bar is not None:
                self._hsm.drop(contact.keys)
                self.dropped(contact.keys)
            log.warning("the keystore of link %s: %s", contact.link, "answers" if bar is None else bar.value)
        self._watch.barred(self._contacts.barred())
        for contact in self._contacts.due(now):
            contact.next_probe = now + self._probe_s * uniform(0.8, 1.2)  # noqa: S311 - keeps probes apart, no secret
            self._begin(contact.link, lambda contact=contact: self._probe(contact))  # type: ignore[misc]
        for name, known in list(self._opened.items()):
            if now - known.opened > REFRESH_S:
                del self._opened[name]
                if known.used > known.opened and known.kek.outside is not None:
                    self.open(known.kek, known.kek.outside)
        self._prepared = {op: kept for op, kept in self._prepared.items() if now - kept[1] < KEPT_S}
        self._flaws = {name: kept for name, kept in self._flaws.items() if now - kept[1] < KEPT_S}

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, what: Hashable, work: Callable[[], Coroutine[object, object, None]]) -> None:
        if what in self._tasks or len(self._tasks) >= MOST:
            return
        task = self._tasks[what] = asyncio.create_task(work())
        task.add_done_callback(lambda done: self._ended(what, done))

    def _ended(self, what: Hashable, task: asyncio.Task[None]) -> None:
        self._tasks.pop(what, None)
        if not task.cancelled() and task.exception() is not None:
            log.error("work with a keystore failed", exc_info=task.exception())

    # With a keystore.

    async def _open_one(self, kek: Kek, outside: Outside) -> None:
        name = _name(kek)
        self._opening[name] = kek
        try:
            flaw = await self._opened_from(kek, outside, name)
            if name in self._void and kek.parent is not None:
                self._hsm.drop([kek.parent.key])
        finally:
            del self._opening[name]
            self._void.discard(name)
        if flaw is not None:
            self._flaws[name] = flaw, self._clock()

    async def _opened_from(self, kek: Kek, outside: Outside, name: Name) -> HsmFault | None:
        """What is wrong with the bytes, if anything is; whether the key is open now is not told."""
        contact = self._contacts.of(outside.link, outside.address, self._clock())
        inner = await self._asked(contact, lambda keystore: keystore.decrypt(kek.wrapped, outside.aad))
        if isinstance(inner, HsmFault):
            return inner if inner.fault is Fault.INTEGRITY else None
        if name in self._void or contact.bar(self._clock(), self._contacts.limit_s) is not None:
            return None
        self._failpoints.reach("outside-brought")
        (result,) = await self._hsm.run([OpenKey(kek, inner)], HSM_S)
        if isinstance(result, OpenedKey):
            self._opened[name] = _Open(kek, self._clock(), self._clock())
            return None
        return result if isinstance(result, HsmFault) and result.fault is not Fault.UNAVAILABLE else None

    async def _prepare(self, op: Preparing) -> None:
        work = self._made(op) if isinstance(op, CreateOutside) else self._linked(op)
        result = await work
        self._prepared[op] = result, self._clock()

    async def _made(self, op: CreateOutside) -> HsmResult:
        """A key made in the token, wrapped there and by the keystore, and given back by it before that counts."""
        contact = self._contacts.of(op.outside.link, op.outside.address, self._clock())
        (made,) = await self._hsm.run([CreateKey(op.parent, op.key, op.version, op.purpose, inner=True)], HSM_S)
        if not isinstance(made, CreatedKey):
            return made
        self._failpoints.reach("outside-made")
        sealed = await self._asked(contact, lambda keystore: _sealed(keystore, made.wrapped, op.outside.aad))
        if isinstance(sealed, HsmFault):
            return sealed
        self._failpoints.reach("outside-sealed")
        return CreatedKey(sealed, made.wrapping, sha256(made.wrapped).digest())

    async def _linked(self, op: CreateLink) -> HsmResult:
        """A customer's key that is on and gives back what it took; then the link's inner key."""
        contact = Contact(op.material, op.address)  # nothing hangs on it yet
        said = await self._asked(contact, lambda keystore: keystore.describe())
        if isinstance(said, HsmFault):
            return _unfit(said)
        if not said.enabled:
            return HsmFault(Fault.FORBIDDEN, "the customer's key is off")
        text = secrets.token_bytes(40)
        sealed = await self._asked(contact, lambda keystore: _sealed(keystore, text, PROBE_AAD))
        if isinstance(sealed, HsmFault):
            return _unfit(sealed)
        (made,) = await self._hsm.run([CreateMaster(op.key, op.version, op.material)], HSM_S)
        return CreatedMaster(made.serial, said.version) if isinstance(made, CreatedMaster) else made

    async def _probe(self, contact: Contact) -> None:
        """Whether the customer still lets his key be used. His key may be new meanwhile: then the probe is, too."""
        said = await self._asked(contact, lambda keystore: keystore.describe(), proves=False)
        if isinstance(said, HsmFault):
            return
        if not said.enabled:
            contact.forbade(self._clock())
            return
        contact.saw(said.version)
        probe = contact.probe
        if probe is None:
            text = secrets.token_bytes(32)
            sealed = await self._asked(contact, lambda keystore: _sealed(keystore, text, PROBE_AAD))
            contact.probe = Probe(text, sealed) if isinstance(sealed, bytes) else None
            return
        back = await self._asked(contact, lambda keystore: _compared(keystore, probe.sealed, PROBE_AAD, probe.text))
        if isinstance(back, HsmFault):
            contact.probe = None
            if back.fault is Fault.INTEGRITY:  # the key that wrapped it is no more: what it opened has to open again
                self._hsm.drop(contact.keys)
                self.dropped(contact.keys)

    async def _asked(
        self, contact: Contact, call: Callable[[Keystore], Awaitable[T]], *, proves: bool = True
    ) -> T | HsmFault:
        """One call, behind its own keystore's gate; what it tells of the customer is noted.

        `proves`: that it succeeded shows that the key may be used.
        """
        async with contact.gate:
            began = self._clock()
            if began < contact.not_before:
                return HsmFault(Fault.BUSY, "the keystore asked not to be called yet")
            try:
                answer = await call(self._keystores.of(contact.address))
            except KeystoreFault as fault:
                return self._noted(contact, fault)
        if proves:
            contact.answered(began)
        self.done["answered"] += 1
        return answer

    def _noted(self, contact: Contact, fault: KeystoreFault) -> HsmFault:
        now = self._clock()
        self.done[type(fault).__name__] += 1
        match fault:
            case KeystoreForbidden():
                contact.forbade(now)
                return HsmFault(Fault.FORBIDDEN, str(fault))
            case KeystoreThrottled(retry_after_s=seconds):
                # Who is never asked can't answer again: no pause is longer than the time after which all is refused.
                contact.not_before = now + min(seconds, self._contacts.limit_s)
                return HsmFault(Fault.BUSY, str(fault))
            case KeystoreRefused():
                return HsmFault(Fault.INTEGRITY, str(fault))
            case _:
                contact.failed(now)
                log.warning("the keystore of link %s: %s", contact.link, fault)
                unfit = isinstance(fault, KeystoreMisconfigured)
                return HsmFault(Fault.UNFIT if unfit else Fault.UNREACHABLE, str(fault))


async def _sealed(keystore: Keystore, text: bytes, aad: bytes) -> bytes:
    """Encrypted, and proved to come back: a corrupt wrap is noticed before the plaintext is forgotten."""
    sealed = await keystore.encrypt(text, aad)
    return await _compared(keystore, sealed, aad, text)


async def _compared(keystore: Keystore, sealed: bytes, aad: bytes, text: bytes) -> bytes:
    if not compare_digest(await keystore.decrypt(sealed, aad), text):
        raise KeystoreRefused("the keystore gives back other bytes than it took")
    return sealed


def _unfit(said: HsmFault) -> HsmFault:
    """Of a key that is not linked yet, what it does to a probe says whether it will do."""
    return HsmFault(Fault.UNFIT, said.detail) if said.fault is Fault.INTEGRITY else said


def _name(kek: Kek) -> Name:
    return kek.key, kek.version, kek.revision


def _line(kek: Kek | None) -> Iterator[UUID]:
    """The key and all keys above it."""
    while kek is not None:
        yield kek.key
        kek = kek.parent
