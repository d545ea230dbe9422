"""KEK handles (S8): bounded, aged, dropped with all below them, and never another object's."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from tests.contract.hsm_rig import (
    AAD,
    DIGEST,
    Chain,
    chain,
    child,
    count,
    counts,
    deks,
    faults,
    generated,
    keeper_of,
    opened,
    unwrap,
)
from worker.edges.hsm import HsmConfig, Pin, Token
from worker.edges.hsm import keeper as keeper_module
from worker.edges.hsm.crew import Crew
from worker.edges.hsm.keeper import Entry
from worker.local import Token as LocalToken
from worker.model.hsm import Condemned, Fault, Kek, Purpose, WrapDek


@pytest.fixture(scope="module")
async def hsm_token(token: LocalToken) -> AsyncIterator[Token]:
    made = await opened(token)
    yield made
    await made.close()


@pytest.fixture(scope="module")
async def tenant(hsm_token: Token) -> Chain:
    return await chain(hsm_token)


async def test_dropped_handles_are_destroyed_at_once(hsm_token: Token, tenant: Chain) -> None:
    """Invariant 4."""
    await generated(hsm_token.hsm, tenant.l3, 1)
    before, open_now = await count(hsm_token), len(keeper_of(hsm_token))
    hsm_token.hsm.drop([tenant.l2.key, tenant.l3.key, uuid4()])
    assert len(keeper_of(hsm_token)) == open_now - 2
    await counts(hsm_token, before - 2)
    assert len(await generated(hsm_token.hsm, tenant.l3, 3)) == 3


async def test_dropping_a_key_drops_all_below_it(hsm_token: Token) -> None:
    """The red button on an L1 must leave no open handle under it."""
    tenant = await chain(hsm_token)
    await generated(hsm_token.hsm, tenant.l3, 1)
    before, open_now = await count(hsm_token), len(keeper_of(hsm_token))
    hsm_token.hsm.drop([tenant.l1.key])
    assert len(keeper_of(hsm_token)) == open_now - 3
    await counts(hsm_token, before - 2)  # the L1 itself is a token object


async def test_a_key_dropped_while_it_is_opened_is_not_kept(hsm_token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    before = await count(hsm_token)
    tenant = await chain(hsm_token)
    keeper = keeper_of(hsm_token)
    hsm_token.hsm.drop([tenant.l1.key])
    await counts(hsm_token, before + 1)
    open_now = len(keeper)
    unwrap_key = keeper._unwrap

    def dropped_meanwhile(kek: Kek, wrapped: bytes, parent: Entry, crew: Crew) -> Entry:
        keeper.drop([tenant.l3.key])
        return unwrap_key(kek, wrapped, parent, crew)

    monkeypatch.setattr(keeper, "_unwrap", dropped_meanwhile)
    assert len(await generated(hsm_token.hsm, tenant.l3, 1)) == 1
    assert len(keeper) == open_now + 1, "the L1, which was found before"
    await counts(hsm_token, before + 1)


async def test_the_cache_is_bounded_and_what_it_evicts_is_destroyed(token: LocalToken, hsm_token: Token) -> None:
    tenant = await chain(hsm_token)
    keks = [await child(hsm_token.hsm, tenant.l2, Purpose.WRAPS_DEKS) for _ in range(40)]
    keeper = keeper_of(hsm_token)
    keeper._limit = 16
    try:
        wrapped = [(await generated(hsm_token.hsm, kek, 1))[0] for kek in keks]
        assert len(keeper) == 16
        # One batch may use more KEKs than the cache holds.
        pairs = list(zip(keks, wrapped, strict=True))
        assert deks(await hsm_token.hsm.run([unwrap(kek, one) for kek, one in pairs], 20)) == [w.dek for w in wrapped]
        assert len(keeper) == 16
    finally:
        keeper._limit = 4096


async def test_an_old_handle_is_opened_again(hsm_token: Token, tenant: Chain) -> None:
    await generated(hsm_token.hsm, tenant.l3, 1)
    keeper = keeper_of(hsm_token)
    name = (tenant.l3.key, 1, 1)
    first = keeper._entries[name]
    first.born -= 10_000
    [one] = await generated(hsm_token.hsm, tenant.l3, 1)
    assert keeper._entries[name] is not first
    assert deks(await hsm_token.hsm.run([unwrap(tenant.l3, one)], 20)) == [one.dek]


async def test_a_handle_that_is_another_object_is_an_integrity_fault_and_forgotten(
    hsm_token: Token, tenant: Chain
) -> None:
    """S8: a stale handle names another tenant's KEK; its CKA_ID gives it away."""
    other = await chain(hsm_token)
    await generated(hsm_token.hsm, other.l3, 1)
    await generated(hsm_token.hsm, tenant.l3, 1)
    keeper = keeper_of(hsm_token)
    mine, theirs = keeper._entries[tenant.l3.key, 1, 1], keeper._entries[other.l3.key, 1, 1]
    right, mine.handles = mine.handles, theirs.handles
    assert faults(await hsm_token.hsm.run([WrapDek(tenant.l3, AAD, DIGEST, 32)], 20)) == {0: Fault.INTEGRITY}
    assert keeper._entries[other.l3.key, 1, 1] is theirs
    assert len(await generated(hsm_token.hsm, tenant.l3, 1)) == len(await generated(hsm_token.hsm, other.l3, 1)) == 1
    assert keeper._entries[other.l3.key, 1, 1] is theirs, "its object was not destroyed"
    await hsm_token.hsm.call(lambda crew: crew.session.destroy(right[0]), 10)


async def test_a_handle_whose_object_vanished_is_opened_again(hsm_token: Token, tenant: Chain) -> None:
    await generated(hsm_token.hsm, tenant.l3, 1)
    gone = keeper_of(hsm_token)._entries[tenant.l3.key, 1, 1].handle
    await hsm_token.hsm.call(lambda crew: crew.session.destroy(gone), 10)
    assert len(await generated(hsm_token.hsm, tenant.l3, 3)) == 3


async def test_a_revision_is_a_key_of_the_cache(hsm_token: Token, tenant: Chain) -> None:
    await generated(hsm_token.hsm, tenant.l3, 1)
    changed = replace(tenant.l3, revision=50, wrapped=bytes(40))
    assert faults(await hsm_token.hsm.run([WrapDek(changed, AAD, DIGEST, 32)], 20)) == {0: Fault.INTEGRITY}


def condemned(kek: Kek) -> Condemned:
    return Condemned(kek.key, kek.version, kek.revision)


async def until_gone(token: Token, *keks: Kek) -> None:
    """Ask until no handle is left: burying is a pool thread's work."""
    wanted = frozenset(condemned(kek) for kek in keks)
    async with asyncio.timeout(60):
        while token.hsm.condemn(wanted) != wanted:
            await asyncio.sleep(0.01)


async def test_a_condemned_version_goes_with_all_below_it_and_opens_no_more(hsm_token: Token) -> None:
    """S15: a worker's word that it has no handle of it stays true."""
    tenant = await chain(hsm_token)
    [one] = await generated(hsm_token.hsm, tenant.l3, 1)
    before = await count(hsm_token)
    await until_gone(hsm_token, tenant.l2)
    assert await count(hsm_token) == before - 2
    for kek in (tenant.l3, tenant.l2):
        assert not keeper_of(hsm_token)._is_condemned(tenant.l1)
        assert keeper_of(hsm_token)._is_condemned(kek)
    assert faults(await hsm_token.hsm.run([unwrap(tenant.l3, one)], 20)) == {0: Fault.UNAVAILABLE}
    assert await count(hsm_token) == before - 2
    # A destruction that was cancelled made a new revision, and that one opens.
    upper = replace(tenant.l2, revision=2)
    assert deks(await hsm_token.hsm.run([unwrap(replace(tenant.l3, parent=upper), one)], 20)) == [one.dek]


async def test_a_handle_in_use_is_not_gone(hsm_token: Token) -> None:
    tenant = await chain(hsm_token)
    await generated(hsm_token.hsm, tenant.l3, 1)
    answers: list[object] = []

    def asked_in_the_middle(crew: Crew) -> None:
        keeper = keeper_of(hsm_token)
        held = keeper.hold(tenant.l3, crew)
        answers.extend(keeper.condemn([condemned(tenant.l3), condemned(tenant.l1)])[0])
        keeper.release(held, crew)

    await hsm_token.hsm.call(asked_in_the_middle, 10)
    assert answers == []
    await until_gone(hsm_token, tenant.l3, tenant.l1)


async def test_a_handle_that_is_just_being_opened_is_not_gone_and_not_kept(
    hsm_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await chain(hsm_token)
    keeper = keeper_of(hsm_token)
    before, unwrap_key = await count(hsm_token), keeper._unwrap
    answers: list[frozenset[Condemned]] = []

    def condemned_meanwhile(kek: Kek, wrapped: bytes, parent: Entry, crew: Crew) -> Entry:
        if kek.key == tenant.l3.key:
            answers.append(keeper.condemn([condemned(tenant.l3)])[0])
        return unwrap_key(kek, wrapped, parent, crew)

    monkeypatch.setattr(keeper, "_unwrap", condemned_meanwhile)
    assert len(await generated(hsm_token.hsm, tenant.l3, 1)) == 1
    assert answers == [frozenset()]
    await until_gone(hsm_token, tenant.l3)
    assert await count(hsm_token) == before


async def test_all_handles_are_dropped_at_once(hsm_token: Token, tenant: Chain) -> None:
    await generated(hsm_token.hsm, tenant.l3, 1)
    assert hsm_token.hsm.handles >= 3
    hsm_token.hsm.drop(None)
    assert len(keeper_of(hsm_token)) == 0
    async with asyncio.timeout(60):
        while hsm_token.hsm.handles:
            await asyncio.sleep(0.01)
    assert len(await generated(hsm_token.hsm, tenant.l3, 1)) == 1


async def test_only_the_newest_condemned_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "_REMEMBERED", 2)
    keeper = keeper_module.Keeper(HsmConfig(module=Path("m"), fleet="dev-t", pin=Pin("1"), label="l"))
    ones = [Condemned(uuid4(), 1, 1) for _ in range(3)]
    assert keeper.condemn(ones[:2]) == (frozenset(ones[:2]), False)
    assert keeper.condemn(ones[2:]) == (frozenset(ones[2:]), False)
    assert len(keeper._condemned) == 2
    assert (ones[2].key, 1) in keeper._condemned
