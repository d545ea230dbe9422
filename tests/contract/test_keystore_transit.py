"""What sets transit apart: sealing, versions that may not decrypt any more, tokens; on ours and on a real OpenBao."""

import asyncio
import urllib.error
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.keystores import openbao as bao_part
from tests.keystores import rig as rigs
from tests.keystores.https_server import Told, authority
from tests.keystores.rig import CREDENTIAL, OpenBaoRig, TransitRig
from worker.edges.keystores.transit import TransitKeystore
from worker.model.keystores import (
    KeystoreAddress,
    KeystoreForbidden,
    KeystoreRefused,
    KeystoreThrottled,
    KeystoreUnreachable,
    Provider,
)

KEY, AAD, TEXT = "key-1", b"tenant and key and version", b"an inner blob"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[TransitRig]:
    with rigs.transit(tmp_path / "secrets", authority(tmp_path)) as made:
        made.create(KEY)
        yield made


@pytest.fixture
async def store(rig: TransitRig) -> AsyncIterator[TransitKeystore]:
    made = rig.opened.open(KeystoreAddress(Provider.TRANSIT, rig.endpoint, KEY, CREDENTIAL))
    assert isinstance(made, TransitKeystore)
    yield made
    await made.close()


async def test_the_token_is_looked_at(store: TransitKeystore) -> None:
    assert await store.look() == "token token-keyriver, 3600 s left"


async def test_golden_blob(rig: TransitRig, store: TransitKeystore) -> None:
    blob = await store.encrypt(TEXT, AAD)
    assert blob.startswith(b"\2vault:v1:")
    rig.rotate(KEY)
    assert (await store.encrypt(TEXT, AAD)).startswith(b"\2vault:v2:")
    assert (await store.describe()).version == "2"


@pytest.mark.parametrize(
    "blob",
    [b"\1vault:v1:AAAA", b"\2vault:v0:AAAA", b"\2vault:v1:A", b"\2vault:v1:AA\n=", b"\2../keys", b"\2vault:v1:AAAA\n"],
)
async def test_what_is_no_blob_is_not_sent(rig: TransitRig, store: TransitKeystore, blob: bytes) -> None:
    with pytest.raises(KeystoreRefused):
        await store.decrypt(blob, AAD)
    assert rig.server.server.asked == []


async def test_a_wrong_token_is_forbidden(rig: TransitRig, store: TransitKeystore) -> None:
    rig.server.token = "s.another"
    for call in (
        store.describe,
        store.look,
        lambda: store.encrypt(TEXT, AAD),
        lambda: store.decrypt(b"\2vault:v1:AAAA", b""),
    ):
        with pytest.raises(KeystoreForbidden):
            await call()


async def test_a_sealed_one_is_unreachable(rig: TransitRig, store: TransitKeystore) -> None:
    rig.server.sealed = True
    with pytest.raises(KeystoreUnreachable):
        await store.decrypt(b"\2vault:v1:AAAA", AAD)


async def test_an_old_version_may_be_forbidden(rig: TransitRig, store: TransitKeystore) -> None:
    old = await store.encrypt(TEXT, AAD)
    rig.rotate(KEY)
    new = await store.encrypt(TEXT, AAD)
    rig.server.keys[KEY].min_decryption_version = 2
    with pytest.raises(KeystoreForbidden, match="version 1"):
        await store.decrypt(old, AAD)
    assert await store.decrypt(new, AAD) == TEXT


@pytest.mark.parametrize("fields", [{"type": "rsa-4096"}, {"derived": True}])
async def test_a_key_of_another_kind_is_refused(
    rig: TransitRig, store: TransitKeystore, fields: dict[str, object]
) -> None:
    for name, value in fields.items():
        setattr(rig.server.keys[KEY], name, value)
    with pytest.raises(KeystoreRefused):
        await store.describe()


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        (Told(429, b"", {"retry-after": "7"}), KeystoreThrottled),
        (Told(412), KeystoreUnreachable),
        (Told(473), KeystoreUnreachable),
        (Told(500), KeystoreUnreachable),
        (Told(501), KeystoreRefused),
        (Told(307, b"", {"location": "https://elsewhere.example"}), KeystoreUnreachable),
        (Told(200, b"[]"), KeystoreUnreachable),
        (Told(200, b'{"data": null}'), KeystoreUnreachable),
        (Told(200, b'{"data": {"ciphertext": "rot13:xyz"}}'), KeystoreUnreachable),
        (Told(200, b'{"data": {"ciphertext": 3}}'), KeystoreUnreachable),
    ],
)
async def test_moods(rig: TransitRig, store: TransitKeystore, told: Told, fault: type[Exception]) -> None:
    rig.server.mood = lambda _asked, _right: told
    with pytest.raises(fault) as raised:
        await store.encrypt(TEXT, AAD)
    if isinstance(raised.value, KeystoreThrottled):
        assert raised.value.retry_after_s == 7.0


async def test_the_token_is_not_shown(rig: TransitRig, store: TransitKeystore) -> None:
    rig.server.mood = lambda _asked, _right: Told(403, rig.server.token.encode())
    with pytest.raises(KeystoreForbidden) as refused:
        await store.encrypt(TEXT, AAD)
    assert rig.server.token not in f"{refused.value!r} {store!r}"


@pytest.fixture(scope="module")
def bao(openbao: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBaoRig]:
    folder = tmp_path_factory.mktemp("bao")
    made = authority(folder)
    with bao_part.running(openbao, folder / "bao", made) as running:
        yield rigs.openbao(folder / "secrets", made, running)


async def test_openbao_forbids_old_versions(bao: OpenBaoRig) -> None:
    bao.create("versions")
    store = bao.keystore("versions")
    old = await store.encrypt(TEXT, AAD)
    bao.rotate("versions")
    bao.bao.call("POST", "transit/keys/versions/config", min_decryption_version=2)
    with pytest.raises(KeystoreForbidden, match="version 1"):
        await store.decrypt(old, AAD)
    await store.close()


async def test_openbao_makes_no_key_for_us(bao: OpenBaoRig) -> None:
    """With `create` in its policy the token would bring back a key that the customer has deleted, as another one."""
    bao.create("deleted")
    bao.destroy("deleted")
    store = bao.keystore("deleted")
    with pytest.raises(KeystoreForbidden):
        await store.encrypt(TEXT, AAD)
    with pytest.raises(urllib.error.HTTPError):
        bao.bao.call("GET", "transit/keys/deleted")
    await store.close()


async def test_openbao_throttles(bao: OpenBaoRig) -> None:
    bao.create("busy")
    store = bao.keystore("busy")
    bao.bao.call("POST", "sys/quotas/rate-limit/busy", rate=0.01, path="transit/")
    faults = await asyncio.gather(*(store.encrypt(TEXT, AAD) for _ in range(5)), return_exceptions=True)
    assert {type(fault) for fault in faults if isinstance(fault, BaseException)} == {KeystoreThrottled}
    bao.bao.call("DELETE", "sys/quotas/rate-limit/busy")
    assert (await store.describe()).enabled
    await store.close()


async def test_openbao_knows_our_token(bao: OpenBaoRig) -> None:
    bao.create("looked-at")
    store = bao.keystore("looked-at")
    assert isinstance(store, TransitKeystore)
    assert (await store.look()).startswith("token token-keyriver, ")
    wrong = store._headers | {"x-vault-token": "s." + b64encode(b"wrong").decode()}
    store._headers = wrong
    with pytest.raises(KeystoreForbidden):
        await store.encrypt(TEXT, AAD)
    await store.close()


async def test_openbao_sealed_is_unreachable(bao: OpenBaoRig) -> None:
    """Last: nothing opens this server again."""
    bao.create("sealed")
    store = bao.keystore("sealed")
    blob = await store.encrypt(TEXT, AAD)
    bao.bao.call("PUT", "sys/seal", x=1)
    with pytest.raises(KeystoreUnreachable):
        await store.decrypt(blob, AAD)
    await store.close()
