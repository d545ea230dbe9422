"""Lost sessions, logged-out and vanished tokens, lying error codes: healed without a restart."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from uuid import uuid4

import pytest

from tests.contract.hsm_rig import (
    AAD,
    DIGEST,
    Chain,
    Shim,
    Watcher,
    chain,
    deks,
    faults,
    flipped,
    generated,
    opened,
    shimmed,
    unwrap,
    works,
)
from worker.edges.hsm import Token, TokenState
from worker.local import Token as LocalToken
from worker.model.hsm import CreatedKey, CreateKey, Fault, HsmFault, Purpose, WrapDek
from worker.ports import TokenUnavailable

DEVICE_ERROR, GENERAL_ERROR, SESSION_INVALID, NOT_LOGGED_IN = 0x30, 0x5, 0xB3, 0x101


@pytest.fixture(scope="module")
def shim(token: LocalToken, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    """The real token behind the shim."""
    with shimmed(token, tmp_path_factory.mktemp("shim")) as made:
        yield made


@pytest.fixture(scope="module")
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture(scope="module")
async def hsm_token(token: LocalToken, shim: Shim, watcher: Watcher) -> AsyncIterator[Token]:
    made = await opened(token, shim.module, watcher)
    yield made
    await made.close()


@pytest.fixture(scope="module")
async def tenant(hsm_token: Token) -> Chain:
    return await chain(hsm_token)


@pytest.mark.parametrize("code", [DEVICE_ERROR, GENERAL_ERROR, SESSION_INVALID, NOT_LOGGED_IN, 0x90, 0x80000123])
@pytest.mark.parametrize("function", ["EncryptInit", "Encrypt", "DecryptInit", "Decrypt", "GenerateRandom"])
async def test_one_failing_call_is_tried_again_and_harms_nobody(
    hsm_token: Token, tenant: Chain, shim: Shim, function: str, code: int
) -> None:
    wrapped = await generated(hsm_token.hsm, tenant.l3, 20)
    epoch = hsm_token._device.epoch
    shim.fail(function, code, every=1)
    made = await hsm_token.hsm.run([WrapDek(tenant.l3, AAD, DIGEST, 32)] * 20, 20)
    assert faults(made) == {}
    assert deks(await hsm_token.hsm.run([unwrap(tenant.l3, one) for one in wrapped], 20)) == [w.dek for w in wrapped]
    assert hsm_token._device.epoch == epoch, "one bad call is no reason to log in again"


@pytest.mark.parametrize("function", ["WrapKey", "UnwrapKey", "GenerateKey"])
async def test_one_failing_call_while_a_key_is_made(hsm_token: Token, tenant: Chain, shim: Shim, function: str) -> None:
    shim.fail(function, DEVICE_ERROR)
    [made] = await hsm_token.hsm.run([CreateKey(tenant.l2, uuid4(), 1, Purpose.WRAPS_DEKS)], 20)
    assert isinstance(made, CreatedKey)


async def test_a_token_that_always_errs_on_bad_bytes_is_not_healed(hsm_token: Token, tenant: Chain) -> None:
    """S9: faults are no weapon."""
    wrapped = await generated(hsm_token.hsm, tenant.l3, 200)
    epoch = hsm_token._device.epoch
    bad = [replace(unwrap(tenant.l3, one), ciphertext=flipped(one.ciphertext)) for one in wrapped]
    assert faults(await hsm_token.hsm.run(bad, 20)) == dict.fromkeys(range(200), Fault.BAD_CIPHERTEXT)
    broken = replace(tenant.l3, wrapped=flipped(tenant.l3.wrapped), revision=99)
    assert faults(await hsm_token.hsm.run([WrapDek(broken, AAD, DIGEST, 32)], 20)) == {0: Fault.INTEGRITY}
    assert hsm_token._device.epoch == epoch


async def test_lost_sessions_are_healed(hsm_token: Token, tenant: Chain, shim: Shim, watcher: Watcher) -> None:
    epoch = hsm_token._device.epoch
    for _ in range(3):
        shim.lose_sessions()
        await works(hsm_token, tenant)
    assert hsm_token._device.epoch >= epoch + 3
    assert watcher.states[-2:] == [TokenState.HEALING, TokenState.READY]


async def test_a_lost_session_alone_is_replaced(hsm_token: Token, tenant: Chain) -> None:
    epoch = hsm_token._device.epoch
    await hsm_token.hsm.call(lambda crew: crew.session.close(), 10)
    await works(hsm_token, tenant)
    assert hsm_token._device.epoch == epoch


async def test_a_token_that_is_away_is_waited_for(hsm_token: Token, tenant: Chain, shim: Shim) -> None:
    wrapped = await generated(hsm_token.hsm, tenant.l3, 20)
    shim.down_file.touch()
    results = await hsm_token.hsm.run([unwrap(tenant.l3, one) for one in wrapped], 0.3)
    assert faults(results) == dict.fromkeys(range(20), Fault.UNAVAILABLE)
    assert hsm_token.state is TokenState.HEALING
    with pytest.raises(TokenUnavailable):
        await hsm_token.hsm.call(lambda _: None, 0.1)
    waiting = asyncio.create_task(hsm_token.hsm.run([unwrap(tenant.l3, one) for one in wrapped], 30))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    shim.down_file.unlink()
    assert deks(await waiting) == [one.dek for one in wrapped]
    await works(hsm_token, tenant)


async def test_a_failing_login_is_tried_again(hsm_token: Token, tenant: Chain, shim: Shim) -> None:
    shim.fail("Login", DEVICE_ERROR, times=3)
    shim.lose_sessions()
    await works(hsm_token, tenant)
    assert shim.count("Login") >= 4


async def test_finalize_and_initialize_happen_only_when_logging_in_does_not_help(
    hsm_token: Token, tenant: Chain, shim: Shim
) -> None:
    """Under load: every blob unwraps under its own KEK afterwards, though handle numbers begin at 1 again."""
    other = await chain(hsm_token)
    epoch, stop = hsm_token._device.epoch, asyncio.Event()
    blobs = [(kek, one) for kek in (tenant.l3, other.l3) for one in await generated(hsm_token.hsm, kek, 50)]
    wrong: list[object] = []

    async def load() -> None:
        while not stop.is_set():
            results = await hsm_token.hsm.run([unwrap(kek, one) for kek, one in blobs], 10)
            wrong.extend(
                result
                for result, (_, one) in zip(results, blobs, strict=True)
                if result != HsmFault(Fault.UNAVAILABLE, "not done in time") and deks([result]) != [one.dek]
            )

    loads = [asyncio.create_task(load()) for _ in range(4)]
    initialized = shim.count("Initialize")
    for _ in range(3):
        # The first login attempt of a healing fails: the healer then finalises, initialises and logs in again.
        before = hsm_token._device.epoch
        shim.fail("Login", DEVICE_ERROR)
        shim.lose_sessions()
        async with asyncio.timeout(60):
            while hsm_token._device.epoch == before or not hsm_token.healthy:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
    stop.set()
    await asyncio.gather(*loads)
    assert wrong == []
    assert hsm_token._device.epoch >= epoch + 3
    assert shim.count("Initialize") == initialized + 3
    await works(hsm_token, tenant)
    await works(hsm_token, other)
