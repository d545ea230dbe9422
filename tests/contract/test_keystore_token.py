"""A customer's PKCS#11 token behind the shim: wrong PINs, lost sessions, a token that goes away, whoever makes nonces.

The worker's own token runs beside it: SoftHSM2 with a kryoptic customer, and the other way round.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster

from tests.contract.hsm_rig import Shim, chain, opened, shimmed
from tests.keystores import customer
from tests.keystores import rig as rigs
from tests.keystores.rig import CREDENTIAL, TokenRig
from worker.edges.hsm import CustomerTokens, Pin, TokenCredential
from worker.edges.hsm.customer import TokenKeystore
from worker.edges.hsm.session import Session
from worker.local import Token
from worker.local import softhsm as softhsm_part
from worker.model.keystores import (
    KeystoreAddress,
    KeystoreForbidden,
    KeystoreMisconfigured,
    KeystoreRefused,
    KeystoreUnreachable,
    Provider,
)

KEY, AAD, TEXT = "acme-l1", b"tenant and key and version", b"an inner blob"
DEVICE_ERROR, GENERAL_ERROR, SESSION_HANDLE_INVALID = 0x30, 0x05, 0xB3


@pytest.fixture(scope="module")
def key(token: Token) -> str:
    customer.ask(token, "create", KEY, id="01")
    return KEY


@pytest.fixture
def shim(token: Token, key: str, tmp_path: Path) -> Iterator[Shim]:
    with shimmed(token, tmp_path) as made:
        yield made


def behind(shim: Shim, token: Token, pin: str = "", timeout_s: float = rigs.BUDGET_S) -> TokenRig:
    credentials = {CREDENTIAL: TokenCredential(Pin(pin or token.pin_file.read_text()), [f"customer/{token.label}"])}
    modules = {"customer": shim.module}
    return TokenRig(token, CustomerTokens(modules, softhsm_part.module(), credentials, timeout_s))


@pytest.fixture
async def rig(shim: Shim, token: Token) -> AsyncIterator[TokenRig]:
    made = behind(shim, token)
    yield made
    await made.opened.close()


@pytest.fixture
def store(rig: TokenRig) -> TokenKeystore:
    made = rig.keystore(KEY)
    assert isinstance(made, TokenKeystore)
    return made


async def test_one_login_for_all_keys_and_calls(rig: TokenRig, store: TokenKeystore, shim: Shim) -> None:
    await asyncio.gather(*(store.encrypt(TEXT, AAD) for _ in range(20)))
    other = rig.keystore("never-made")
    with pytest.raises(KeystoreForbidden):
        await other.describe()
    assert await store.look() == "logged in"
    assert shim.count("Login") == 1


async def test_a_wrong_pin_is_given_once(shim: Shim, token: Token) -> None:
    made = behind(shim, token, "0000-wrong")
    store = made.keystore(KEY)
    faults = await asyncio.gather(*(store.describe() for _ in range(12)), return_exceptions=True)
    assert {type(fault) for fault in faults} == {KeystoreForbidden}
    with pytest.raises(KeystoreForbidden) as refused:
        await made.keystore("another").encrypt(TEXT, AAD)
    assert "0000-wrong" not in f"{refused.value!r} {store!r} {vars(store)!r}"
    assert shim.count("Login") == 1
    await made.opened.close()
    customer.ask(token, "count", KEY)  # he logs in by hand, which takes the mark from the token


async def test_after_a_wrong_pin_of_others_none_is_given(softhsm: Token, tmp_path: Path) -> None:
    """SoftHSM2 tells by a flag that somebody has erred (kryoptic does not): our try must not be the last one."""
    customer.ask(softhsm, "create", "flagged")
    with shimmed(softhsm, tmp_path) as shim:
        first = behind(shim, softhsm, "0000-wrong")
        with pytest.raises(KeystoreForbidden):
            await first.keystore("flagged").describe()
        await first.opened.close()
        second = behind(shim, softhsm)
        logins = shim.count("Login")
        try:
            with pytest.raises(KeystoreForbidden, match="by hand"):
                await second.keystore("flagged").describe()
            assert shim.count("Login") == logins
        finally:
            customer.ask(softhsm, "count", "flagged")
        assert (await second.keystore("flagged").describe()).enabled, "a person has logged in: it goes on by itself"
        await second.opened.close()


@pytest.mark.parametrize("code", [DEVICE_ERROR, GENERAL_ERROR, SESSION_HANDLE_INVALID])
@pytest.mark.parametrize("function", ["Decrypt", "DecryptInit", "FindObjectsInit"])
async def test_a_code_that_lies_is_judged_by_a_canary(
    store: TokenKeystore, shim: Shim, function: str, code: int
) -> None:
    blob = await store.encrypt(TEXT, AAD)
    shim.fail(function, code)
    assert await store.decrypt(blob, AAD) == TEXT


async def test_a_sick_token_is_unreachable_and_blames_no_bytes(store: TokenKeystore, shim: Shim) -> None:
    blob = await store.encrypt(TEXT, AAD)
    shim.fail("Decrypt", DEVICE_ERROR, times=100)
    with pytest.raises(KeystoreUnreachable):
        await store.decrypt(blob, AAD)
    shim.fail("Decrypt", DEVICE_ERROR, times=0)
    assert await store.decrypt(blob, AAD) == TEXT


async def test_lost_sessions_are_opened_again(store: TokenKeystore, shim: Shim) -> None:
    blob = await store.encrypt(TEXT, AAD)
    shim.lose_sessions()
    assert await store.decrypt(blob, AAD) == TEXT


async def test_keys_that_a_logout_hides_are_not_taken_for_gone(store: TokenKeystore) -> None:
    """To a session that is not logged in every private object is missing: that is no word of the customer's."""
    blob = await store.encrypt(TEXT, AAD)
    desk = store._desk

    def log_out(session: Session) -> None:
        assert desk._anchor is not None
        session.close()
        desk._anchor.close()  # the last one: the token logs everybody out
        desk._session = Session(session._library, session.slot)

    await desk.run(log_out)
    with pytest.raises(KeystoreUnreachable, match="without a login"):
        await store.describe()
    await desk.run(log_out)
    with pytest.raises(KeystoreUnreachable, match="without a login"):
        await store.encrypt(TEXT, AAD)
    await desk.run(log_out)
    assert await store.decrypt(blob, AAD) == TEXT


async def test_a_module_that_can_not_log_in_is_initialised_anew(store: TokenKeystore, shim: Shim) -> None:
    blob = await store.encrypt(TEXT, AAD)
    initialised = shim.count("Initialize")
    shim.fail("Login", DEVICE_ERROR)
    shim.lose_sessions()
    assert await store.decrypt(blob, AAD) == TEXT
    assert shim.count("Initialize") == initialised + 1


async def test_a_token_goes_away_and_returns(store: TokenKeystore, shim: Shim) -> None:
    blob = await store.encrypt(TEXT, AAD)
    shim.down_file.touch()
    for _ in range(3):
        with pytest.raises(KeystoreUnreachable):
            await store.decrypt(blob, AAD)
    shim.down_file.unlink()
    assert await store.decrypt(blob, AAD) == TEXT


@pytest.fixture
async def impatient(shim: Shim, token: Token) -> AsyncIterator[TokenRig]:
    made = behind(shim, token, timeout_s=0.2)
    yield made
    shim.delay(0)
    await made.opened.close()


async def test_one_that_hangs_blocks_nobody(impatient: TokenRig, shim: Shim, no_blocking: BlockBuster) -> None:
    store = impatient.keystore(KEY)
    while isinstance((await asyncio.gather(store.describe(), return_exceptions=True))[0], KeystoreUnreachable):
        pass  # the module is being loaded, which also takes its time
    shim.delay(1_000_000)
    for _ in range(3):
        with pytest.raises(KeystoreUnreachable, match="within 200 ms"):
            await store.encrypt(TEXT, AAD)


@pytest.mark.parametrize("maker", ["append", "write"])
async def test_whoever_makes_the_nonce(
    token: Token, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, maker: str
) -> None:
    monkeypatch.setenv("SHIM_NONCE", maker)
    with shimmed(token, tmp_path) as shim:
        made = behind(shim, token)
        store = made.keystore(KEY)
        blobs = [await store.encrypt(TEXT, AAD) for _ in range(3)]
        assert [await store.decrypt(blob, AAD) for blob in blobs] == [TEXT] * 3
        await made.opened.close()


async def test_golden_blob(store: TokenKeystore) -> None:
    blob = await store.encrypt(TEXT, AAD)
    assert blob[:3] == bytes([3, 1, 1])
    assert len(blob) == 3 + 12 + len(TEXT) + 16


async def test_a_key_that_can_leave_is_refused(rig: TokenRig) -> None:
    customer.ask(rig.token, "create", "loose", extractable=True)
    with pytest.raises(KeystoreRefused, match="can leave the token"):
        await rig.keystore("loose").describe()


async def test_a_shorter_key_is_refused(rig: TokenRig) -> None:
    customer.ask(rig.token, "create", "short", bits=128)
    with pytest.raises(KeystoreRefused, match="256"):
        await rig.keystore("short").encrypt(TEXT, AAD)


async def test_two_present_versions_are_refused(rig: TokenRig) -> None:
    customer.ask(rig.token, "create", "twins", id="01")
    customer.ask(rig.token, "create", "twins", id="02", keep=True)
    with pytest.raises(KeystoreRefused, match="several objects"):
        await rig.keystore("twins").encrypt(TEXT, AAD)


async def test_the_key_stays_in_the_token(store: TokenKeystore, shim: Shim) -> None:
    await store.decrypt(await store.encrypt(TEXT, AAD), AAD)
    assert (shim.count("WrapKey"), shim.count("UnwrapKey"), shim.count("GenerateKey")) == (0, 0, 0)


async def test_a_module_that_can_not_be_loaded(tmp_path: Path, token: Token) -> None:
    (tmp_path / "no-module.so").write_text("not a library")
    credentials = {CREDENTIAL: TokenCredential(Pin("1234"), ["customer/acme"])}
    tokens = CustomerTokens({"customer": tmp_path / "no-module.so"}, token.module, credentials, rigs.BUDGET_S)
    with pytest.raises(KeystoreUnreachable, match="can't be loaded"):
        await tokens.open(KeystoreAddress(Provider.PKCS11, "customer/acme", KEY, CREDENTIAL)).describe()
    await tokens.close()


def test_the_workers_own_module_is_refused(token: Token) -> None:
    with pytest.raises(KeystoreMisconfigured, match="keystore_modules: customer"):
        CustomerTokens({"customer": token.module}, token.module, {}, 1.0)


@pytest.mark.parametrize(
    ("endpoint", "credential"),
    [("customer/acme", "nobody"), ("customer/other", "a"), ("nowhere/acme", "a"), ("customer/acme", "b")],
)
def test_what_does_not_belong_together_is_refused(token: Token, endpoint: str, credential: str) -> None:
    everywhere = ["customer/acme", "nowhere/acme"]
    credentials = {name: TokenCredential(Pin("1234"), everywhere) for name in ("a", "b")}
    tokens = CustomerTokens({"customer": token.module}, softhsm_part.module(), credentials, 1.0)
    tokens.open(KeystoreAddress(Provider.PKCS11, "customer/acme", KEY, "a"))
    with pytest.raises(KeystoreMisconfigured):
        tokens.open(KeystoreAddress(Provider.PKCS11, endpoint, KEY, credential))


@pytest.mark.parametrize(("ours", "theirs"), [("softhsm", "kryoptic"), ("kryoptic", "softhsm")])
async def test_the_workers_token_beside_the_customers(request: pytest.FixtureRequest, ours: str, theirs: str) -> None:
    own, foreign = request.getfixturevalue(ours), request.getfixturevalue(theirs)
    customer.ask(foreign, "create", f"beside-{ours}")
    token = await opened(own)
    made = rigs.tokens(foreign, own.module)
    try:
        store = made.keystore(f"beside-{ours}")
        blob = await store.encrypt(TEXT, AAD)
        await chain(token)
        assert await store.decrypt(blob, AAD) == TEXT
        await made.opened.close()  # the customer's module is finalised, the worker's goes on
        assert token.healthy
        assert await token.fleet_keys.mac([b"message"])
    finally:
        await token.close()
        await made.opened.close()
