"""What every token must do, the fake one too: the ports `Hsm` and `FleetKeys`."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import get_args
from uuid import uuid4

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from tests.contract.hsm_rig import (
    AAD,
    DIGEST,
    AnyToken,
    Chain,
    chain,
    child,
    deks,
    faults,
    flipped,
    generated,
    opened,
    unwrap,
)
from worker.edges.hsm.fake import FakeToken
from worker.model.fleet import FleetKind
from worker.model.hsm import (
    CreatedFleetKey,
    CreatedKey,
    CreatedMaster,
    CreateFleetKey,
    CreateKey,
    CreateLink,
    CreateMaster,
    CreateOutside,
    DestroyedMaster,
    DestroyMaster,
    Fault,
    HsmOp,
    Kek,
    OpenKey,
    Purpose,
    RewrapDek,
    RewrapKey,
    UnwrapDek,
    UnwrappedDek,
    WrapDek,
    WrappedDek,
    Wrapping,
)
from worker.model.import_ops import CreateImportPair, DestroyImportPair, ImportMaster


@pytest.fixture(scope="module", params=["fake", "softhsm", "kryoptic"])
async def token(request: pytest.FixtureRequest) -> AsyncIterator[AnyToken]:
    made = FakeToken() if request.param == "fake" else await opened(request.getfixturevalue(request.param))
    yield made
    await made.close()


@pytest.fixture(scope="module")
async def tenant(token: AnyToken) -> Chain:
    return await chain(token)


@pytest.mark.parametrize("size", [16, 24, 32])
async def test_generated_deks_unwrap_with_their_digest_and_none_is_like_another(
    token: AnyToken, tenant: Chain, size: int
) -> None:
    made = await token.hsm.run([WrapDek(tenant.l3, AAD, DIGEST, size)] * 50, 20)
    wrapped = [one for one in made if isinstance(one, WrappedDek)]
    assert len({one.dek for one in wrapped}) == len({one.nonce for one in wrapped}) == 50
    assert {len(one.dek) for one in wrapped} == {size}
    back = await token.hsm.run([unwrap(tenant.l3, one) for one in wrapped], 20)
    assert back == [UnwrappedDek(one.dek, DIGEST) for one in wrapped]


@pytest.mark.parametrize("dek", [bytes(16), bytes(range(64))])
async def test_a_callers_dek_comes_back(token: AnyToken, tenant: Chain, dek: bytes) -> None:
    [wrapped] = await token.hsm.run([WrapDek(tenant.l3, AAD, DIGEST, 0, dek)], 20)
    assert isinstance(wrapped, WrappedDek)
    assert dek not in wrapped.ciphertext
    assert await token.hsm.run([unwrap(tenant.l3, wrapped)], 20) == [UnwrappedDek(dek, DIGEST)]


@pytest.mark.parametrize("dek", [bytes(15), bytes(65)])
async def test_a_dek_of_another_length_is_refused_alone(token: AnyToken, tenant: Chain, dek: bytes) -> None:
    ops = [WrapDek(tenant.l3, AAD, DIGEST, 32), WrapDek(tenant.l3, AAD, DIGEST, 0, dek)]
    assert faults(await token.hsm.run(ops, 20)) == {1: Fault.UNSUPPORTED}


async def test_three_bad_items_among_a_thousand_leave_997(token: AnyToken, tenant: Chain) -> None:
    other = await child(token.hsm, tenant.l2, Purpose.WRAPS_DEKS)
    [foreign] = await generated(token.hsm, other, 1)
    wrapped = await generated(token.hsm, tenant.l3, 1000)
    ops = [unwrap(tenant.l3, one) for one in wrapped]
    ops[0] = replace(ops[0], ciphertext=flipped(ops[0].ciphertext))
    ops[500] = unwrap(tenant.l3, foreign)
    ops[999] = replace(ops[999], aad=AAD + b"!")
    results = await token.hsm.run(ops, 20)
    assert faults(results) == dict.fromkeys((0, 500, 999), Fault.BAD_CIPHERTEXT)
    good = [one.dek if isinstance(one, UnwrappedDek) else None for one in results]
    assert [a == b.dek for a, b in zip(good, wrapped, strict=True)].count(True) == 997


@pytest.mark.parametrize("size", [0, 16, 9999])
@pytest.mark.parametrize("nonce", [bytes(12), b"", bytes(99)])
async def test_lengths_that_no_dek_has_are_bad_ciphertext(
    token: AnyToken, tenant: Chain, nonce: bytes, size: int
) -> None:
    results = await token.hsm.run([UnwrapDek(tenant.l3, AAD, nonce, bytes(size))], 20)
    assert faults(results) == {0: Fault.BAD_CIPHERTEXT}


async def test_rewrap_keeps_dek_and_digest_and_needs_no_context(token: AnyToken, tenant: Chain) -> None:
    target = await child(token.hsm, tenant.l2, Purpose.WRAPS_DEKS)
    wrapped = await generated(token.hsm, tenant.l3, 20)
    ops = [RewrapDek(tenant.l3, AAD, one.nonce, one.ciphertext, target, b"new") for one in wrapped]
    ops[7] = replace(ops[7], ciphertext=flipped(ops[7].ciphertext))
    results = await token.hsm.run(ops, 20)
    assert faults(results) == {7: Fault.BAD_CIPHERTEXT}
    moved = [one for one in results if isinstance(one, WrappedDek)]
    assert {one.dek for one in moved} == {b""}
    back = await token.hsm.run([UnwrapDek(target, b"new", one.nonce, one.ciphertext) for one in moved], 20)
    assert deks(back) == [one.dek for i, one in enumerate(wrapped) if i != 7]
    assert {one.context_digest for one in back if isinstance(one, UnwrappedDek)} == {DIGEST}


async def test_a_rewrap_that_reveals_gives_dek_and_digest_too(token: AnyToken, tenant: Chain) -> None:
    """Lazy rewrap: one operation, so that the DEK of the blob and the one that is told are the same."""
    target = await child(token.hsm, tenant.l2, Purpose.WRAPS_DEKS)
    wrapped = await generated(token.hsm, tenant.l3, 4)
    ops = [RewrapDek(tenant.l3, AAD, one.nonce, one.ciphertext, target, b"new", reveal=True) for one in wrapped]
    ops[1] = replace(ops[1], reveal=False)
    moved = [one for one in await token.hsm.run(ops, 20) if isinstance(one, WrappedDek)]
    back = await token.hsm.run([UnwrapDek(target, b"new", one.nonce, one.ciphertext) for one in moved], 20)
    assert deks(back) == [one.dek for one in wrapped]
    assert [one.dek for one in moved] == [b"" if i == 1 else one.dek for i, one in enumerate(wrapped)]
    assert [one.context_digest for one in moved] == [DIGEST, b"", DIGEST, DIGEST]


async def test_a_chain_of_five_layers_opens(token: AnyToken, tenant: Chain) -> None:
    deep = tenant.l2
    for _ in range(3):
        deep = await child(token.hsm, deep, Purpose.WRAPS_KEYS)
    leaf = await child(token.hsm, deep, Purpose.WRAPS_DEKS)
    wrapped = await generated(token.hsm, leaf, 3)
    token.hsm.drop([deep.key, tenant.l2.key, leaf.key])
    assert deks(await token.hsm.run([unwrap(leaf, one) for one in wrapped], 20)) == [one.dek for one in wrapped]


async def test_a_master_is_made_once_for_its_label(token: AnyToken) -> None:
    key, material = uuid4(), uuid4()
    op = CreateMaster(key, 1, material)
    assert await token.hsm.run([op, op], 20) == [CreatedMaster(token.serial)] * 2
    l1 = Kek(key, 1, 1, Purpose.WRAPS_KEYS, Wrapping.TOKEN, material=material, serial=token.serial)
    leaf = await child(token.hsm, l1, Purpose.WRAPS_DEKS)
    wrapped = await generated(token.hsm, leaf, 1)
    assert await token.hsm.run([op], 20) == [CreatedMaster(token.serial)]
    token.hsm.drop([key, leaf.key])
    assert deks(await token.hsm.run([unwrap(leaf, one) for one in wrapped], 20)) == [one.dek for one in wrapped]


async def test_a_destroyed_master_opens_nothing_any_more(token: AnyToken) -> None:
    key, material = uuid4(), uuid4()
    await token.hsm.run([CreateMaster(key, 1, material)], 20)
    l1 = Kek(key, 1, 1, Purpose.WRAPS_KEYS, Wrapping.TOKEN, material=material, serial=token.serial)
    leaf = await child(token.hsm, l1, Purpose.WRAPS_DEKS)
    wrapped = await generated(token.hsm, leaf, 1)
    assert faults(await token.hsm.run([DestroyMaster(uuid4(), 1, material, token.serial)], 20)) == {0: Fault.INTEGRITY}
    elsewhere = DestroyMaster(key, 1, material, "another-token")
    assert faults(await token.hsm.run([elsewhere], 20)) == {0: Fault.ELSEWHERE}, "not here is not gone"
    token.hsm.drop([key])
    gone = await token.hsm.run([DestroyMaster(key, 1, material, token.serial)] * 2, 20)
    assert gone == [DestroyedMaster(1), DestroyedMaster(0)]
    assert set(faults(await token.hsm.run([unwrap(leaf, one) for one in wrapped], 20))) == {0}


async def test_a_label_that_is_another_keys_is_refused(token: AnyToken) -> None:
    material = uuid4()
    ops = [CreateMaster(uuid4(), 1, material), CreateMaster(uuid4(), 1, material)]
    assert faults(await token.hsm.run(ops, 20)) == {1: Fault.INTEGRITY}


def _swapped_version(tenant: Chain) -> Kek:
    return replace(tenant.l1, version=2)


def _unknown_material(tenant: Chain) -> Kek:
    return replace(tenant.l1, material=uuid4(), revision=2)


def _other_parent(tenant: Chain) -> Kek:
    return replace(tenant.l3, parent=tenant.l1, revision=2)


def _flipped_bytes(tenant: Chain) -> Kek:
    return replace(tenant.l3, wrapped=flipped(tenant.l3.wrapped), revision=3)


def _no_bytes(tenant: Chain) -> Kek:
    return replace(tenant.l3, wrapped=b"", revision=4)


def _no_parent(tenant: Chain) -> Kek:
    return replace(tenant.l3, parent=None, revision=5)


def _parent_that_wraps_deks(tenant: Chain) -> Kek:
    return replace(tenant.l3, parent=tenant.l3, revision=6)


@pytest.mark.parametrize("wrong", [_other_parent, _flipped_bytes, _no_bytes, _no_parent, _parent_that_wraps_deks])
async def test_a_kek_that_is_not_what_its_row_says_is_an_integrity_fault(
    token: AnyToken, tenant: Chain, wrong: object
) -> None:
    assert callable(wrong)
    results = await token.hsm.run([WrapDek(wrong(tenant), AAD, DIGEST, 32), WrapDek(tenant.l3, AAD, DIGEST, 32)], 20)
    assert faults(results) == {0: Fault.INTEGRITY}


@pytest.mark.parametrize("wrong", [_swapped_version, _unknown_material])
async def test_a_master_that_is_not_what_its_row_says_is_an_integrity_fault(
    token: AnyToken, tenant: Chain, wrong: object
) -> None:
    assert callable(wrong)
    results = await token.hsm.run([CreateKey(wrong(tenant), uuid4(), 1, Purpose.WRAPS_DEKS)], 20)
    assert faults(results) == {0: Fault.INTEGRITY}


async def test_a_master_of_another_token_is_refused(token: AnyToken, tenant: Chain) -> None:
    """S19: a region-bound key names the token that may hold its L1."""
    abroad = replace(tenant.l1, serial="elsewhere", revision=9)
    results = await token.hsm.run([CreateKey(abroad, uuid4(), 1, Purpose.WRAPS_DEKS)], 20)
    assert faults(results) == {0: Fault.ELSEWHERE}


async def test_one_purpose_for_life(token: AnyToken, tenant: Chain) -> None:
    """S5: a key that wraps keys encrypts nothing, a key that wraps DEKs wraps no key."""
    ops: list[HsmOp] = [
        WrapDek(tenant.l2, AAD, DIGEST, 32),
        UnwrapDek(tenant.l2, AAD, bytes(12), bytes(81)),
        CreateKey(tenant.l3, uuid4(), 1, Purpose.WRAPS_DEKS),
    ]
    assert faults(await token.hsm.run(ops, 20)) == dict.fromkeys(range(3), Fault.UNSUPPORTED)


async def test_a_mixed_batch_answers_in_order(token: AnyToken, tenant: Chain) -> None:
    [one] = await generated(token.hsm, tenant.l3, 1)
    ops: list[HsmOp] = [
        CreateMaster(uuid4(), 1, uuid4()),
        unwrap(tenant.l3, one),
        CreateKey(tenant.l2, uuid4(), 1, Purpose.WRAPS_DEKS),
        WrapDek(tenant.l3, AAD, DIGEST, 16),
        RewrapDek(tenant.l3, AAD, one.nonce, one.ciphertext, tenant.l3, AAD),
        unwrap(tenant.l3, one),
        DestroyMaster(uuid4(), 1, uuid4(), token.serial),
        RewrapKey(tenant.l2, tenant.l3.key, 1, tenant.l3.purpose, tenant.l3.wrapping, tenant.l3.wrapped, tenant.l2),
        DestroyImportPair(uuid4()),
        CreateFleetKey(FleetKind.INTAKE_WRAP, 9, 0),
    ]
    results = await token.hsm.run(ops, 20)
    assert [type(result) for result in results] == [
        CreatedMaster,
        UnwrappedDek,
        CreatedKey,
        WrappedDek,
        WrappedDek,
        UnwrappedDek,
        DestroyedMaster,
        CreatedKey,
        DestroyedMaster,
        CreatedFleetKey,
    ]
    elsewhere = {OpenKey, CreateOutside, CreateLink, CreateImportPair, ImportMaster}  # test_hsm_outside, _imports
    assert {type(op) for op in ops} == set(get_args(HsmOp)) - elsewhere, "every operation stands in this batch"


async def test_nothing_is_done_without_time_and_an_empty_batch_is_empty(token: AnyToken, tenant: Chain) -> None:
    results = await token.hsm.run([WrapDek(tenant.l3, AAD, DIGEST, 32)] * 3, 0)
    assert faults(results) == dict.fromkeys(range(3), Fault.UNAVAILABLE)
    assert await token.hsm.run([], 1) == []


async def test_the_event_loop_is_never_blocked(token: AnyToken, tenant: Chain, no_blocking: object) -> None:
    wrapped = await generated(token.hsm, tenant.l3, 300)
    token.hsm.drop([tenant.l3.key])
    assert faults(await token.hsm.run([unwrap(tenant.l3, one) for one in wrapped], 20)) == {}
    [mac] = await token.fleet_keys.mac([b"row"])
    assert await token.fleet_keys.verify([b"row"], [mac]) == [True]


async def test_results_betray_no_secret_when_printed(token: AnyToken, tenant: Chain) -> None:
    [one] = await generated(token.hsm, tenant.l3, 1)
    [back] = await token.hsm.run([unwrap(tenant.l3, one)], 20)
    assert isinstance(back, UnwrappedDek)
    assert repr(one.dek) not in repr(one) + repr(back)


# Fleet keys.


async def test_macs_hold_for_their_message_and_version_only(token: AnyToken) -> None:
    keys = token.fleet_keys
    [one, two, long] = await keys.mac([b"one", b"two", bytes(9000)])
    assert len(one.value) == 32
    assert await keys.verify([b"one", b"two", bytes(9000)], [one, two, long]) == [True, True, True]
    assert await keys.verify([b"one", b"two"], [two, replace(two, version=99)]) == [False, False]
    assert await keys.verify([b"one"], [replace(one, value=flipped(one.value))]) == [False]
    assert await keys.verify([b"one"], [replace(one, value=b"")]) == [False]
    assert await keys.mac([]) == []
    assert await keys.verify([], []) == []


async def test_the_fleet_signs_for_whoever_pinned_its_key(token: AnyToken) -> None:
    raw = await token.fleet_keys.sign(b"a certificate")
    assert len(raw) == 64
    point = token.fleet_keys.signing_key
    assert (len(point), point[0]) == (65, 4)
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    der = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    public.verify(der, b"a certificate", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        public.verify(der, b"another", ec.ECDSA(hashes.SHA256()))


async def test_secrets_come_back_under_their_aad_only(token: AnyToken) -> None:
    keys, secret = token.fleet_keys, bytes(range(200)) * 30
    wrapped = await keys.wrap_secret(secret, b"aad")
    assert wrapped[:4] == bytes([0, 0, 0, 1])
    assert wrapped != await keys.wrap_secret(secret, b"aad")
    assert await keys.unwrap_secret(wrapped, b"aad") == secret
    for broken in (flipped(wrapped), wrapped[:-1] + flipped(wrapped[-1:]), wrapped[:31], b""):
        with pytest.raises(ValueError, match="wrap"):
            await keys.unwrap_secret(broken, b"aad")
    with pytest.raises(ValueError, match="unwrap"):
        await keys.unwrap_secret(wrapped, b"other")


async def test_a_token_is_healthy_until_it_is_closed(token: AnyToken) -> None:
    assert token.healthy
    assert token.state == "ready"
