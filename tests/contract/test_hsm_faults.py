"""Lost sessions, logged-out and vanished tokens, lying error codes: healed without a restart."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from uuid import uuid4

import pytest

from tests.contract.hsm_rig import (
    AAD,
    DIGEST,
    Chain,
    Shim,
    chain,
    compiled_shim,
    config,
    deks,
    faults,
    flipped,
    generated,
    opened,
    unwrap,
)
from worker.edges.hsm import HsmConfig, Pin, PinRefused, Token, TokenState, Unobserved, open_token
from worker.edges.hsm.binding import Library
from worker.edges.hsm.crew import Crew
from worker.edges.hsm.session import Session
from worker.local import Token as LocalToken
from worker.model.hsm import CreatedKey, CreateKey, Fault, HsmFault, Purpose, RewrapDek, WrapDek
from worker.ports import TokenUnavailable

DEVICE_ERROR, GENERAL_ERROR, SESSION_INVALID, NOT_LOGGED_IN, REMOVED = 0x30, 0x5, 0xB3, 0x101, 0x32
REPETITIONS = int(os.environ.get("KEYRIVER_HSM_REPETITIONS", "15"))


class Watcher(Unobserved):
    """Remembers what the edge told."""

    def __init__(self) -> None:
        self.states: list[TokenState] = []
        self.busiest = 0
        self.ended: list[tuple[str, int, Fault | None]] = []

    def done(self, operation: str, count: int, seconds: float, fault: Fault | None) -> None:
        assert seconds >= 0
        self.ended.append((operation, count, fault))

    def sessions(self, in_use: int) -> None:
        self.busiest = max(self.busiest, in_use)

    def token(self, state: TokenState, detail: str) -> None:
        assert detail
        self.states.append(state)


@pytest.fixture(scope="module")
def shim(token: LocalToken, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    """The real token behind the shim."""
    folder = tmp_path_factory.mktemp("shim")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHIM_MODULE", str(token.module))
        patch.setenv("SHIM_DOWN_FILE", str(folder / "down"))
        yield Shim(compiled_shim(folder), folder / "down")


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


async def works(token: Token, tenant: Chain) -> None:
    """Wrap and unwrap, and the fleet's keys too."""
    wrapped = await generated(token.hsm, tenant.l3, 20)
    assert deks(await token.hsm.run([unwrap(tenant.l3, one) for one in wrapped], 20)) == [w.dek for w in wrapped]
    [mac] = await token.fleet_keys.mac([b"row"])
    assert await token.fleet_keys.verify([b"row"], [mac]) == [True]


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
        async with asyncio.timeout(20):
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


async def test_eight_busy_threads_beside_bad_items(hsm_token: Token, token: LocalToken, shim: Shim) -> None:
    """Barbican's plugin ends here in a segmentation fault."""
    await hsm_token.close()
    async with Closing(await opened(token, shim.module, sessions=8)) as busy:
        tenant = await chain(busy)
        wrapped = await generated(busy.hsm, tenant.l3, 100)
        good = [unwrap(tenant.l3, one) for one in wrapped]
        mixed = list(good)
        mixed[3] = replace(good[3], ciphertext=flipped(good[3].ciphertext))
        mixed[50] = replace(good[50], aad=b"another tenant's")
        mixed[99] = replace(good[99], nonce=flipped(good[99].nonce))
        epoch = busy._device.epoch
        for _ in range(REPETITIONS):
            batches = await asyncio.gather(*(busy.hsm.run(mixed if n == 3 else good, 30) for n in range(8)))
            for n, results in enumerate(batches):
                bad = dict.fromkeys((3, 50, 99), Fault.BAD_CIPHERTEXT) if n == 3 else {}
                assert faults(results) == bad
        assert busy._device.epoch == epoch
        await works(busy, tenant)


@pytest.fixture
async def reopened(token: LocalToken, shim: Shim, hsm_token: Token) -> None:
    """The module-wide token is closed; a test may open its own on the same module."""
    if hsm_token.state is not TokenState.CLOSED:
        await hsm_token.close()


class Closing:
    """Close a token whatever happens."""

    def __init__(self, token: Token) -> None:
        self._token = token

    async def __aenter__(self) -> Token:
        return self._token

    async def __aexit__(self, *_: object) -> None:
        await self._token.close()


async def test_a_wrong_pin_is_given_once_and_stops_the_whole_fleets_logins(
    token: LocalToken, shim: Shim, reopened: None
) -> None:
    shim.fail("Login", 0, every=1_000_000)
    wrong = replace(config(token, shim.module), pin=Pin("not the PIN"))
    with pytest.raises(PinRefused, match="PIN"):
        await open_token(wrong)
    assert shim.count("Login") == 1
    assert "not the PIN" not in repr(wrong)
    # SoftHSM2 tells everybody that somebody erred; with kryoptic each process finds out for itself.
    if "softhsm" in str(token.module).lower():
        with pytest.raises(PinRefused, match="by hand"):
            await open_token(config(token, shim.module))
        assert shim.count("Login") == 1


async def test_a_healing_that_meets_a_wrong_pin_stops_and_says_so(
    token: LocalToken, shim: Shim, reopened: None, tmp_path: Path
) -> None:
    _log_in_by_hand(token, tmp_path)
    seen = Watcher()
    async with Closing(await opened(token, shim.module, seen)) as made:
        tenant = await chain(made)
        shim.fail("Login", 0xA0, times=1)
        shim.lose_sessions()
        results = await made.hsm.run([WrapDek(tenant.l3, AAD, DIGEST, 32)], 0.5)
        assert faults(results) == {0: Fault.UNAVAILABLE}
        assert seen.states[-1] is made.state is TokenState.PIN_REFUSED
        assert not made.healthy
        assert shim.count("Login") == 1, "a wrong PIN is never given twice"


def _log_in_by_hand(token: LocalToken, folder: Path) -> None:
    """What the operator does after the alarm: one right login clears the token's mark."""
    library = Library(Path(shutil.copy2(token.module, folder / "by-hand.so")))
    library.initialize()
    [slot] = [one.slot for one in library.tokens() if one.label == token.label]
    Session(library, slot).login(token.pin_file.read_text().strip().encode())
    library.finalize()


@pytest.mark.parametrize("mode", ["append", "write"])
async def test_a_token_that_makes_its_own_nonces(
    token: LocalToken, reopened: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Luna in FIPS mode appends its nonce, AWS CloudHSM writes it into the parameters."""
    monkeypatch.setenv("SHIM_NONCE", mode)
    async with Closing(await opened(token, compiled_shim(tmp_path))) as made:
        tenant = await chain(made)
        await works(made, tenant)
        wrapped = await generated(made.hsm, tenant.l3, 3)
        assert {(len(one.nonce), len(one.ciphertext)) for one in wrapped} == {(12, 1 + 32 + 32 + 16)}
        moves = [RewrapDek(tenant.l3, AAD, one.nonce, one.ciphertext, tenant.l3, AAD) for one in wrapped]
        assert faults(await made.hsm.run(moves, 10)) == {}
        secret = await made.fleet_keys.wrap_secret(b"secret", b"aad")
        assert await made.fleet_keys.unwrap_secret(secret, b"aad") == b"secret"


async def test_a_slow_token_answers_what_it_could_and_the_loop_is_free(
    token: LocalToken, shim: Shim, reopened: None
) -> None:
    shim.delay(2_000)
    try:
        seen = Watcher()
        async with Closing(await opened(token, shim.module, seen, sessions=4)) as made:
            tenant = await chain(made)
            assert made._device.abilities.remote
            assert len(await generated(made.hsm, tenant.l3, 64)) == 64
            assert seen.busiest == 4, "a batch is shared out over the sessions of a token that waits for a network"
            results = await made.hsm.run([WrapDek(tenant.l3, AAD, DIGEST, 32)] * 1000, 0.2)
            late = faults(results)
            assert set(late.values()) == {Fault.UNAVAILABLE}
            assert 0 < len(late) < 1000
            await works(made, tenant)
    finally:
        shim.delay(0)


async def test_what_is_done_is_told(token: LocalToken, reopened: None) -> None:
    seen = Watcher()
    async with Closing(await opened(token, observer=seen, sessions=1)) as made:
        tenant = await chain(made)
        wrapped = await generated(made.hsm, tenant.l3, 100)
        ops = [unwrap(tenant.l3, one) for one in wrapped]
        ops[5] = replace(ops[5], aad=b"")
        await made.hsm.run(ops, 10)
        await made.hsm.run([RewrapDek(tenant.l3, AAD, w.nonce, w.ciphertext, tenant.l3, AAD) for w in wrapped], 10)
    assert seen.ended == [
        ("create_master", 1, None),
        ("create_key", 1, None),
        ("create_key", 1, None),
        ("wrap", 100, None),
        ("unwrap", 99, None),
        ("unwrap", 1, Fault.BAD_CIPHERTEXT),
        ("rewrap", 100, None),
    ]
    assert seen.busiest == 1
    assert seen.states == [TokenState.READY, TokenState.CLOSED]


async def test_a_cancelled_caller_stops_its_batch(token: LocalToken, shim: Shim, reopened: None) -> None:
    async with Closing(await opened(token, shim.module, sessions=1)) as made:
        tenant = await chain(made)
        wrapped = await generated(made.hsm, tenant.l3, 1000)
        shim.delay(10_000)
        shim.fail("Decrypt", 0, every=1_000_000)
        long = asyncio.create_task(made.hsm.run([unwrap(tenant.l3, one) for one in wrapped], 60))
        while shim.count("Decrypt") == 0:
            await asyncio.sleep(0.001)
        long.cancel()
        await asyncio.wait([long])
        shim.delay(0)
        await works(made, tenant)
        assert shim.count("Decrypt") < 1000


async def test_a_hung_call_holds_up_neither_the_loop_nor_other_sessions(
    token: LocalToken, shim: Shim, reopened: None
) -> None:
    release = Event()
    async with Closing(await opened(token, shim.module, sessions=2)) as made:
        tenant = await chain(made)

        def hang(crew: Crew) -> None:
            release.wait(30)

        with pytest.raises(TokenUnavailable):
            await made.hsm.call(hang, 0.05)
        await works(made, tenant)
        release.set()


async def test_two_threads_on_two_sessions(token: LocalToken) -> None:
    """C_Initialize without CKF_OS_LOCKING_OK ends here in errors, half of the time in a crash (SoftHSM2)."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.contract.hsm_threads",
        token.module,
        token.label,
        token.pin_file,
        cwd=Path(__file__).parents[2],
    )
    assert await process.wait() == 0


async def test_healing_waits_until_nobody_is_inside(token: LocalToken, shim: Shim, reopened: None) -> None:
    """C_Finalize with a call in flight crashes SoftHSM2 in 5 of 5 cases."""
    release, inside = Event(), Event()

    def call_in_flight(crew: Crew) -> None:
        inside.set()
        release.wait(30)

    async with Closing(await opened(token, shim.module, sessions=2)) as made:
        tenant = await chain(made)
        epoch = made._device.epoch
        calling = asyncio.create_task(made.hsm.call(call_in_flight, 30))
        await asyncio.to_thread(inside.wait, 30)
        shim.fail("Login", DEVICE_ERROR)
        shim.lose_sessions()
        results = await made.hsm.run([WrapDek(tenant.l3, AAD, DIGEST, 32)], 0.3)
        assert faults(results) == {0: Fault.UNAVAILABLE}
        assert made._device.epoch == epoch
        assert shim.count("Login") == 0
        release.set()
        await calling
        await works(made, tenant)
        assert made._device.epoch == epoch + 1


async def test_a_start_names_what_is_wrong(token: LocalToken, reopened: None) -> None:
    with pytest.raises(TokenUnavailable, match="no token with label 'nobody'"):
        await open_token(config(token, label="nobody", start_timeout_s=0.1))
    with pytest.raises(TokenUnavailable, match="serial 'none'"):
        await open_token(config(token, serial="none", start_timeout_s=0.1))
    with pytest.raises(TokenUnavailable, match="hsm module /nowhere"):
        await open_token(HsmConfig(Path("/nowhere/module.so"), "dev-x", Pin("1"), label="x"))
    with pytest.raises(Exception, match="keyriver/dev-nobody/row-mac/1: run keyriver init"):
        await open_token(config(token, fleet="dev-nobody"))
