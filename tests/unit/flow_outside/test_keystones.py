"""Keystores beside the token (SECURITY S13): nothing waits for one, and nothing is kept that must not be."""

from dataclasses import replace
from hashlib import sha256
from uuid import uuid4

import pytest

from tests.unit.flow_outside.outer import AAD, DIGEST, Rig, address, house, no_outside
from worker.flow.keystones import KEPT_S, REFRESH_S
from worker.model.hsm import (
    Condemned,
    CreatedKey,
    CreateKey,
    CreateLink,
    CreateMaster,
    CreateOutside,
    Fault,
    HsmFault,
    HsmOp,
    Kek,
    Purpose,
    RewrapDek,
    UnwrappedDek,
    WrapDek,
    WrappedDek,
    Wrapping,
)
from worker.model.keystores import (
    KeystoreThrottled,
    KeystoreUnreachable,
)

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
    op = CreateOutside(acme.l1, uuid4(), 1, Purpose.WRAPS_KEYS, replace(acme.l2.outside or no_outside(), digest=b""))
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
    assert sha256(inner).digest() == (acme.l2.outside or no_outside()).digest
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
    op = CreateOutside(acme.l1, uuid4(), 1, Purpose.WRAPS_KEYS, replace(acme.l2.outside or no_outside(), digest=b""))
    assert await rig.fault(op) is Fault.COLD
    acme.store.fault = KeystoreUnreachable("away") if spoil == "away" else None
    if spoil == "liar":
        acme.store.decrypt = _lies  # type: ignore[assignment, method-assign]
    rig.token.away = spoil == "token"
    await rig.settled()
    rig.token.away = False
    assert await rig.fault(op) is fault


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
