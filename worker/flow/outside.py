"""The token, with the customers' keystores beside it (S13): the same port, and no batch ever waits for a keystore.

What only a keystore can bring is cold until the background brought it; a customer who said no, or was not heard of for
too long, bars his keys at once, in this process by what this process knows.
"""

from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

from worker.flow.contact import Contact, Contacts
from worker.flow.keystones import Keystones
from worker.model.hsm import (
    Condemned,
    CreateLink,
    CreateOutside,
    Fault,
    HsmFault,
    HsmOp,
    HsmResult,
    Kek,
    Outside,
    RewrapDek,
    UnwrapDek,
    WrapDek,
    keks_of,
)
from worker.ports import Hsm


class KeystoresBeside:
    """Implements `worker.ports.Hsm` over the token's own. `clock` is CLOCK_BOOTTIME in seconds."""

    def __init__(self, hsm: Hsm, keystones: Keystones, contacts: Contacts, clock: Callable[[], float]) -> None:
        self._hsm, self._keystones, self._contacts, self._clock = hsm, keystones, contacts, clock

    async def run(self, ops: Sequence[HsmOp], timeout_s: float) -> list[HsmResult]:
        """See `worker.ports.Hsm.run`."""
        outer: dict[int, Kek | None] = {}
        bars: dict[int, HsmFault | None] = {}
        if not _concerned(ops, outer):
            return await self._hsm.run(ops, timeout_s)
        ahead = [self._ahead(op, outer, bars) for op in ops]
        left = [op for op, known in zip(ops, ahead, strict=True) if known is None]
        answers = iter(await self._hsm.run(left, timeout_s))
        return [
            self._after(op, next(answers), outer) if known is None else known
            for op, known in zip(ops, ahead, strict=True)
        ]

    def drop(self, keys: Iterable[UUID] | None) -> None:
        """See `worker.ports.Hsm.drop`."""
        gone = None if keys is None else list(keys)
        self._keystones.dropped(gone)
        self._hsm.drop(gone)

    def condemn(self, versions: Iterable[Condemned]) -> frozenset[Condemned]:
        """See `worker.ports.Hsm.condemn`."""
        return self._hsm.condemn(versions)

    def _ahead(self, op: HsmOp, outer: dict[int, Kek | None], bars: dict[int, HsmFault | None]) -> HsmResult | None:
        """What is known without the token: refusals of the customer, and what was prepared; None: ask the token.

        A link is looked at once in a batch.
        """
        if isinstance(op, CreateLink):
            return self._keystones.take(op)
        if isinstance(op, CreateOutside):
            return self._barred(self._contact(op.outside, op.parent)) or self._keystones.take(op)
        for kek in keks_of(op):
            found = _outermost(kek, outer)
            if found is None or found.outside is None:
                continue
            if id(found) not in bars:
                contact = self._contact(found.outside, found.parent)
                bars[id(found)] = self._barred(contact) or self._keystones.flaw(found)
                self._keystones.use(found)
            refused = bars[id(found)]
            if refused is not None:
                return refused
        return None

    def _after(self, op: HsmOp, result: HsmResult, outer: dict[int, Kek | None]) -> HsmResult:
        if not isinstance(result, HsmFault) or result.fault is not Fault.COLD:
            return result
        why = result
        for kek in keks_of(op):
            found = _outermost(kek, outer)
            if found is not None and found.outside is not None:
                contact = self._contact(found.outside, found.parent)
                why = HsmFault(contact.why_cold(self._clock()), result.detail)
                if why.fault is not Fault.BUSY:
                    self._keystones.open(found, found.outside)
        return why

    def _contact(self, outside: Outside, l1: Kek | None) -> Contact:
        contact = self._contacts.of(outside.link, outside.address, self._clock())
        if l1 is not None:
            contact.keys.add(l1.key)
        return contact

    def _barred(self, contact: Contact) -> HsmFault | None:
        bar = contact.bar(self._clock(), self._contacts.limit_s)
        return None if bar is None else HsmFault(bar, "the customer's keystore")


def _concerned(ops: Sequence[HsmOp], outer: dict[int, Kek | None]) -> bool:
    """Whether any keystore has to do with this batch. Of most none has, and they are looked through quickly."""
    for op in ops:
        if isinstance(op, (WrapDek, UnwrapDek)) and outer.get(id(op.kek), op) is None:
            continue
        if isinstance(op, RewrapDek) and outer.get(id(op.source), op) is outer.get(id(op.target), op) is None:
            continue
        if isinstance(op, CreateLink | CreateOutside) or any(_outermost(kek, outer) for kek in keks_of(op)):
            return True
    return False


def _outermost(kek: Kek, known: dict[int, Kek | None]) -> Kek | None:
    """The KEK at or above this one that a keystore opens. Batches repeat the same objects: each is looked at once."""
    mark = id(kek)
    if mark not in known:
        at: Kek | None = kek
        while at is not None and at.outside is None:
            at = at.parent
        known[mark] = at
    return known[mark]
