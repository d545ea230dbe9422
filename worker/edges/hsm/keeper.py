"""KEK handles (SECURITY S8): opened along the chain on the keeper session, bounded, aged, and never of another epoch.

`hold` gives a handle whose CKA_ID was just read back; `release` lets it go. An entry that is dropped, evicted or too
old leaves the cache at once, and its object is destroyed when its last holder has gone.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from threading import Lock
from typing import Final
from uuid import UUID

from worker.edges.hsm import templates
from worker.edges.hsm.ck import CKA_ID, CKO_SECRET_KEY, Blame, CkError
from worker.edges.hsm.config import HsmConfig
from worker.edges.hsm.crew import Crew
from worker.edges.hsm.masters import check_master
from worker.model.hsm import Condemned, Fault, HsmFault, Kek, Purpose, Wrapping

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine sleeps, where the system has such a clock."""

_WRAPPED_BYTES: Final = 40
"""An AES-256 key under AES-KW or AES-KWP."""

_OF_TOKEN: Final = (Wrapping.TOKEN, Wrapping.EXTERNAL)
"""What is a token object: an L1, or the inner key of a link to one (S13)."""

_NOT_OURS: Final = -1
"""The epoch of an entry whose handle turned out to be another object: it must not be destroyed."""

_REMEMBERED: Final = 10_000
"""So many condemned versions are refused here; of older ones the state is known to every batch long since."""

Name = tuple[UUID, int, int]


def _name(kek: Kek) -> Name:
    return kek.key, kek.version, kek.revision


def _line(kek: Kek | None) -> Iterator[Kek]:
    """The KEK and all above it."""
    while kek is not None:
        yield kek
        kek = kek.parent


class Refused(Exception):
    """A KEK that can't be opened or is not what it should be."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(detail)
        self.fault = HsmFault(fault, detail)


@dataclass(slots=True, eq=False)
class Entry:
    """One open KEK. A token object may have twins (made by racing creators); all of them are tried when unwrapping."""

    kek: Kek
    handles: tuple[int, ...]
    epoch: int
    born: float = field(default_factory=lambda: time.clock_gettime(_CLOCK))
    holders: int = 0
    doomed: bool = False

    @property
    def handle(self) -> int:
        """The object to use."""
        return self.handles[0]

    @property
    def name(self) -> Name:
        """Under which the cache keeps it."""
        return _name(self.kek)

    @property
    def identity(self) -> bytes:
        """What its CKA_ID must be."""
        return templates.key_id(self.kek.key, self.kek.version)

    @property
    def of_token(self) -> bool:
        """Whether the object outlives its handle, and must not be destroyed with it."""
        return self.kek.wrapping in _OF_TOKEN


class Keeper:
    """The cache of one token's KEK handles. Thread-safe."""

    def __init__(self, config: HsmConfig) -> None:
        self._limit, self._age = config.handles, config.handle_age_s
        self._book = Lock()
        """Guards what follows; never held during a call to the token."""
        self._entries: OrderedDict[Name, Entry] = OrderedDict()
        self._graves: list[Entry] = []
        self._living: set[Entry] = set()
        """Every entry whose object is there: cached, in use, or not yet buried."""
        self._condemned: OrderedDict[tuple[UUID, int], int] = OrderedDict()
        """The revision up to which a version is not opened any more."""
        self._under_way: Kek | None = None
        self._drops = 0
        """How often something was dropped."""
        self._opening = Lock()
        """Held while a chain is opened: single flight, and the keeper session has one user."""

    def hold(self, kek: Kek, crew: Crew) -> Entry:
        """The KEK, open and with its CKA_ID read back. Raises `Refused` or `Away`; `release` it afterwards."""
        for _ in range(2):
            drops = self._drops
            entry = self._cached(kek, crew.device.epoch) or self._open(kek, crew, drops)
            try:
                if crew.session.attribute(entry.handle, CKA_ID) == entry.identity and entry.kek.purpose is kek.purpose:
                    return entry
            except CkError as error:
                self._forget(entry)
                if error.blame is not Blame.HANDLE:
                    crew.confirm(error)
            else:
                entry.epoch = _NOT_OURS
                self._forget(entry)
                raise Refused(Fault.INTEGRITY, f"the handle of {kek.key} version {kek.version} is another object's")
        crew.device.distrust("KEK handles vanish")
        raise Refused(Fault.UNAVAILABLE, f"the handle of {kek.key} version {kek.version} vanishes")

    def release(self, entry: Entry, crew: Crew) -> None:
        """The holder is done; buries what died meanwhile."""
        with self._book:
            self._let_go(entry)
        self.bury(crew)

    def admit(self, kek: Kek, inner: bytes, crew: Crew) -> None:
        """Keep a KEK that only a customer's keystore could bring so far (S13), in the place of an older handle of it.

        Raises `Refused` or `Away`. `inner` is compared with the digest of the row before the token sees it.
        """
        drops = self._drops
        if kek.outside is None or not compare_digest(sha256(inner).digest(), kek.outside.digest):
            raise Refused(Fault.INTEGRITY, f"what the keystore gave is not {kek.key} version {kek.version}")
        parent = self._parent(kek, inner, crew)
        try:
            with self._beginning(kek):
                entry = self._enter(self._unwrap(kek, inner, parent, crew), drops)
        finally:
            self.release(parent, crew)
        self.release(entry, crew)

    def drop(self, keys: Iterable[UUID] | None) -> bool:
        """Forget every version of these keys and of all keys below them (None: all); whether some are to be buried.

        Never calls the token.
        """
        gone = None if keys is None else set(keys)
        with self._book:
            self._drops += 1
            for entry in list(self._entries.values()):
                if gone is None or any(kek.key in gone for kek in _line(entry.kek)):
                    self._expel(entry)
            return bool(self._graves)

    def condemn(self, versions: Iterable[Condemned]) -> tuple[frozenset[Condemned], bool]:
        """See `Hsm.condemn`: those of which nothing is left, and whether there is something to bury."""
        asked = frozenset(versions)
        with self._book:
            for one in asked:
                place = one.key, one.version
                known = self._condemned.pop(place, -1)
                self._condemned[place] = max(one.revision, known)
                self._drops += one.revision > known  # whatever is just being opened is not kept
            while len(self._condemned) > _REMEMBERED:
                self._condemned.popitem(last=False)
            for entry in [entry for entry in self._entries.values() if self._is_condemned(entry.kek)]:
                self._expel(entry)
            keks = [entry.kek for entry in self._living]
            opened = {(kek.key, kek.version) for one in (*keks, self._under_way) for kek in _line(one)}
            gone = frozenset(one for one in asked if (one.key, one.version) not in opened)
            return gone, bool(self._graves)

    def bury(self, crew: Crew) -> None:
        """Destroy the objects of entries that nobody holds any more."""
        with self._book:
            graves, self._graves = self._graves, []
        for entry in graves:
            if entry.epoch == crew.device.epoch and not entry.of_token:
                with suppress(CkError):
                    crew.session.destroy(entry.handle)
            with self._book:
                self._living.discard(entry)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def living(self) -> int:
        """How many KEKs have a handle, those that are dropped but in use included."""
        return len(self._living)

    # The book.

    def _cached(self, kek: Kek, epoch: int) -> Entry | None:
        name = _name(kek)
        with self._book:
            entry = self._entries.get(name)
            if entry is None:
                return None
            if entry.epoch != epoch:
                self._entries.clear()
                self._living = {one for one in self._living if one.epoch == epoch}  # the others' objects died
                return None
            if time.clock_gettime(_CLOCK) - entry.born > self._age:
                self._expel(entry)
                return None
            self._entries.move_to_end(name)
            entry.holders += 1
            return entry

    def _expel(self, entry: Entry) -> None:
        if self._entries.get(entry.name) is entry:
            del self._entries[entry.name]
        if not entry.doomed:
            entry.doomed = True
            if not entry.holders:
                self._graves.append(entry)

    def _let_go(self, entry: Entry) -> None:
        entry.holders -= 1
        if entry.doomed and not entry.holders:
            self._graves.append(entry)

    def _forget(self, entry: Entry) -> None:
        with self._book:
            self._expel(entry)
            self._let_go(entry)

    def _enter(self, entry: Entry, drops: int) -> Entry:
        with self._book:
            self._living.add(entry)
            entry.holders = 1
            if drops != self._drops:
                # Perhaps dropped while it was opened: good for the batch that asked, and not kept.
                entry.doomed = True
                return entry
            older = self._entries.get(entry.name)
            if older is not None:
                self._expel(older)
            self._entries[entry.name] = entry
            while len(self._entries) > self._limit:
                self._expel(next(iter(self._entries.values())))
        return entry

    def _is_condemned(self, kek: Kek) -> bool:
        return any(one.revision <= self._condemned.get((one.key, one.version), -1) for one in _line(kek))

    # Opening.

    def _open(self, kek: Kek, crew: Crew, drops: int) -> Entry:
        if kek.wrapping in _OF_TOKEN:
            with self._beginning(kek):
                return self._cached(kek, crew.device.epoch) or self._enter(self._find(kek, crew), drops)
        if kek.outside is not None:
            raise Refused(Fault.COLD, f"{kek.key} version {kek.version} waits for its customer's keystore")
        parent = self._parent(kek, kek.wrapped, crew)
        try:
            with self._beginning(kek):
                cached = self._cached(kek, crew.device.epoch)
                return cached or self._enter(self._unwrap(kek, kek.wrapped, parent, crew), drops)
        finally:
            self.release(parent, crew)

    def _parent(self, kek: Kek, wrapped: bytes, crew: Crew) -> Entry:
        """What unwraps it, held. Under a link's inner key stands only what a keystore has wrapped once more."""
        if kek.parent is None or kek.parent.purpose is not Purpose.WRAPS_KEYS:
            raise Refused(Fault.INTEGRITY, f"{kek.key} version {kek.version} has no parent that wraps keys")
        if (kek.parent.wrapping is Wrapping.EXTERNAL) is not (kek.outside is not None):
            raise Refused(Fault.INTEGRITY, f"{kek.key} version {kek.version} and its parent disagree on a keystore")
        if len(wrapped) != _WRAPPED_BYTES:
            raise Refused(Fault.INTEGRITY, f"{kek.key} version {kek.version} has not the length of a wrapped key")
        return self.hold(kek.parent, crew)

    @contextmanager
    def _beginning(self, kek: Kek) -> Iterator[None]:
        """Open it alone, unless it is condemned: from the look at the book on it counts as open, so none slips by."""
        with self._opening:
            with self._book:
                if self._is_condemned(kek):
                    raise Refused(Fault.UNAVAILABLE, f"{kek.key} version {kek.version} goes, or one above it does")
                self._under_way = kek
            try:
                yield
            finally:
                self._under_way = None

    def _find(self, kek: Kek, crew: Crew) -> Entry:
        if kek.serial != crew.device.info.serial:
            raise Refused(Fault.ELSEWHERE, f"{kek.key} is bound to the token {kek.serial}")
        identity = templates.key_id(kek.key, kek.version)
        try:
            handles = crew.find(templates.by_label(CKO_SECRET_KEY, kek.material.hex if kek.material else ""))
            for handle in handles:
                if flaw := check_master(crew.session, handle, identity):
                    raise Refused(Fault.INTEGRITY, f"token object {kek.material}: {flaw}")
        except CkError as error:
            crew.confirm(error)
            raise Refused(Fault.UNAVAILABLE, str(error)) from error
        if not handles:
            raise Refused(Fault.INTEGRITY, f"the token has no object labelled {kek.material}")
        return Entry(kek, tuple(handles), crew.device.epoch)

    def _unwrap(self, kek: Kek, wrapped: bytes, parent: Entry, crew: Crew) -> Entry:
        abilities = crew.device.abilities
        if kek.wrapping not in abilities.wrapping:
            raise Refused(Fault.UNSUPPORTED, f"the token has no {kek.wrapping}")
        identity = templates.key_id(kek.key, kek.version)
        template = templates.kek(kek.purpose, identity, abilities.mechanisms(kek.purpose))
        wrappers = parent.handles
        for _ in range(2):
            for wrapper in wrappers:
                try:
                    keeper, mechanism = crew.device.keeper, abilities.wrapping[kek.wrapping]
                    handle = keeper.unwrap(mechanism, wrapper, wrapped, template)
                except CkError as error:
                    failed = error
                else:
                    return Entry(kek, (handle,), crew.device.epoch)
            if failed.blame is Blame.ABILITY:
                break
            if failed.blame is Blame.UNSURE:
                crew.confirm(failed)
            if parent.of_token and kek.parent is not None:
                # A twin may have come since the parent was found.
                wrappers = self._find(kek.parent, crew).handles
        fault = {Blame.ABILITY: Fault.UNSUPPORTED, Blame.HANDLE: Fault.UNAVAILABLE}.get(failed.blame, Fault.INTEGRITY)
        raise Refused(fault, f"{kek.key} version {kek.version} does not unwrap under its parent: {failed}")
