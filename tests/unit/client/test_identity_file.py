"""The identity file holds private keys: it is used only if nobody else may read it, and never quoted."""

from pathlib import Path

import pytest

from tests.unit.client.fleet import Fleet
from worker.client import BadIdentityFile, KeyriverClient, load_identity
from worker.seal.identity import dump_identity


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "billing.json"
    path.write_bytes(dump_identity(Fleet().identity))
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("mode", [0o400, 0o600])
def test_the_owners_own_file_is_read(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert load_identity(file).client == "billing"
    assert isinstance(KeyriverClient.connect(file, "127.0.0.1:9"), KeyriverClient)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o666, 0o604, 0o700])
def test_a_file_that_others_may_read_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(BadIdentityFile, match=f"mode is 0{mode:o}"):
        load_identity(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadIdentityFile, match=r"nobody\.json: No such file"):
        load_identity(tmp_path / "nobody.json")


def test_a_broken_document_is_refused_without_quoting_it(file: Path) -> None:
    document = file.read_bytes()
    file.write_bytes(document.replace(b"BEGIN PRIVATE KEY", b"BEGIN PRIVATE KEX"))
    with pytest.raises(BadIdentityFile, match="private_key") as refused:
        load_identity(file)
    assert "KEX" not in str(refused.value)
    file.write_bytes(document.replace(b'"tenant"', b'"tenancy"'))
    with pytest.raises(BadIdentityFile, match=r"tenancy, tenant"):
        load_identity(file)
