"""HYOK in the token (SECURITY S13): what only a customer's keystore can bring is opened from its inner blob, or not."""

from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from uuid import UUID, uuid4

import pytest

from tests.contract.hsm_rig import (
    AAD,
    DIGEST,
    AnyToken,
    child,
    count,
    deks,
    faults,
    flipped,
    generated,
    master,
    opened,
    unwrap,
)
from worker.edges.hsm import Token
from worker.edges.hsm.fake import FakeToken
from worker.model.hsm import (
    CreatedKey,
    CreateKey,
    CreateLink,
    CreateOutside,
    DestroyedMaster,
    DestroyMaster,
    Fault,
    HsmOp,
    Kek,
    OpenedKey,
    OpenKey,
    Outside,
    Purpose,
    RewrapKey,
    WrapDek,
    Wrapping,
)
from worker.model.keystores import KeystoreAddress, Provider

ADDRESS = KeystoreAddress(Provider.XKS, "https://keys.example", "k1", "acme")
OUTER = b"only the customer's keystore opens this"


@pytest.fixture(scope="module", params=["fake", "softhsm", "kryoptic"])
async def token(request: pytest.FixtureRequest) -> AsyncIterator[AnyToken]:
    made = FakeToken() if request.param == "fake" else await opened(request.getfixturevalue(request.param))
    yield made
    await made.close()


@pytest.fixture
async def l1(token: AnyToken) -> Kek:
    """A customer's L1: in this token is only its link's inner key."""
    return replace(await master(token.hsm, token.serial), wrapping=Wrapping.EXTERNAL)


async def inner_of(token: AnyToken, l1: Kek) -> tuple[Kek, bytes]:
    """A layer 2 key that is cold still, and its inner blob."""
    key = uuid4()
    [made] = await token.hsm.run([CreateKey(l1, key, 1, Purpose.WRAPS_KEYS, inner=True)], 20)
    assert isinstance(made, CreatedKey), made
    outside = Outside(l1.key, ADDRESS, b"tenant, key, version", sha256(made.wrapped).digest())
    kek = Kek(key, 1, 1, Purpose.WRAPS_KEYS, made.wrapping, OUTER, l1, outside=outside)
    return kek, made.wrapped


async def test_what_the_keystore_holds_is_cold_until_its_inner_blob_comes(token: AnyToken, l1: Kek) -> None:
    l2, inner = await inner_of(token, l1)
    assert faults(await token.hsm.run([CreateKey(l2, uuid4(), 1, Purpose.WRAPS_DEKS)], 20)) == {0: Fault.COLD}
    assert await token.hsm.run([OpenKey(l2, inner)], 20) == [OpenedKey()]
    l3 = await child(token.hsm, l2, Purpose.WRAPS_DEKS)
    wrapped = await generated(token.hsm, l3, 3)
    assert deks(await token.hsm.run([unwrap(l3, one) for one in wrapped], 20)) == [one.dek for one in wrapped]


async def test_a_drop_of_the_l1_leaves_everything_below_it_cold(token: AnyToken, l1: Kek) -> None:
    l2, inner = await inner_of(token, l1)
    await token.hsm.run([OpenKey(l2, inner)], 20)
    l3 = await child(token.hsm, l2, Purpose.WRAPS_DEKS)
    [wrapped] = await generated(token.hsm, l3, 1)
    token.hsm.drop([l1.key])
    assert faults(await token.hsm.run([unwrap(l3, wrapped)], 20)) == {0: Fault.COLD}
    await token.hsm.run([OpenKey(l2, inner)], 20)
    assert deks(await token.hsm.run([unwrap(l3, wrapped)], 20)) == [wrapped.dek]


async def test_an_inner_blob_that_is_not_the_rows_never_reaches_the_token(token: AnyToken, l1: Kek) -> None:
    l2, inner = await inner_of(token, l1)
    _, other = await inner_of(token, l1)
    bad = [flipped(inner), other, b"", inner[:-1], inner + b"\0"]
    assert faults(await token.hsm.run([OpenKey(l2, one) for one in bad], 20)) == dict.fromkeys(
        range(len(bad)), Fault.INTEGRITY
    )
    assert faults(await token.hsm.run([WrapDek(l2, AAD, DIGEST, 32)], 20)).keys() == {0}
    # A digest that fits bytes which are no wrapped key does not help either
    [garbage] = [replace(l2, outside=replace(l2.outside, digest=sha256(bytes(40)).digest()))]  # type: ignore[type-var]
    assert faults(await token.hsm.run([OpenKey(garbage, bytes(40))], 20)) == {0: Fault.INTEGRITY}


def _without_keystore(l2: Kek, inner: bytes, _: UUID) -> Kek:
    return replace(l2, outside=None, wrapped=inner)


def _under_a_plain_l1(l2: Kek, inner: bytes, _: UUID) -> Kek:
    assert l2.parent is not None
    return replace(l2, parent=replace(l2.parent, wrapping=Wrapping.TOKEN))


def _under_another_link(l2: Kek, inner: bytes, other: UUID) -> Kek:
    assert l2.parent is not None
    return replace(l2, parent=replace(l2.parent, material=other))


@pytest.mark.parametrize("edit", [_without_keystore, _under_a_plain_l1, _under_another_link])
async def test_a_row_that_says_otherwise_opens_nothing(token: AnyToken, l1: Kek, edit: object) -> None:
    l2, inner = await inner_of(token, l1)
    other = await master(token.hsm, token.serial)
    assert callable(edit)
    edited = edit(l2, inner, other.material)
    token.hsm.drop([l1.key])  # what is open already is of this revision, and stays right
    assert faults(await token.hsm.run([OpenKey(edited, inner)], 20)) == {0: Fault.INTEGRITY}
    answered = faults(await token.hsm.run([CreateKey(edited, uuid4(), 1, Purpose.WRAPS_DEKS)], 20))
    assert answered.keys() == {0}


async def test_a_wrong_keystores_key_is_made_neither_with_nor_without_the_word(token: AnyToken, l1: Kek) -> None:
    plain = await master(token.hsm, token.serial)
    ops: list[HsmOp] = [
        CreateKey(l1, uuid4(), 1, Purpose.WRAPS_KEYS),
        CreateKey(plain, uuid4(), 1, Purpose.WRAPS_KEYS, inner=True),
        CreateOutside(l1, uuid4(), 1, Purpose.WRAPS_KEYS, Outside(l1.key, ADDRESS, b"")),
        CreateLink(ADDRESS, uuid4(), 1, uuid4()),
        RewrapKey(plain, uuid4(), 1, Purpose.WRAPS_KEYS, Wrapping.AES_KWP, bytes(40), l1),
        RewrapKey(l1, uuid4(), 1, Purpose.WRAPS_KEYS, Wrapping.AES_KWP, bytes(40), plain),
    ]
    assert faults(await token.hsm.run(ops, 20)) == dict.fromkeys(range(6), Fault.UNSUPPORTED)


async def test_without_the_inner_key_the_customers_answer_opens_nothing(token: AnyToken, l1: Kek) -> None:
    l2, inner = await inner_of(token, l1)
    assert l1.material is not None
    assert await token.hsm.run([DestroyMaster(l1.key, 1, l1.material, l1.serial)], 20) == [DestroyedMaster(1)]
    token.hsm.drop([l1.key])
    assert faults(await token.hsm.run([OpenKey(l2, inner)], 20)) == {0: Fault.INTEGRITY}


async def test_opening_again_replaces_the_handle_and_leaves_none_behind(token: AnyToken, l1: Kek) -> None:
    if not isinstance(token, Token):
        return  # no objects to count
    l2, inner = await inner_of(token, l1)
    await token.hsm.run([OpenKey(l2, inner)], 20)
    before = await count(token)
    assert await token.hsm.run([OpenKey(l2, inner)] * 5, 20) == [OpenedKey()] * 5
    assert await count(token) == before


def test_an_inner_blob_is_in_no_repr() -> None:
    assert "secret" not in repr(OpenKey(Kek(uuid4(), 1, 1, Purpose.WRAPS_KEYS, Wrapping.AES_KWP), b"secret"))
