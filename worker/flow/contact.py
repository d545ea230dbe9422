"""What one process knows of each customer's keystore: when it was last heard of, and whether it says no (S13). No I/O.

Times are seconds of CLOCK_BOOTTIME: a machine that slept has lost contact. Whoever has not heard of a keystore for the
sovereign time limit is barred from its tenant's keys, whatever anybody else hears; what it learns is never shared.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from worker.model.hsm import Fault
from worker.model.keystores import KeystoreAddress

FORGET_S = 900.0
"""A link without requests for so long is forgotten: by then every handle under it is too old to be used."""


AT_ONCE = 4
"""Calls to one keystore in flight; more wait, each behind its own keystore's only."""


@dataclass(slots=True)
class Probe:
    """Random bytes that a keystore encrypted, to be decrypted again and again."""

    text: bytes = field(repr=False)
    sealed: bytes


@dataclass(slots=True)
class Contact:
    """One link. `heard` is when the last call began that the customer answered as he should; None: never yet."""

    link: UUID
    address: KeystoreAddress
    keys: set[UUID] = field(default_factory=set)
    """The L1 keys whose handles go when the contact does."""
    heard: float | None = None
    forbidden_at: float | None = None
    failed_at: float | None = None
    used: float = 0.0
    next_probe: float = 0.0
    not_before: float = 0.0
    """The keystore asked not to be called before."""
    version: str = ""
    """Of the customer's key, as his keystore said last."""
    is_news: bool = False
    """Whether the version was seen to be another one, and nobody was told yet."""
    told: Fault | None = None
    """What was made known of it last: changes are logged, and drop handles."""
    probe: Probe | None = None
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def bar(self, now: float, limit_s: float) -> Fault | None:
        """Why nothing under this link may be used now; None while it may."""
        if self.forbidden_at is not None:
            return Fault.FORBIDDEN
        if self.heard is not None and now - self.heard > limit_s:
            return Fault.UNREACHABLE
        return None

    def why_cold(self, now: float) -> Fault:
        """What to say of a key that is not open: that it opens, or why it can't just now."""
        if self.failed_at is not None:
            return Fault.UNREACHABLE
        return Fault.BUSY if now < self.not_before else Fault.COLD

    def answered(self, began: float) -> None:
        """The customer answered a call that began then. One that began before he said no takes nothing back."""
        if self.forbidden_at is not None and began <= self.forbidden_at:
            return
        self.heard = began if self.heard is None else max(self.heard, began)
        self.forbidden_at = self.failed_at = None

    def saw(self, version: str) -> None:
        """His key has this version now. A first look is news, too: it may have changed while nobody looked."""
        self.is_news = self.is_news or version != self.version
        self.version = version

    def forbade(self, now: float) -> None:
        """The customer said no."""
        self.forbidden_at = now

    def failed(self, now: float) -> None:
        """Nobody answered."""
        self.failed_at = now


class Contacts:
    """All links that this process has to do with."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._known: dict[UUID, Contact] = {}

    def of(self, link: UUID, address: KeystoreAddress, now: float) -> Contact:
        """The link's contact, used now."""
        contact = self._known.get(link)
        if contact is None or contact.address != address:
            contact = self._known[link] = Contact(link, address)
        contact.used = now
        return contact

    def turned(self, now: float) -> Iterator[tuple[Contact, Fault | None]]:
        """Those that were barred or freed since the last look, each once. Forgets what nobody uses any more."""
        for contact in list(self._known.values()):
            bar = contact.bar(now, self.limit_s)
            if bar is not contact.told:
                contact.told = bar
                yield contact, bar
            if now - contact.used > FORGET_S:
                del self._known[contact.link]

    def barred(self) -> Mapping[Fault, int]:
        """How many links are barred, by why, as of the last `turned`."""
        return Counter(contact.told for contact in self._known.values() if contact.told is not None)

    def news(self) -> list[Contact]:
        """Those whose key has another version than before."""
        return [contact for contact in self._known.values() if contact.is_news]

    def due(self, now: float) -> list[Contact]:
        """Those whose probe is due."""
        return [contact for contact in self._known.values() if now >= max(contact.next_probe, contact.not_before)]
