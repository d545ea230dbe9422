"""An XKS proxy that misbehaves, and what it gets to see (XKS.md, S13)."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.keystores import rig as rigs
from tests.keystores.https_server import Asked, Authority, Cut, Hang, HttpsServer, Told, authority
from tests.keystores.rig import CREDENTIAL, XksRig, written
from tests.keystores.xks_proxy import new_access_key
from worker.edges.keystores import HttpsKeystores, read_credentials
from worker.edges.keystores.xks import XksKeystore
from worker.flow.guarding import GuardedKeystores, Patience
from worker.model.keystores import (
    KeystoreAddress,
    KeystoreForbidden,
    KeystoreRefused,
    KeystoreThrottled,
    KeystoreUnreachable,
    Provider,
)

KEY, AAD, TEXT = "key-1", b"tenant and key and version", b"an inner blob"
Answer = Told | Hang | Cut


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def rig(tmp_path: Path, ca: Authority) -> Iterator[XksRig]:
    with rigs.xks(tmp_path / "secrets", ca) as made:
        made.create(KEY)
        yield made


@pytest.fixture
async def store(rig: XksRig) -> AsyncIterator[XksKeystore]:
    made = rig.opened.open(KeystoreAddress(Provider.XKS, rig.endpoint, KEY, CREDENTIAL))
    assert isinstance(made, XksKeystore)
    yield made
    await made.close()


async def test_what_the_proxy_gets_to_see(rig: XksRig, store: XksKeystore) -> None:
    await store.describe()
    blob = await store.encrypt(TEXT, AAD)
    await store.decrypt(blob, AAD)
    assert await store.look() == "Acme Proxy 1: ACTIVE, DEGRADED"
    assert rig.proxy.calls == ["metadata", "encrypt", "decrypt", "health"]
    asked = rig.proxy.server.asked
    assert {each.method for each in asked} == {"POST"}
    assert {each.headers["content-type"] for each in asked} == {"application/json"}
    told = [json.loads(each.body)["requestMetadata"] for each in asked]
    assert [each["kmsOperation"] for each in told] == ["DescribeKey", "Encrypt", "Decrypt", "KmsHealthCheck"]
    assert len({each["kmsRequestId"] for each in told}) == 4
    assert all(each["awsPrincipalArn"] == "arn:keyriver:kms:eu-central-1:dev-test:worker" for each in told[:3])
    assert all(each["kmsKeyArn"].endswith(":key/key-1") for each in told[1:3])
    assert json.loads(asked[1].body)["ciphertextDataIntegrityValueAlgorithm"] == "SHA_256"


def _without(field: str) -> Callable[[Asked, Told], Answer]:
    return lambda _asked, told: _changed(told, lambda body: {name: body[name] for name in body if name != field})


def _with(**fields: object) -> Callable[[Asked, Told], Answer]:
    return lambda _asked, told: _changed(told, lambda body: body | fields)


def _changed(told: Told, change: Callable[[dict[str, object]], object]) -> Told:
    return Told(told.status, json.dumps(change(json.loads(told.body))).encode(), told.headers)


@pytest.mark.parametrize(
    ("mood", "fault"),
    [
        (lambda _asked, _told: Told(500, b'{"errorName": "InternalException"}'), KeystoreUnreachable),
        (lambda _asked, _told: Told(503, b'{"errorName": "DependencyTimeoutException"}'), KeystoreUnreachable),
        (lambda _asked, _told: Told(429, b'{"errorName": "ThrottlingException"}'), KeystoreThrottled),
        (lambda _asked, _told: Told(401, b'{"errorName": "AuthenticationFailedException"}'), KeystoreForbidden),
        (lambda _asked, _told: Told(403, b'{"errorName": "AccessDeniedException"}'), KeystoreForbidden),
        (lambda _asked, _told: Told(400, b'{"errorName": "ValidationException"}'), KeystoreRefused),
        (lambda _asked, _told: Told(501, b'{"errorName": "UnsupportedOperationException"}'), KeystoreRefused),
        (lambda _asked, _told: Told(200, b"<html>a proxy of another kind</html>"), KeystoreUnreachable),
        (lambda _asked, _told: Told(200, b""), KeystoreUnreachable),
        (lambda _asked, told: Told(200, told.body[:-1]), KeystoreUnreachable),
        (lambda _asked, told: Told(200, told.body + b" " * 65536), KeystoreUnreachable),
        (lambda _asked, told: Told(200, told.body, {"content-encoding": "gzip"}), None),
        (lambda _asked, _told: Cut(), KeystoreUnreachable),
        (_with(ciphertextDataIntegrityValue="AAAA"), KeystoreUnreachable),
        (_without("ciphertextDataIntegrityValue"), KeystoreUnreachable),
        (_with(ciphertextMetadata="AAAA"), KeystoreUnreachable),
        (_with(initializationVector="AAAA"), KeystoreUnreachable),
    ],
)
async def test_moods(
    rig: XksRig, store: XksKeystore, mood: Callable[[Asked, Told], Answer], fault: type[Exception] | None
) -> None:
    rig.proxy.mood = mood
    if fault is None:
        await store.encrypt(TEXT, AAD)
    else:
        with pytest.raises(fault):
            await store.encrypt(TEXT, AAD)
    rig.proxy.mood = None
    assert await store.decrypt(await store.encrypt(TEXT, AAD), AAD) == TEXT


async def test_a_proxy_without_metadata_of_its_own(rig: XksRig, store: XksKeystore) -> None:
    rig.proxy.metadata = b""
    assert await store.decrypt(await store.encrypt(TEXT, AAD), AAD) == TEXT


async def test_a_swap_of_aad_and_metadata_opens_nothing(rig: XksRig, store: XksKeystore) -> None:
    """The reason for the lengths in the AAD: both blobs are authentic, the borders between the two fields are not."""
    rig.proxy.metadata = b"AB"
    blob = await store.encrypt(TEXT, b"CD")
    moved = blob.replace(b"\2AB", b"\1A", 1)
    assert moved != blob
    with pytest.raises(KeystoreRefused):
        await store.decrypt(moved, b"CDB")


async def test_a_key_of_another_kind_is_refused(rig: XksRig, store: XksKeystore) -> None:
    for fields in ({"keySpec": "RSA_2048"}, {"keyUsage": ["ENCRYPT"]}):
        rig.proxy.mood = _with(**fields)
        with pytest.raises(KeystoreRefused):
            await store.describe()


async def test_credentials_rotate(rig: XksRig, store: XksKeystore) -> None:
    old, new = rig.proxy.access
    secrets_ = dict(rig.proxy.access)
    del rig.proxy.access[old]
    await store.describe()
    await store.describe()
    used = [_access_key(each) for each in rig.proxy.server.asked]
    assert used == [old, new, new], "the one that worked is tried first"
    rig.proxy.access[old] = secrets_[old]
    del rig.proxy.access[new]
    await store.describe()
    assert [_access_key(each) for each in rig.proxy.server.asked[3:]] == [new, old]
    rig.proxy.access.clear()
    with pytest.raises(KeystoreForbidden):
        await store.describe()
    assert len(rig.proxy.server.asked) == 7, "each is tried once"


def _access_key(asked: Asked) -> str:
    return asked.headers["authorization"].partition("Credential=")[2].partition("/")[0]


async def test_a_wrong_secret_is_forbidden(rig: XksRig, store: XksKeystore) -> None:
    for name in rig.proxy.access:
        rig.proxy.access[name] = new_access_key()[1]
    with pytest.raises(KeystoreForbidden, match="AuthenticationFailedException"):
        await store.encrypt(TEXT, AAD)


async def test_a_clock_that_is_off_is_forbidden(rig: XksRig, tmp_path: Path) -> None:
    late = HttpsKeystores(
        read_credentials(tmp_path / "secrets"),
        [rig.endpoint],
        "dev-test",
        rigs.BUDGET_S,
        now=lambda: datetime.now(UTC) - timedelta(minutes=6),
    ).open(KeystoreAddress(Provider.XKS, rig.endpoint, KEY, CREDENTIAL))
    with pytest.raises(KeystoreForbidden):
        await late.describe()
    await late.close()


async def test_a_redirect_is_not_followed(rig: XksRig, store: XksKeystore) -> None:
    path = rig.proxy.server.asked
    rig.proxy.mood = lambda asked, _told: Told(307, b"", {"location": asked.path})
    with pytest.raises(KeystoreUnreachable):
        await store.describe()
    assert len(path) == 1


async def test_connections_are_used_again(rig: XksRig, store: XksKeystore) -> None:
    for _ in range(5):
        await store.describe()
    assert rig.proxy.server.connections == 1
    await asyncio.gather(*(store.describe() for _ in range(4)))
    await asyncio.gather(*(store.describe() for _ in range(4)))
    assert rig.proxy.server.connections <= 4
    rig.proxy.mood = lambda _asked, told: Told(told.status, told.body, {"connection": "close"})
    before = rig.proxy.server.connections
    for _ in range(6):
        await store.describe()
    assert rig.proxy.server.connections > before


async def test_one_that_hangs_up_without_a_word_costs_one_try_at_most(rig: XksRig) -> None:
    rig.proxy.server.curt = True
    where = KeystoreAddress(Provider.XKS, rig.endpoint, KEY, CREDENTIAL)
    guarded = GuardedKeystores({Provider.XKS: rig.opened.open}, Patience(budget_s=rigs.BUDGET_S)).of(where)
    for _ in range(20):
        assert (await guarded.describe()).enabled
    await guarded.close()


async def test_a_connection_that_was_closed_is_not_used_again(rig: XksRig, store: XksKeystore) -> None:
    rig.proxy.server.curt = True
    for number in range(1, 6):
        assert (await store.describe()).enabled
        assert rig.proxy.server.connections == number
        while store._https._idle[0].is_warm():
            await asyncio.sleep(0.001)  # until the end of the connection has arrived


async def test_proxies_of_the_environment_are_not_used(store: XksKeystore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await store.describe()).enabled


async def test_faults_and_keystores_show_no_secret(rig: XksRig, store: XksKeystore) -> None:
    rig.proxy.mood = lambda _asked, _told: Told(401)
    with pytest.raises(KeystoreForbidden) as refused:
        await store.encrypt(TEXT, AAD)
    shown = f"{refused.value!r} {store!r} {vars(store)!r} {refused.value.__context__!r}"
    assert not any(secret in shown for secret in rig.proxy.access.values())
    assert refused.value.__cause__ is None


def budgeted(tmp_path: Path, ca: Authority | None, endpoint: str, budget_s: float) -> XksKeystore:
    key_id, secret = new_access_key()
    current = {"access_key_id": key_id, "secret_access_key": secret}
    more = {} if ca is None else {"ca_file": str(ca.ca_file)}
    written(tmp_path, CREDENTIAL, provider="xks", endpoints=[endpoint], region="eu-central-1", current=current, **more)
    opened = HttpsKeystores(read_credentials(tmp_path), [endpoint], "dev-test", budget_s)
    made = opened.open(KeystoreAddress(Provider.XKS, endpoint, KEY, CREDENTIAL))
    assert isinstance(made, XksKeystore)
    return made


async def test_one_that_never_answers_is_unreachable(tmp_path: Path, ca: Authority) -> None:
    with HttpsServer(ca.context(), lambda _asked: Hang()).running() as url:
        store = budgeted(tmp_path, ca, url, 0.25)
        with pytest.raises(KeystoreUnreachable, match="within 250 ms"):
            await store.encrypt(TEXT, AAD)
        await store.close()


async def test_the_budget_counts_tls_too(tmp_path: Path, ca: Authority) -> None:
    """A server that accepts and says nothing: TCP is up, TLS never is."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        store = budgeted(tmp_path, ca, f"https://127.0.0.1:{listener.getsockname()[1]}", 0.25)
        with pytest.raises(KeystoreUnreachable, match="within 250 ms"):
            await store.describe()
        await store.close()


async def test_where_nobody_listens(tmp_path: Path, ca: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    store = budgeted(tmp_path, ca, f"https://127.0.0.1:{port}", rigs.BUDGET_S)
    with pytest.raises(KeystoreUnreachable, match="Connect"):
        await store.describe()
    await store.close()


@pytest.mark.parametrize("case", ["another authority", "the system's", "another name"])
async def test_a_certificate_is_verified(tmp_path: Path, ca: Authority, case: str) -> None:
    asked: list[Asked] = []

    def answer(request: Asked) -> Told:
        asked.append(request)
        return Told(200, b"{}")

    foreign = authority(tmp_path / "foreign", "elsewhere.example", "192.0.2.1")
    cases = {"another authority": (ca, foreign), "the system's": (ca, None), "another name": (foreign, foreign)}
    server, trusted = cases[case]
    with HttpsServer(server.context(), answer).running() as url:
        store = budgeted(tmp_path / "secrets", trusted, url, rigs.BUDGET_S)
        with pytest.raises(KeystoreUnreachable):
            await store.describe()
        await store.close()
    assert asked == []


async def test_one_without_tls_gets_to_see_nothing(tmp_path: Path, ca: Authority) -> None:
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                seen.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

        thread = threading.Thread(target=answer)
        thread.start()
        store = budgeted(tmp_path, ca, f"https://127.0.0.1:{listener.getsockname()[1]}", rigs.BUDGET_S)
        with pytest.raises(KeystoreUnreachable):
            await store.describe()
        thread.join()
        await store.close()
    assert b"Authorization" not in seen[0]
    assert seen[0][:2] == b"\x16\x03", "a TLS handshake, and nothing else"
