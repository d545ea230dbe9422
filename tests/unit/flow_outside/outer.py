"""One process with keystores beside its token, on fakes, and a clock that only moves when it is told."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from uuid import uuid4

from worker.edges.hsm.fake import FakeToken
from worker.edges.keystores.fake import FakeKeystore, FakeKeystores
from worker.flow.contact import Contacts
from worker.flow.keystones import Keystones
from worker.flow.outside import KeystoresBeside
from worker.model.hsm import (
    CreatedKey,
    CreatedMaster,
    CreateKey,
    CreateLink,
    CreateOutside,
    Fault,
    HsmFault,
    HsmOp,
    HsmResult,
    Kek,
    Outside,
    Purpose,
    UnwrapDek,
    WrapDek,
    WrappedDek,
    Wrapping,
)
from worker.model.keystores import (
    KeystoreAddress,
    Provider,
)

LIMIT_S, PROBE_S = 60.0, 5.0
AAD, DIGEST = b"aad", bytes(32)
COLD = HsmFault(Fault.COLD)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Slow(FakeKeystore):
    """Answers when it may."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.go = asyncio.Event()
        self.go.set()
        self.waiting = 0

    async def decrypt(self, ciphertext: bytes, aad: bytes) -> bytes:
        self.waiting += 1
        await self.go.wait()
        self.waiting -= 1
        return await super().decrypt(ciphertext, aad)


class Slows(FakeKeystores):
    """All of them are."""

    def of(self, where: KeystoreAddress) -> Slow:
        found = self._open.get(where)
        if found is None:
            super().of(where)  # knows the credential, or refuses
            found = self._open[where] = Slow(where.key)
        assert isinstance(found, Slow)
        return found


@dataclass
class Rig:
    """One process: its token, its keystores, and a clock that only moves when it is told."""

    clock: Clock = field(default_factory=Clock)
    token: FakeToken = field(default_factory=FakeToken)
    stores: Slows = field(default_factory=lambda: Slows(["acme"]))

    def __post_init__(self) -> None:
        self.contacts = Contacts(LIMIT_S)
        self.stones = Keystones(self.token.hsm, self.stores, self.contacts, PROBE_S, self.clock, self)
        self.hsm = KeystoresBeside(self.token.hsm, self.stones, self.contacts, self.clock)

    def barred(self, links: Mapping[Fault, int]) -> None:
        """See `worker.flow.keystones.LinkWatch`."""
        self.refuses = dict(links)

    def restarted(self) -> "Rig":
        """Another process at the same token and keystores, with nothing open."""
        other = Rig(self.clock, self.token, self.stores)
        self.token.hsm.drop(None)
        return other

    async def run(self, *ops: HsmOp) -> list[HsmResult]:
        return await self.hsm.run(ops, 1.0)

    async def one(self, op: HsmOp) -> HsmResult:
        (result,) = await self.run(op)
        return result

    async def fault(self, op: HsmOp) -> Fault:
        result = await self.one(op)
        assert isinstance(result, HsmFault), result
        return result.fault

    async def settled(self) -> None:
        """Let the background do what it can."""
        for _ in range(50):
            await asyncio.sleep(0)

    async def turn(self, seconds: float = 0.0) -> None:
        self.clock.now += seconds
        await self.stones.turn()
        await self.settled()

    async def insisting(self, op: HsmOp) -> HsmResult:
        """As a client that sends the same request again."""
        for _ in range(5):
            result = await self.one(op)
            if not (isinstance(result, HsmFault) and result.fault is Fault.COLD):
                return result
            await self.settled()
        return result


@dataclass
class House:
    """A tenant whose L1 stays in its keystore, down to an L3."""

    rig: Rig
    store: Slow
    l1: Kek
    l2: Kek
    l3: Kek

    def wrap(self) -> WrapDek:
        return WrapDek(self.l3, AAD, DIGEST, 32)

    def unwrap(self, wrapped: WrappedDek) -> UnwrapDek:
        return UnwrapDek(self.l3, AAD, wrapped.nonce, wrapped.ciphertext)

    async def wrapped(self) -> WrappedDek:
        made = await self.rig.insisting(self.wrap())
        assert isinstance(made, WrappedDek), made
        return made


def address(name: str = "k1") -> KeystoreAddress:
    return KeystoreAddress(Provider.XKS, "https://keys.example", name, "acme")


async def house(rig: Rig, name: str = "k1") -> House:
    key, material, link = uuid4(), uuid4(), uuid4()
    linked = await rig.insisting(CreateLink(address(name), key, 1, material))
    assert linked == CreatedMaster(rig.token.serial, "1")
    l1 = Kek(key, 1, 1, Purpose.WRAPS_KEYS, Wrapping.EXTERNAL, material=material, serial=rig.token.serial)
    outside = Outside(link, address(name), b"bound")
    l2_id = uuid4()
    made = await rig.insisting(CreateOutside(l1, l2_id, 1, Purpose.WRAPS_KEYS, outside))
    assert isinstance(made, CreatedKey), made
    l2 = Kek(
        l2_id,
        1,
        1,
        Purpose.WRAPS_KEYS,
        made.wrapping,
        made.wrapped,
        l1,
        outside=replace(outside, digest=made.digest),
    )
    l3_id = uuid4()
    below = await rig.insisting(CreateKey(l2, l3_id, 1, Purpose.WRAPS_DEKS))
    assert isinstance(below, CreatedKey), below
    l3 = Kek(l3_id, 1, 1, Purpose.WRAPS_DEKS, below.wrapping, below.wrapped, l2)
    return House(rig, rig.stores.of(address(name)), l1, l2, l3)


def no_outside() -> Outside:
    raise AssertionError("it is outside")
