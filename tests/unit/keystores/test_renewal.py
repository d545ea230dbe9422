"""A credential that changed opens its keystores anew, and no more addresses are kept than there is room for."""

import json
from pathlib import Path

import pytest

from worker.edges.keystores import CredentialFolder, HttpsKeystores, read_credentials
from worker.edges.keystores.fake import FakeKeystore
from worker.flow import guarding
from worker.flow.guarding import GuardedKeystores
from worker.model.keystores import KeystoreAddress, KeystoreMisconfigured, Provider

PLACE = "https://bao.example"


def write(folder: Path, name: str, token: str) -> None:
    told = {"provider": "transit", "endpoints": [PLACE], "token": token}
    path = folder / f"{name}.json"
    path.unlink(missing_ok=True)
    path.write_text(json.dumps(told))
    path.chmod(0o400)


def address(name: str, key: str = "k") -> KeystoreAddress:
    return KeystoreAddress(Provider.TRANSIT, PLACE, key, name)


async def test_a_changed_credential_opens_its_keystores_anew_and_no_others(tmp_path: Path) -> None:
    write(tmp_path, "acme", "one")
    write(tmp_path, "bolt", "two")
    https = HttpsKeystores(read_credentials(tmp_path), [PLACE], "dev-test", 1.0)
    folder, keystores = CredentialFolder(tmp_path, https), GuardedKeystores({Provider.TRANSIT: https.open})
    acme, bolt = keystores.of(address("acme")), keystores.of(address("bolt"))
    assert await keystores.renew(folder) == 0
    assert keystores.of(address("acme")) is acme
    write(tmp_path, "acme", "three")
    assert await keystores.renew(folder) == 1
    again = keystores.of(address("acme"))
    assert again is not acme
    assert again._store._headers["x-vault-token"] == "three"  # type: ignore[attr-defined]
    assert keystores.of(address("bolt")) is bolt
    write(tmp_path, "new", "four")
    await keystores.renew(folder)
    keystores.of(address("new"))
    (tmp_path / "bolt.json").unlink()
    assert await keystores.renew(folder) == 1
    with pytest.raises(KeystoreMisconfigured):
        keystores.of(address("bolt"))
    await keystores.close()


async def test_a_folder_in_disorder_changes_nothing_and_is_told_each_time(tmp_path: Path) -> None:
    write(tmp_path, "acme", "one")
    https = HttpsKeystores(read_credentials(tmp_path), [PLACE], "dev-test", 1.0)
    folder, keystores = CredentialFolder(tmp_path, https), GuardedKeystores({Provider.TRANSIT: https.open})
    acme = keystores.of(address("acme"))
    write(tmp_path, "acme", "not visible ASCII: \u00e4")
    for _ in range(2):
        with pytest.raises(KeystoreMisconfigured, match="acme"):
            await keystores.renew(folder)
    assert keystores.of(address("acme")) is acme
    assert await CredentialFolder(None, https).changed() == frozenset()
    await keystores.close()


async def test_addresses_that_nobody_asks_for_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarding, "MOST", 2)
    closed: list[str] = []

    class Closing(FakeKeystore):
        async def close(self) -> None:
            closed.append("closed")

    class Same:
        async def changed(self) -> frozenset[str]:
            return frozenset()

    keystores = GuardedKeystores({Provider.TRANSIT: lambda where: Closing(where.key)})
    one, two = keystores.of(address("acme", "1")), keystores.of(address("acme", "2"))
    assert keystores.of(address("acme", "1")) is one
    keystores.of(address("acme", "3"))
    assert keystores.of(address("acme", "1")) is one
    assert keystores.of(address("acme", "2")) is not two
    two._inside = 1
    await keystores.renew(Same())
    assert len(closed) == 1, "one is still asked something"
    two._inside = 0
    await keystores.renew(Same())
    assert len(closed) == 2
