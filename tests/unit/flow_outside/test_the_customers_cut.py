"""What the customer takes back is refused (SECURITY S13), and one dead keystore harms nobody else."""

from dataclasses import replace
from uuid import uuid4

from tests.unit.flow_outside.outer import DIGEST, LIMIT_S, PROBE_S, Rig, house, no_outside
from worker.flow.contact import FORGET_S
from worker.model.hsm import (
    CreateKey,
    CreateOutside,
    Fault,
    HsmFault,
    Purpose,
    UnwrappedDek,
)
from worker.model.keystores import (
    KeystoreKey,
    KeystoreThrottled,
    KeystoreUnreachable,
)

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
    op = CreateOutside(acme.l1, uuid4(), 1, Purpose.WRAPS_KEYS, acme.l2.outside or no_outside())
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
    op = CreateOutside(acme.l1, uuid4(), 1, Purpose.WRAPS_KEYS, replace(acme.l2.outside or no_outside(), digest=b""))
    assert await rig.fault(op) is Fault.COLD
    await rig.settled()
    assert await rig.fault(op) is Fault.BUSY
    assert acme.store.calls == calls, "not even a probe, nor a new key"
    rig.clock.now += 3
    assert isinstance(await rig.insisting(acme.unwrap(wrapped)), UnwrappedDek)


async def test_who_asks_for_hours_of_peace_is_asked_again_all_the_same(rig: Rig) -> None:
    """After the sovereign limit everything is refused until he answers: whoever is never asked never does."""
    acme = await house(rig)
    wrapped = await acme.wrapped()
    acme.store.fault = KeystoreThrottled("later", 9999.0)
    await rig.turn(PROBE_S * 2)
    acme.store.fault, calls = None, acme.store.calls
    await rig.turn(LIMIT_S - 1)
    assert acme.store.calls == calls
    for _ in range(3):
        await rig.turn(PROBE_S * 1.3)
    assert await rig.insisting(acme.unwrap(wrapped)) == UnwrappedDek(wrapped.dek, DIGEST)


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


async def test_who_shreds_his_key_and_makes_another_of_its_name_has_cut(rig: Rig) -> None:
    """The keystore answers and its key is on, but nothing that the old one wrapped ever opens again."""
    acme = await house(rig)
    wrapped = await acme.wrapped()
    await rig.turn(PROBE_S * 2)
    acme.store._versions.clear()
    acme.store.rotate()
    for _ in range(int(LIMIT_S / PROBE_S)):
        await rig.turn(PROBE_S)
    assert acme.l1.key in rig.token.hsm.dropped
    assert await rig.fault(acme.unwrap(wrapped)) is Fault.COLD
    await rig.settled()
    assert await rig.fault(acme.unwrap(wrapped)) is Fault.INTEGRITY


async def test_a_link_that_nobody_uses_is_forgotten_and_probed_no_more(rig: Rig) -> None:
    acme = await house(rig)
    await acme.wrapped()
    for _ in range(3):
        await rig.turn(FORGET_S / 2 + 1)
    calls = acme.store.calls
    await rig.turn(PROBE_S * 2)
    assert acme.store.calls == calls
    assert rig.contacts.due(1e9) == []
