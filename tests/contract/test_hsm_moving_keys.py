"""A key that goes from one parent to another inside the token (S6): the same key, and nothing of it left behind."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.contract.hsm_rig import (
    AnyToken,
    Chain,
    chain,
    child,
    count,
    deks,
    faults,
    flipped,
    generated,
    opened,
    unwrap,
)
from worker.edges.hsm import Token
from worker.edges.hsm.fake import FakeToken
from worker.model.hsm import CreatedKey, Fault, HsmResult, Kek, Purpose, RewrapKey


@pytest.fixture(scope="module", params=["fake", "softhsm", "kryoptic"])
async def token(request: pytest.FixtureRequest) -> AsyncIterator[AnyToken]:
    made = FakeToken() if request.param == "fake" else await opened(request.getfixturevalue(request.param))
    yield made
    await made.close()


@pytest.fixture(scope="module")
async def tenant(token: AnyToken) -> Chain:
    return await chain(token)


def moving(kek: Kek, target: Kek, wrapped: bytes | None = None) -> RewrapKey:
    assert kek.parent is not None
    return RewrapKey(
        kek.parent, kek.key, kek.version, kek.purpose, kek.wrapping, kek.wrapped if wrapped is None else wrapped, target
    )


def moved(kek: Kek, target: Kek, result: HsmResult) -> Kek:
    assert isinstance(result, CreatedKey), result
    return replace(kek, wrapped=result.wrapped, wrapping=result.wrapping, parent=target, revision=kek.revision + 1)


async def test_a_service_key_and_a_tenant_key_open_what_they_wrapped(token: AnyToken, tenant: Chain) -> None:
    made = await generated(token.hsm, tenant.l3, 5)
    # a service key goes under another tenant key
    other = await child(token.hsm, tenant.l1, Purpose.WRAPS_KEYS)
    [result] = await token.hsm.run([moving(tenant.l3, other)], 20)
    l3 = moved(tenant.l3, other, result)
    assert l3.wrapped != tenant.l3.wrapped
    opened_ = await token.hsm.run([unwrap(l3, one) for one in made], 20)
    assert deks(opened_) == [one.dek for one in made]
    # and that one goes under another master key, with all that hangs on it
    upper = await chain(token)
    [result] = await token.hsm.run([moving(other, upper.l1)], 20)
    below = replace(l3, parent=moved(other, upper.l1, result), revision=l3.revision + 1)
    assert deks(await token.hsm.run([unwrap(below, one) for one in made], 20)) == [one.dek for one in made]


async def test_damaged_bytes_are_refused_and_their_neighbours_move(token: AnyToken, tenant: Chain) -> None:
    others = [await child(token.hsm, tenant.l2, Purpose.WRAPS_DEKS) for _ in range(3)]
    target = await child(token.hsm, tenant.l1, Purpose.WRAPS_KEYS)
    ops = [moving(one, target) for one in others]
    ops[1] = moving(others[1], target, flipped(others[1].wrapped))
    results = await token.hsm.run([*ops], 20)
    assert set(faults(results)) == {1}
    assert faults(results)[1] in (Fault.INTEGRITY, Fault.BAD_CIPHERTEXT)
    for place in (0, 2):
        assert len(await generated(token.hsm, moved(others[place], target, results[place]), 1)) == 1


async def test_a_key_is_not_moved_under_one_that_wraps_deks(token: AnyToken, tenant: Chain) -> None:
    other = await child(token.hsm, tenant.l2, Purpose.WRAPS_DEKS)
    [result] = await token.hsm.run([moving(other, tenant.l3)], 20)
    assert not isinstance(result, CreatedKey)


async def test_no_object_is_left_behind(token: AnyToken, tenant: Chain) -> None:
    if not isinstance(token, Token):
        return  # a fake has no objects
    target = await child(token.hsm, tenant.l1, Purpose.WRAPS_KEYS)
    keys = [await child(token.hsm, tenant.l2, Purpose.WRAPS_DEKS) for _ in range(4)]
    await token.hsm.run([moving(keys[0], target)], 20)  # the parents' handles are open now
    before = await count(token)
    ops = [moving(one, target) for one in keys]
    await token.hsm.run([*ops, moving(keys[1], target, flipped(keys[1].wrapped))], 20)
    assert await count(token) == before
