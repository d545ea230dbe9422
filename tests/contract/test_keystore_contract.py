"""What every keystore must do, whoever keeps the key (S13): the port `Keystore` on the fake and on each provider."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.keystores import openbao as bao_part
from tests.keystores import rig as rigs
from tests.keystores.https_server import authority
from tests.keystores.rig import Rig
from worker.local import softhsm as softhsm_part
from worker.model.keystores import KeystoreForbidden, KeystoreRefused
from worker.ports import Keystore

AAD = b"tenant and key and version"
TEXT = b"an inner blob, which is a wrapped key itself"
Opener = Callable[[str], Keystore]
KINDS = ["fake", "xks", "transit", "openbao", "softhsm", "kryoptic"]


@pytest.fixture(scope="module", params=KINDS)
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp(request.param)
    match request.param:
        case "fake":
            yield rigs.FakeRig()
        case "xks":
            with rigs.xks(folder / "secrets", authority(folder)) as made:
                yield made
        case "transit":
            with rigs.transit(folder / "secrets", authority(folder)) as made_too:
                yield made_too
        case "openbao":
            made_of = authority(folder)
            with bao_part.running(request.getfixturevalue("openbao"), folder / "bao", made_of) as bao:
                yield rigs.openbao(folder / "secrets", made_of, bao)
        case name:
            token = request.getfixturevalue(name)
            on_token = rigs.tokens(token, softhsm_part.module())
            yield on_token
            asyncio.run(on_token.opened.close())


@pytest.fixture
async def open_(rig: Rig) -> AsyncIterator[Opener]:
    """The worker's view of a key; closed afterwards."""
    opened: list[Keystore] = []

    def opener(key: str) -> Keystore:
        opened.append(rig.keystore(key))
        return opened[-1]

    yield opener
    for store in opened:
        await store.close()


@pytest.fixture
def store(open_: Opener, key: str) -> Keystore:
    """Of the new key."""
    return open_(key)


@pytest.fixture
def key(rig: Rig) -> str:
    """The id of a new key."""
    name = f"key-{secrets.token_hex(4)}"
    rig.create(name)
    return name


@pytest.mark.usefixtures("no_blocking")
class TestKeystore:
    async def test_a_key_is_described(self, rig: Rig, store: Keystore, key: str) -> None:
        told = await store.describe()
        assert (told.id, told.enabled, bool(told.version)) == (key, True, rig.has_versions)

    @pytest.mark.parametrize("size", [1, 16, 60, 255, 4000])
    @pytest.mark.parametrize("aad", [b"", AAD, bytes(range(256)) * 8])
    async def test_what_was_encrypted_decrypts(self, store: Keystore, size: int, aad: bytes) -> None:
        text = secrets.token_bytes(size)
        blob = await store.encrypt(text, aad)
        assert text not in blob or size == 1
        assert await store.decrypt(blob, aad) == text

    async def test_no_two_encryptions_are_alike(self, store: Keystore) -> None:
        assert await store.encrypt(TEXT, AAD) != await store.encrypt(TEXT, AAD)

    async def test_many_at_a_time(self, store: Keystore) -> None:
        texts = [secrets.token_bytes(40) for _ in range(20)]
        blobs = await asyncio.gather(*(store.encrypt(text, AAD) for text in texts))
        assert await asyncio.gather(*(store.decrypt(blob, AAD) for blob in blobs)) == texts

    @pytest.mark.parametrize("aad", [b"", AAD[:-1], AAD + b"\0", b"another tenant, key or version"])
    async def test_another_aad_is_refused(self, store: Keystore, aad: bytes) -> None:
        blob = await store.encrypt(TEXT, AAD)
        with pytest.raises(KeystoreRefused):
            await store.decrypt(blob, aad)
        assert await store.decrypt(blob, AAD) == TEXT

    async def test_damaged_bytes_are_refused_and_harm_nobody(self, store: Keystore) -> None:
        blob = await store.encrypt(TEXT, AAD)
        damaged = [b"", b"\0", blob[:1], blob[:-1], blob + b"\0", b"\x7f" + blob[1:], bytes(len(blob))]
        damaged += [blob[:-20] + bytes([blob[-20] ^ 1]) + blob[-19:]]
        for bad in damaged:
            with pytest.raises(KeystoreRefused):
                await store.decrypt(bad, AAD)
            assert await store.decrypt(blob, AAD) == TEXT

    async def test_another_keys_blob_opens_nothing(self, rig: Rig, open_: Opener, store: Keystore, key: str) -> None:
        other = f"{key}-other"
        rig.create(other)
        blob = await open_(other).encrypt(TEXT, AAD)
        with pytest.raises((KeystoreRefused, KeystoreForbidden)):
            await store.decrypt(blob, AAD)

    async def test_a_key_that_is_off_says_so_and_does_nothing(self, rig: Rig, store: Keystore, key: str) -> None:
        blob = await store.encrypt(TEXT, AAD)
        await asyncio.to_thread(rig.switch, key, on=False)
        assert not (await store.describe()).enabled
        with pytest.raises(KeystoreForbidden):
            await store.encrypt(TEXT, AAD)
        with pytest.raises(KeystoreForbidden):
            await store.decrypt(blob, AAD)
        await asyncio.to_thread(rig.switch, key, on=True)
        assert (await store.describe()).enabled
        assert await store.decrypt(blob, AAD) == TEXT

    async def test_a_key_that_is_gone_is_forbidden(self, rig: Rig, store: Keystore, key: str) -> None:
        blob = await store.encrypt(TEXT, AAD)
        await asyncio.to_thread(rig.destroy, key)
        for call in (store.describe, lambda: store.encrypt(TEXT, AAD), lambda: store.decrypt(blob, AAD)):
            with pytest.raises(KeystoreForbidden):
                await call()

    async def test_a_key_that_never_was_is_forbidden(self, open_: Opener) -> None:
        with pytest.raises(KeystoreForbidden):
            await open_("never-made").describe()

    async def test_an_old_version_still_decrypts(self, rig: Rig, store: Keystore, key: str) -> None:
        before, blob = await store.describe(), await store.encrypt(TEXT, AAD)
        await asyncio.to_thread(rig.rotate, key)
        after, newer = await store.describe(), await store.encrypt(TEXT, AAD)
        assert (before.version != after.version) is rig.has_versions
        assert [await store.decrypt(each, AAD) for each in (blob, newer)] == [TEXT, TEXT]

    async def test_a_closed_keystore_opens_again(self, store: Keystore) -> None:
        blob = await store.encrypt(TEXT, AAD)
        await store.close()
        assert await store.decrypt(blob, AAD) == TEXT
        await store.close()
