"""One opening of a token each: busy threads, wrong PINs, other makers of nonces, slow and hung tokens, starts."""

import asyncio
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from tests.contract.hsm_rig import (
    AAD,
    DIGEST,
    Closing,
    Shim,
    Watcher,
    chain,
    compiled_shim,
    config,
    faults,
    flipped,
    generated,
    opened,
    shimmed,
    unwrap,
    works,
)
from tests.processes import until
from worker.edges.hsm import HsmConfig, Pin, PinRefused, TokenState, open_token
from worker.edges.hsm.binding import Library
from worker.edges.hsm.crew import Crew
from worker.edges.hsm.session import Session
from worker.local import Token as LocalToken
from worker.model.hsm import Fault, RewrapDek, WrapDek
from worker.ports import TokenUnavailable

DEVICE_ERROR, GENERAL_ERROR, SESSION_INVALID, NOT_LOGGED_IN, REMOVED = 0x30, 0x5, 0xB3, 0x101, 0x32
REPETITIONS = int(os.environ.get("KEYRIVER_HSM_REPETITIONS", "15"))


@pytest.fixture(scope="module")
def shim(token: LocalToken, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    """The real token behind the shim."""
    with shimmed(token, tmp_path_factory.mktemp("shim")) as made:
        yield made


async def test_eight_busy_threads_beside_bad_items(token: LocalToken, shim: Shim) -> None:
    """Barbican's plugin ends here in a segmentation fault."""
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


async def test_a_wrong_pin_is_given_once_and_stops_the_whole_fleets_logins(token: LocalToken, shim: Shim) -> None:
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
    token: LocalToken, shim: Shim, tmp_path: Path
) -> None:
    _log_in_by_hand(token, tmp_path)
    seen = Watcher()
    async with Closing(await opened(token, shim.module, seen)) as made:
        tenant = await chain(made)
        shim.fail("Login", 0xA0, times=1)
        shim.lose_sessions()
        results = await made.hsm.run([WrapDek(tenant.l3, AAD, DIGEST, 32)], 0.5)
        assert faults(results) == {0: Fault.UNAVAILABLE}
        await until(lambda: seen.states[-1] is TokenState.PIN_REFUSED, "the wrong PIN is noticed")
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
    token: LocalToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
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


async def test_a_slow_token_answers_what_it_could_and_the_loop_is_free(token: LocalToken, shim: Shim) -> None:
    shim.delay(2_000)
    try:
        seen = Watcher()
        async with Closing(await opened(token, shim.module, seen, sessions=4)) as made:
            tenant = await chain(made)
            assert made._device.abilities.remote
            assert len(await generated(made.hsm, tenant.l3, 64)) == 64
            assert seen.busiest == 4, "a batch is shared out over the sessions of a token that waits for a network"
            shim.delay(10_000)
            results = await made.hsm.run([WrapDek(tenant.l3, AAD, DIGEST, 32)] * 1000, 1.0)
            late = faults(results)
            assert set(late.values()) == {Fault.UNAVAILABLE}
            assert 0 < len(late) < 1000
            await works(made, tenant)
    finally:
        shim.delay(0)


async def test_a_start_takes_its_own_time_whatever_the_river_may_wait(token: LocalToken) -> None:
    async with Closing(await opened(token, fleet_timeout_s=1e-6)) as made:
        assert len(made.fleet_keys.signing_key) == 65
        with pytest.raises(TokenUnavailable, match="in time"):
            await made.fleet_keys.mac([b"row"])


async def test_what_is_done_is_told(token: LocalToken) -> None:
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


async def test_a_cancelled_caller_stops_its_batch(token: LocalToken, shim: Shim) -> None:
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


async def test_a_hung_call_holds_up_neither_the_loop_nor_other_sessions(token: LocalToken, shim: Shim) -> None:
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


async def test_healing_waits_until_nobody_is_inside(token: LocalToken, shim: Shim) -> None:
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


async def test_a_start_names_what_is_wrong(token: LocalToken) -> None:
    with pytest.raises(TokenUnavailable, match="no token with label 'nobody'"):
        await open_token(config(token, label="nobody", start_timeout_s=0.1))
    with pytest.raises(TokenUnavailable, match="serial 'none'"):
        await open_token(config(token, serial="none", start_timeout_s=0.1))
    with pytest.raises(TokenUnavailable, match="hsm module /nowhere"):
        await open_token(HsmConfig(Path("/nowhere/module.so"), "dev-x", Pin("1"), label="x"))
    with pytest.raises(Exception, match="keyriver/dev-nobody/row-mac/1: run keyriver init"):
        await open_token(config(token, fleet="dev-nobody"))
