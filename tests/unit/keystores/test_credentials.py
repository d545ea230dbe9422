"""Credential files: strict, mode 0400, and never shown."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.keystores.rig import written
from worker.edges.keystores import HttpsKeystores, read_credentials
from worker.edges.keystores.credentials import trusted
from worker.model.keystores import KeystoreAddress, KeystoreMisconfigured, Provider

ENDPOINT = "https://kms.acme.example/acme"
SECRET = "s3cr3t" * 8
XKS: dict[str, object] = {
    "provider": "xks",
    "endpoints": [ENDPOINT],
    "region": "eu-central-1",
    "current": {"access_key_id": "A" * 20, "secret_access_key": SECRET},
}
TRANSIT: dict[str, object] = {"provider": "transit", "endpoints": [ENDPOINT], "token": SECRET}
PKCS11: dict[str, object] = {"provider": "pkcs11", "endpoints": ["luna/acme"], "pin": SECRET}


def test_credentials_are_named_by_their_files(tmp_path: Path) -> None:
    for name, told in {"a": XKS, "b": TRANSIT, "c": PKCS11}.items():
        written(tmp_path, name, **told)
    found = read_credentials(tmp_path)
    assert {name: each.provider for name, each in found.items()} == {"a": "xks", "b": "transit", "c": "pkcs11"}
    assert SECRET not in repr(found)
    assert SECRET not in str(list(found.values()))


@pytest.mark.parametrize("mode", [0o600, 0o440, 0o404, 0o000])
def test_another_mode_is_refused(tmp_path: Path, mode: int) -> None:
    written(tmp_path, "a", **XKS).chmod(mode)
    with pytest.raises(KeystoreMisconfigured, match="0400"):
        read_credentials(tmp_path)


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"provider": "kmip"},
        XKS | {"region": ""},
        XKS | {"endpoints": []},
        XKS | {"surplus": SECRET},
        XKS | {"current": {"access_key_id": "A" * 20, "secret_access_key": SECRET[:20]}},
        XKS | {"current": {"access_key_id": "a" * 20, "secret_access_key": SECRET}},
        TRANSIT | {"token": ""},
        TRANSIT | {"token": f"{SECRET}\n"},
        TRANSIT | {"mount": "../sys"},
        PKCS11 | {"pin": ""},
    ],
)
def test_what_does_not_fit_is_refused_without_being_shown(tmp_path: Path, told: dict[str, object]) -> None:
    written(tmp_path, "acme", **told)
    with pytest.raises(KeystoreMisconfigured, match=r"keystore_credentials: .*acme\.json") as refused:
        read_credentials(tmp_path)
    assert "s3cr3t" not in str(refused.value)


def test_no_json_and_a_folder_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(SECRET)
    path.chmod(0o400)
    with pytest.raises(KeystoreMisconfigured) as refused:
        read_credentials(tmp_path)
    assert "s3cr3t" not in str(refused.value)
    path.unlink()
    path.mkdir(mode=0o400)
    with pytest.raises(KeystoreMisconfigured):
        read_credentials(tmp_path)


def test_a_ca_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeystoreMisconfigured):
        trusted(tmp_path / "missing.pem")
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(KeystoreMisconfigured):
        trusted(tmp_path / "empty.pem")


def test_certificate_and_name_are_verified_and_tls_is_not_old() -> None:
    context = trusted(None)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.fixture
def opener(tmp_path: Path) -> Callable[[KeystoreAddress], object]:
    for name, told in {"a": XKS, "b": TRANSIT, "c": PKCS11}.items():
        written(tmp_path, name, **told)
    return HttpsKeystores(read_credentials(tmp_path), ["https://kms.acme.example"], "dev-test", 1.0).open


def test_an_address_with_its_credential_opens(opener: Callable[[KeystoreAddress], object]) -> None:
    store = opener(KeystoreAddress(Provider.XKS, ENDPOINT, "k", "a"))
    assert SECRET not in repr(vars(store))
    opener(KeystoreAddress(Provider.TRANSIT, ENDPOINT, "k", "b"))


@pytest.mark.parametrize(
    ("where", "setting"),
    [
        (KeystoreAddress(Provider.XKS, ENDPOINT, "k", "nobody"), "keystore_credentials"),
        (KeystoreAddress(Provider.XKS, ENDPOINT, "k", "b"), "keystore_credentials"),
        (KeystoreAddress(Provider.PKCS11, "luna/acme", "k", "c"), "keystore_"),
        (KeystoreAddress(Provider.XKS, ENDPOINT + "/other", "k", "a"), "not for this endpoint"),
        (KeystoreAddress(Provider.XKS, ENDPOINT, "../x", "a"), "key"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    opener: Callable[[KeystoreAddress], object], where: KeystoreAddress, setting: str
) -> None:
    with pytest.raises(KeystoreMisconfigured, match=setting):
        opener(where)


def test_endpoints_are_denied_by_default(tmp_path: Path) -> None:
    written(tmp_path, "a", **XKS)
    keystores = HttpsKeystores(read_credentials(tmp_path), [], "dev-test", 1.0)
    with pytest.raises(KeystoreMisconfigured, match="keystore_endpoints"):
        keystores.open(KeystoreAddress(Provider.XKS, ENDPOINT, "k", "a"))
