"""From settings to keystores, as a worker and as `doctor` come to them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.keystores import customer
from tests.keystores import rig as rigs
from tests.keystores.https_server import authority
from tests.keystores.rig import XksRig, written
from tests.keystores.xks_proxy import REGION, new_access_key
from worker.cli import doctor
from worker.cli.findings import Grade
from worker.local import Token
from worker.model.keystores import KeystoreAddress, KeystoreMisconfigured, KeystoreUnreachable, Provider
from worker.parts import guarded_keystores, outside
from worker.settings import Settings
from worker.watch.metrics import Metrics

AAD, TEXT = b"tenant and key and version", b"an inner blob"


@pytest.fixture
def xks(tmp_path: Path) -> Iterator[XksRig]:
    with rigs.xks(tmp_path / "secrets", authority(tmp_path)) as made:
        made.create("key-1")
        yield made


def settings(tmp_path: Path, softhsm: Token, **more: object) -> Settings:
    dsn = tmp_path / "dsn"
    dsn.write_text("postgresql://keyriver@127.0.0.1:1/x")
    told: dict[str, object] = {
        "fleet": "dev-test",
        "kafka_bootstrap": "127.0.0.1:1",
        "postgres_dsn_file": dsn,
        "hsm_module": softhsm.module,
        "hsm_label": softhsm.label,
        "hsm_pin_file": softhsm.pin_file,
        "keystore_credentials": tmp_path / "secrets",
        "keystore_timeout_ms": 10_000,
    }
    return Settings.model_validate(told | more)


async def test_all_kinds_through_one_port(tmp_path: Path, xks: XksRig, softhsm: Token, kryoptic: Token) -> None:
    customer.ask(kryoptic, "create", "theirs")
    place = f"luna/{kryoptic.label}"
    written(tmp_path / "secrets", "token", provider="pkcs11", endpoints=[place], pin=kryoptic.pin_file.read_text())
    told = settings(
        tmp_path, softhsm, keystore_endpoints=[xks.endpoint], keystore_modules={"luna": str(kryoptic.module)}
    )
    metrics = Metrics()
    async with guarded_keystores(told, metrics) as (keystores, _):
        for where in (
            KeystoreAddress(Provider.XKS, xks.endpoint, "key-1", "acme"),
            KeystoreAddress(Provider.PKCS11, place, "theirs", "token"),
        ):
            store = keystores.of(where)
            assert keystores.of(where) is store
            assert await store.decrypt(await store.encrypt(TEXT, AAD), AAD) == TEXT
        with pytest.raises(KeystoreMisconfigured):
            keystores.of(KeystoreAddress(Provider.TRANSIT, xks.endpoint, "key-1", "acme"))
    assert b'keyriver_keystore_calls_total{credential="acme",operation="decrypt",outcome="OK"} 1.0' in metrics.render()


async def test_without_settings_there_is_no_keystore(tmp_path: Path, xks: XksRig, softhsm: Token) -> None:
    told = settings(tmp_path, softhsm, keystore_credentials=None)
    async with guarded_keystores(told, Metrics()) as (keystores, _):
        with pytest.raises(KeystoreMisconfigured, match="keystore_credentials"):
            keystores.of(KeystoreAddress(Provider.XKS, xks.endpoint, "key-1", "acme"))


async def test_a_bad_credential_file_stops_the_start(tmp_path: Path, xks: XksRig, softhsm: Token) -> None:
    written(tmp_path / "secrets", "other", provider="xks", pin="hunter2")
    with pytest.raises(KeystoreMisconfigured, match=r"other\.json") as refused:
        async with outside(settings(tmp_path, softhsm), 1.0):
            raise AssertionError
    assert "hunter2" not in str(refused.value)


async def test_the_workers_own_module_stops_the_start(tmp_path: Path, xks: XksRig, softhsm: Token) -> None:
    told = settings(tmp_path, softhsm, keystore_modules={"luna": str(softhsm.module)})
    with pytest.raises(KeystoreMisconfigured, match="keystore_modules: luna"):
        async with outside(told, 1.0):
            raise AssertionError


async def test_doctor_looks_at_every_credential(tmp_path: Path, xks: XksRig, softhsm: Token, kryoptic: Token) -> None:
    key_id, secret = new_access_key()
    strange = {"access_key_id": key_id, "secret_access_key": secret}
    ca = str(tmp_path / "ca.pem")
    common = {"provider": "xks", "endpoints": [xks.endpoint], "region": REGION, "ca_file": ca}
    written(tmp_path / "secrets", "stranger", **common, current=strange)
    written(tmp_path / "secrets", "denied", **common | {"endpoints": ["https://nowhere.example"]}, current=strange)
    pin = kryoptic.pin_file.read_text()
    written(tmp_path / "secrets", "token", provider="pkcs11", endpoints=[f"luna/{kryoptic.label}"], pin=pin)
    told = settings(
        tmp_path, softhsm, keystore_endpoints=[xks.endpoint], keystore_modules={"luna": str(kryoptic.module)}
    )
    found = {each.what: each for each in await doctor._keystores(told)}
    grades = {what: each.grade for what, each in found.items()}
    assert grades == {
        "keystore acme": Grade.OK,
        "keystore stranger": Grade.WARN,
        "keystore denied": Grade.FAIL,
        "keystore token": Grade.OK,
    }
    assert "Acme Proxy 1: ACTIVE, DEGRADED" in found["keystore acme"].seen
    assert "refuses us: 401" in found["keystore stranger"].seen
    assert all(each.cure for each in found.values() if each.grade is not Grade.OK)
    assert secret not in str(found)


async def test_doctor_names_a_bad_file(tmp_path: Path, xks: XksRig, softhsm: Token) -> None:
    (tmp_path / "secrets" / "acme.json").chmod(0o444)
    [found] = await doctor._keystores(settings(tmp_path, softhsm, keystore_endpoints=[xks.endpoint]))
    assert (found.grade, "0400" in found.seen) == (Grade.FAIL, True)


async def test_a_dead_one_is_silent_to_the_metrics_too(tmp_path: Path, softhsm: Token) -> None:
    key_id, secret = new_access_key()
    endpoint = "https://127.0.0.1:1"
    current = {"access_key_id": key_id, "secret_access_key": secret}
    written(tmp_path / "secrets", "dead", provider="xks", endpoints=[endpoint], region=REGION, current=current)
    metrics = Metrics()
    async with guarded_keystores(settings(tmp_path, softhsm, keystore_endpoints=[endpoint]), metrics) as (keystores, _):
        store = keystores.of(KeystoreAddress(Provider.XKS, endpoint, "k", "dead"))
        for _ in range(3):
            with pytest.raises(KeystoreUnreachable):
                await store.describe()
    told = metrics.render().decode()
    assert 'keyriver_keystores_silent{credential="dead"} 1.0' in told
    assert 'outcome="UNREACHABLE"} 5.0' in told
    assert 'outcome="BREAKER"} 1.0' in told
