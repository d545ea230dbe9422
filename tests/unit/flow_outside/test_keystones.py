"""Keystores beside the token (SECURITY S13): nothing waits for one, nothing is open that its customer took back."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from uuid import uuid4

import pytest

from worker.edges.hsm.fake import FakeToken
from worker.edges.keystores.fake import FakeKeystore, FakeKeystores
from worker.flow.contact import FORGET_S, Contacts
from worker.flow.keystones import KEPT_S, REFRESH_S, Keystones
from worker.flow.outside import KeystoresBeside
from worker.model.hsm import (
    Condemned,
    CreatedKey,
    CreatedMaster,
    CreateKey,
    CreateLink,
    CreateMaster,
    CreateOutside,
    Fault,
    HsmFault,
    HsmOp,
    HsmResult,
    Kek,
    Outside,
    Purpose,
    RewrapDek,
    UnwrapDek,
    UnwrappedDek,
    WrapDek,
    WrappedDek,
    Wrapping,
)
from worker.model.keystores import (
    KeystoreAddress,
    KeystoreKey,
    KeystoreThrottled,
    KeystoreUnreachable,
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
        self.stones = Keystones(self.token.hsm, self.stores, self.contacts, PROBE_S, self.clock)
        self.hsm = KeystoresBeside(self.token.hsm, self.stones, self.contacts, self.clock)

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


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    await made.stones.close()


# Cold and open.


async def test_a_cold_key_opens_in_the_background_and_the_same_request_succeeds_later(rig: Rig) -> None:
    acme = await house(rig)
    wrapped = await acme.wrapped()
    acme.rig = other = rig.restarted()
    acme.store.go.clear()
    assert await other.fault(acme.unwrap(wrapped)) is Fault.COLD
    await other.settled()
    assert acme.store.waiting == 1
    assert await other.fault(acme.unwrap(wrapped)) is Fault.COLD, "asked twice, opened once"
    await other.settled()
    assert acme.store.waiting == 1
    acme.store.go.set()
    await other.settled()
    assert await other.one(acme.unwrap(wrapped)) == UnwrappedDek(wrapped.dek, DIGEST)
    await other.stones.close()


async def test_a_batch_never_calls_a_keystore_even_if_every_call_would_hang(rig: Rig) -> None:
    acme = await house(rig)
    plain = Kek(uuid4(), 1, 1, Purpose.WRAPS_KEYS, Wrapping.TOKEN, material=uuid4(), serial=rig.token.serial)
    assert plain.material is not None
    await rig.run(CreateMaster(plain.key, 1, plain.material))
    rig.token.hsm.drop([acme.l1.key])
    acme.store.go.clear()
    ops: list[HsmOp] = [acme.wrap(), CreateKey(plain, uuid4(), 1, Purpose.WRAPS_DEKS), acme.wrap()]
    results = await rig.run(*ops)
    assert [type(one) for one in results] == [HsmFault, CreatedKey, HsmFault]
    acme.store.go.set()


async def test_a_rewrap_between_two_tenants_opens_both(rig: Rig) -> None:
    one, two = await house(rig, "k1"), await house(rig, "k2")
    wrapped = await one.wrapped()
    rig.token.hsm.drop(None)
    op = RewrapDek(one.l3, AAD, wrapped.nonce, wrapped.ciphertext, two.l3, AAD)
    assert await rig.fault(op) is Fault.COLD
    await rig.settled()
    assert isinstance(await rig.one(op), WrappedDek)


@pytest.mark.parametrize(
    "edit",
    [
        lambda l2: replace(l2, wrapped=l2.wrapped[:-1] + bytes([l2.wrapped[-1] ^ 1])),
        lambda l2: replace(l2, outside=replace(l2.outside, aad=b"another place")),
        lambda l2: replace(l2, outside=replace(l2.outside, digest=sha256(b"another blob").digest())),
    ],
    ids=["outer", "place", "digest"],
)
async def test_what_is_not_the_rows_is_integrity_and_is_not_asked_for_again_and_again(rig: Rig, edit: object) -> None:
    acme = await house(rig)
    assert callable(edit)
    bad = replace(acme.l3, parent=replace(edit(acme.l2), revision=2))
    op = WrapDek(bad, AAD, DIGEST, 32)
    assert await rig.fault(op) is Fault.COLD
    await rig.settled()
    calls = acme.store.calls
    assert [await rig.fault(op) for _ in range(3)] == [Fault.INTEGRITY] * 3
    assert acme.store.calls == calls
    assert isinstance(await acme.wrapped(), WrappedDek), "its neighbour is well"


async def test_a_handle_in_use_is_opened_anew_before_it_is_too_old(rig: Rig) -> None:
    acme = await house(rig)
    await acme.wrapped()
    await rig.turn(1)
    await acme.wrapped()
    calls = acme.store.calls
    await rig.turn(REFRESH_S + 1)
    assert acme.store.calls > calls
    assert isinstance(await rig.one(acme.wrap()), WrappedDek)
    # One that nobody used since is left to its age
    for _ in range(2):
        await rig.turn(REFRESH_S + 1)
    acme.store.enabled = False
    assert acme.store.waiting == 0


# What was prepared.


async def test_a_key_is_made_outside_the_batch_and_used_once(rig: Rig) -> None:
    acme = await house(rig)
    op = CreateOutside(acme.l1, uuid4(), 1, Purpose.WRAPS_KEYS, replace(acme.l2.outside or _none(), digest=b""))
    assert await rig.fault(op) is Fault.COLD
    await rig.settled()
    first = await rig.one(op)
    assert isinstance(first, CreatedKey)
    assert len(first.digest) == 32
    assert await rig.fault(op) is Fault.COLD, "what was given once is not given again"
    await rig.settled()
    second = await rig.one(op)
    assert isinstance(second, CreatedKey)
    assert second.digest != first.digest


def _none() -> Outside:
    raise AssertionError("it is outside")


async def test_what_nobody_fetches_is_forgotten(rig: Rig) -> None:
    op = CreateLink(address(), uuid4(), 1, uuid4())
    assert await rig.fault(op) is Fault.COLD
    await rig.settled()
    await rig.turn(KEPT_S + 1)
    assert await rig.fault(op) is Fault.COLD


async def test_no_inner_blob_is_kept(rig: Rig) -> None:
    acme = await house(rig)
    await acme.wrapped()
    inner = await acme.store.decrypt(acme.l2.wrapped, b"bound")
    assert sha256(inner).digest() == (acme.l2.outside or _none()).digest
    assert inner not in repr(vars(rig.stones)).encode()
    assert inner.hex() not in repr(vars(rig.stones))


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        ("off", Fault.FORBIDDEN),
        ("gone", Fault.FORBIDDEN),
        ("away", Fault.UNREACHABLE),
        ("busy", Fault.BUSY),
        ("liar", Fault.UNFIT),
        ("unknown", Fault.UNFIT),
        ("token", Fault.UNAVAILABLE),
    ],
)
async def test_a_link_is_tried_before_it_is_made(rig: Rig, spoil: str, fault: Fault) -> None:
    where = replace(address(), credential="nobody") if spoil == "unknown" else address()
    op = CreateLink(where, uuid4(), 1, uuid4())
    if spoil != "unknown":
        store = rig.stores.of(where)
        store.enabled, store.exists = spoil != "off", spoil != "gone"
        store.fault = {"away": KeystoreUnreachable("away"), "busy": KeystoreThrottled("busy", 1.0)}.get(spoil)
        if spoil == "liar":
            store.decrypt = _lies  # type: ignore[assignment, method-assign]
    assert await rig.fault(op) is Fault.COLD
    rig.token.away = spoil == "token"
    await rig.settled()
    rig.token.away = False
    assert await rig.fault(op) is fault
    assert not rig.token.masters, "no inner key for a link that is not"


async def _lies(_ciphertext: bytes, _aad: bytes) -> bytes:
    return bytes(40)


@pytest.mark.parametrize(
    ("spoil", "fault"), [("away", Fault.UNREACHABLE), ("liar", Fault.INTEGRITY), ("token", Fault.UNAVAILABLE)]
)
async def test_a_key_whose_outer_wrap_fails_is_not_made(rig: Rig, spoil: str, fault: Fault) -> None:
    acme = await house(rig)
    op = CreateOutside(acme.l1, uuid4(), 1, Purpose.WRAPS_KEYS, replace(acme.l2.outside or _none(), digest=b""))
    assert await rig.fault(op) is Fault.COLD
    acme.store.fault = KeystoreUnreachable("away") if spoil == "away" else None
    if spoil == "liar":
        acme.store.decrypt = _lies  # type: ignore[assignment, method-assign]
    rig.token.away = spoil == "token"
    await rig.settled()
    rig.token.away = False
    assert await rig.fault(op) is fault


# The customer's cut.


async def test_a_customer_who_switches_his_key_off_is_obeyed_within_a_probe_and_its_turn(rig: Rig) -> None:
    acme = await house(rig)
    wrapped = await acme.wrapped()
    await rig.turn(PROBE_S * 2)
    acme.store.enabled = False
    await rig.turn(PROBE_S * 1.3)
    assert await rig.fault(acme.unwrap(wrapped)) is Fault.FORBIDDEN
    await rig.turn()
    assert acme.l1.key in rig.token.hsm.dropped
    assert await rig.fault(acme.unwrap(wrapped)) is Fault.FORBIDDEN
    # until he allows it again
    acme.store.enabled = True
    for _ in range(3):
        await rig.turn(PROBE_S * 1.3)
    assert await rig.insisting(acme.unwrap(wrapped)) == UnwrappedDek(wrapped.dek, DIGEST)


async def test_a_key_that_is_on_but_may_not_decrypt_is_forbidden_too(rig: Rig) -> None:
    acme = await house(rig)
    wrapped = await acme.wrapped()
    await rig.turn(PROBE_S * 2)
    described = await acme.store.describe()
    acme.store.exists = False
    acme.store.describe = lambda: _said(described)  # type: ignore[method-assign]
    await rig.turn(PROBE_S * 1.3)
    assert await rig.fault(acme.unwrap(wrapped)) is Fault.FORBIDDEN


async def _said(what: KeystoreKey) -> KeystoreKey:
    return what


async def test_without_contact_for_the_sovereign_limit_everything_is_refused_by_the_clock_alone(rig: Rig) -> None:
    acme = await house(rig)
    wrapped = await acme.wrapped()
    acme.store.fault = KeystoreUnreachable("away")
    await rig.turn(LIMIT_S / 2)
    assert isinstance(await rig.one(acme.unwrap(wrapped)), UnwrappedDek), "a short outage is bridged"
    rig.clock.now += LIMIT_S  # and no duty runs: the machine slept
    assert await rig.fault(acme.unwrap(wrapped)) is Fault.UNREACHABLE
    await rig.turn()
    assert acme.l1.key in rig.token.hsm.dropped
    acme.store.fault = None
    for _ in range(3):
        await rig.turn(PROBE_S * 1.3)
    assert await rig.insisting(acme.unwrap(wrapped)) == UnwrappedDek(wrapped.dek, DIGEST)


async def test_keys_under_a_barred_link_are_neither_made_nor_opened(rig: Rig) -> None:
    acme = await house(rig)
    await acme.wrapped()
    acme.store.enabled = False
    await rig.turn(PROBE_S * 2)
    calls = acme.store.calls
    op = CreateOutside(acme.l1, uuid4(), 1, Purpose.WRAPS_KEYS, acme.l2.outside or _none())
    assert await rig.fault(op) is Fault.FORBIDDEN
    assert await rig.fault(CreateKey(acme.l2, uuid4(), 1, Purpose.WRAPS_DEKS)) is Fault.FORBIDDEN
    await rig.settled()
    assert acme.store.calls == calls


async def test_an_answer_that_was_on_its_way_when_he_said_no_opens_nothing(rig: Rig) -> None:
    acme = await house(rig)
    wrapped = await acme.wrapped()
    rig.token.hsm.drop([acme.l1.key])
    acme.store.go.clear()
    assert await rig.fault(acme.unwrap(wrapped)) is Fault.COLD
    await rig.settled()
    (contact,) = rig.contacts.due(1e9)
    rig.clock.now += 0.1
    contact.forbade(rig.clock.now)
    acme.store.go.set()
    await rig.settled()
    assert await rig.fault(acme.unwrap(wrapped)) is Fault.FORBIDDEN


async def test_a_drop_while_it_is_opened_leaves_it_cold(rig: Rig) -> None:
    acme = await house(rig)
    wrapped = await acme.wrapped()
    rig.hsm.drop([acme.l1.key])
    for gone in ([acme.l1.key], None):
        acme.store.go.clear()
        assert await rig.fault(acme.unwrap(wrapped)) is Fault.COLD
        await rig.settled()
        rig.hsm.drop(gone)
        acme.store.go.set()
        await rig.settled()
        assert await rig.fault(acme.unwrap(wrapped)) is Fault.COLD
        await rig.settled()
        rig.hsm.drop([acme.l1.key])
    rig.hsm.drop([uuid4()])
    assert isinstance(await rig.insisting(acme.unwrap(wrapped)), UnwrappedDek)


async def test_a_throttling_keystore_is_left_alone_for_as_long_as_it_asks(rig: Rig) -> None:
    acme = await house(rig)
    wrapped = await acme.wrapped()
    rig.token.hsm.drop([acme.l1.key])
    acme.store.fault = KeystoreThrottled("later", 3.0)
    assert await rig.fault(acme.unwrap(wrapped)) is Fault.COLD
    await rig.settled()
    acme.store.fault, calls = None, acme.store.calls
    assert await rig.fault(acme.unwrap(wrapped)) is Fault.BUSY
    await rig.turn(1)
    assert acme.store.calls == calls, "not even a probe"
    rig.clock.now += 3
    assert isinstance(await rig.insisting(acme.unwrap(wrapped)), UnwrappedDek)


async def test_a_cold_key_whose_keystore_does_not_answer_says_so(rig: Rig) -> None:
    acme = await house(rig)
    wrapped = await acme.wrapped()
    acme.rig = other = rig.restarted()
    acme.store.fault = KeystoreUnreachable("away")
    assert await other.fault(acme.unwrap(wrapped)) is Fault.COLD
    await other.settled()
    assert await other.fault(acme.unwrap(wrapped)) is Fault.UNREACHABLE
    acme.store.fault = None
    await other.settled()
    assert isinstance(await other.insisting(acme.unwrap(wrapped)), UnwrappedDek)
    await other.stones.close()


async def test_one_dead_keystore_slows_none_of_twenty_living_ones(rig: Rig) -> None:
    houses = [await house(rig, f"k{number}") for number in range(21)]
    wrapped = [await one.wrapped() for one in houses]
    rig.token.hsm.drop(None)
    dead = houses[0].store
    dead.go.clear()  # it takes every call and answers none
    ops = [one.unwrap(each) for one, each in zip(houses, wrapped, strict=True)]
    for _ in range(10):
        results = await rig.run(*ops)
        await rig.turn(PROBE_S)  # probes of the dead one hang as well
    assert [type(one) for one in results] == [HsmFault, *[UnwrappedDek] * 20]
    assert dead.waiting <= 4, "and what hangs is bounded"
    dead.go.set()


async def test_a_customers_rotation_outside_is_noticed_and_breaks_nothing(rig: Rig) -> None:
    acme = await house(rig)
    await acme.wrapped()
    await rig.turn(PROBE_S * 2)
    acme.store.rotate()
    await rig.turn(PROBE_S * 2)
    (contact,) = rig.contacts.due(1e9)
    assert contact.version == "2"
    # Even one after which the old version is gone
    acme.store._versions[:-1] = [acme.store._versions[-1]] * (len(acme.store._versions) - 1)
    await rig.turn(PROBE_S * 2)
    assert contact.probe is None, "the probe was of the old key"
    await rig.turn(PROBE_S * 2)
    assert contact.probe is not None


async def test_a_link_that_nobody_uses_is_forgotten_and_probed_no_more(rig: Rig) -> None:
    acme = await house(rig)
    await acme.wrapped()
    for _ in range(3):
        await rig.turn(FORGET_S / 2 + 1)
    calls = acme.store.calls
    await rig.turn(PROBE_S * 2)
    assert acme.store.calls == calls
    assert rig.contacts.due(1e9) == []


# The port.


async def test_condemning_and_dropping_reach_the_token(rig: Rig) -> None:
    one = Condemned(uuid4(), 1, 1)
    assert rig.hsm.condemn([one]) == {one}
    rig.hsm.drop([one.key])
    assert rig.token.hsm.dropped[-1:] == [one.key]


async def test_a_keystore_that_fails_in_an_unknown_way_is_logged_and_harms_nobody(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    acme = await house(rig)
    rig.token.hsm.drop([acme.l1.key])
    acme.store.decrypt = _breaks  # type: ignore[assignment, method-assign]
    assert await rig.fault(acme.wrap()) is Fault.COLD
    await rig.settled()
    assert "work with a keystore failed" in caplog.text
    assert await rig.fault(acme.wrap()) is Fault.COLD


async def _breaks(_ciphertext: bytes, _aad: bytes) -> bytes:
    raise RuntimeError("a fault of ours")
