"""What doctor makes of what it saw: S17, each with its cure."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Configure
from worker.cli import findings
from worker.cli.config import load
from worker.cli.findings import Finding, Grade
from worker.edges.bus.admin import Difference
from worker.edges.store.chores import StoreFacts
from worker.edges.store.fleet import Fleet
from worker.model.keystores import (
    KeystoreAddress,
    KeystoreFault,
    KeystoreForbidden,
    KeystoreMisconfigured,
    KeystoreUnreachable,
    Provider,
)
from worker.settings import Settings

GOOD = StoreFacts("17.2", "on", fsync=True, is_primary=True, ssl=True, schema="0001")
FLEET = Fleet("dev-test", b"p", "serial", 0, backup_recorded_ms=1)


def failed(found: Iterable[Finding]) -> list[str]:
    """What has to be mended; every bad finding has a cure."""
    listed = list(found)
    assert all(finding.cure for finding in listed if finding.grade is not Grade.OK)
    return [finding.seen for finding in listed if finding.grade is Grade.FAIL]


def test_a_good_store_is_well() -> None:
    assert failed(findings.of_store(GOOD, "standby", is_development=False)) == []


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (StoreFacts("17", "off", fsync=True, is_primary=True, ssl=True, schema=""), "synchronous_commit is off"),
        (StoreFacts("17", "on", fsync=False, is_primary=True, ssl=True, schema=""), "fsync is off"),
        (StoreFacts("17", "on", fsync=True, is_primary=False, ssl=True, schema=""), "this server is a replica"),
    ],
)
@pytest.mark.parametrize("is_development", [True, False])
def test_what_answers_rest_on_is_never_optional(facts: StoreFacts, said: str, is_development: bool) -> None:
    (seen,) = failed(findings.of_store(facts, "standby", is_development=is_development))
    assert seen.startswith(said)


def test_production_needs_an_encrypted_connection() -> None:
    plain = StoreFacts("17", "on", fsync=True, is_primary=True, ssl=False, schema="")
    assert failed(findings.of_store(plain, "standby", is_development=False)) == ["this connection is not encrypted"]
    assert failed(findings.of_store(plain, "standby", is_development=True)) == []


def test_an_asynchronous_failover_is_a_warning() -> None:
    grades = [finding.grade for finding in findings.of_store(GOOD, "", is_development=False)]
    assert grades == [Grade.OK, Grade.WARN]


def test_production_without_a_recorded_backup_is_refused(configure: Configure) -> None:
    configure()
    settings = load(Settings)
    bare = Fleet("dev-test", b"p", "serial", 0)
    assert failed(findings.of_fleet(bare, "", settings, 1)) == []
    production = settings.model_copy(update={"fleet": "prod"})
    seen = failed(findings.of_fleet(Fleet("prod", b"p", "serial", 0), "", production, 1))
    assert seen == ["never recorded: if the token is lost, every key is lost"]
    assert failed(findings.of_fleet(FLEET, "", settings, 1)) == []


def test_a_backup_from_before_the_newest_fleet_key_is_none(configure: Configure) -> None:
    configure()
    settings = load(Settings)
    old = Fleet("prod", b"p", "serial", 0, backup_recorded_ms=5, rotated_ms=6)
    production = settings.model_copy(update={"fleet": "prod"})
    (seen,) = failed(findings.of_fleet(old, "", production, 10))
    assert seen.startswith("recorded before the newest fleet key was made")
    assert failed(findings.of_fleet(Fleet("prod", b"p", "serial", 0, 6, 6), "", production, 10)) == []


def test_another_fleets_database_is_refused(configure: Configure) -> None:
    configure()
    settings = load(Settings)
    stranger = Fleet("dev-other", b"p", "serial", 0, backup_recorded_ms=1)
    assert failed(findings.of_fleet(stranger, "", settings, 1)) == ["this database belongs to dev-other"]
    assert failed(findings.of_fleet(None, "", settings, 1)) == ["this database belongs to no fleet"]
    assert failed(findings.of_fleet(FLEET, "lacks 0002", settings, 1)) == ["lacks 0002"]


def test_secret_files_are_their_owners_alone(configure: Configure) -> None:
    configure()
    settings = load(Settings)

    def modes(pin: int) -> dict[Path, int]:
        return {settings.hsm_pin_file: 0o100000 | pin, settings.postgres_dsn_file: 0o100600}

    assert failed(findings.of_files(settings, modes(0o400))) == []
    assert failed(findings.of_files(settings, modes(0o440))) == ["others may read it (mode 0440)"]
    assert failed(findings.of_files(settings, modes(0o644))) == ["others may read it (mode 0644)"]


def test_a_ledger_shorter_than_the_topics_memory_is_refused(configure: Configure) -> None:
    configure(ledger_window_days=10)
    (seen,) = failed(findings.of_settings(load(Settings)))
    assert seen.startswith("10 days")


def test_topics_that_break_a_promise_are_named() -> None:
    missing = Difference("k.wrap.v1", "topic", "missing", "there")
    time = Difference("k.keys.v1", "message.timestamp.type", "CreateTime", "LogAppendTime")
    seen = failed(findings.of_topics([missing, time]))
    assert seen == ["missing: k.wrap.v1", "k.keys.v1: message.timestamp.type is CreateTime, has to be LogAppendTime"]
    assert failed(findings.of_topics([])) == []


def test_clocks() -> None:
    assert findings.of_clock(1_000_000, 1_000_400).grade is Grade.OK
    assert findings.of_clock(1_000_000, 1_005_000).grade is Grade.WARN
    assert findings.of_clock(1_000_000, 900_000).grade is Grade.FAIL


WHERE = KeystoreAddress(Provider.XKS, "https://kms.acme.example", "-", "acme")


@pytest.mark.parametrize(
    ("seen", "grade"),
    [
        ("Acme Proxy 1: ACTIVE", Grade.OK),
        (KeystoreMisconfigured("keystore_endpoints: not allowed"), Grade.FAIL),
        (KeystoreForbidden("401"), Grade.WARN),
        (KeystoreUnreachable("no answer within 250 ms"), Grade.WARN),
    ],
)
def test_a_customers_keystore_is_his_affair(seen: str | KeystoreFault, grade: Grade) -> None:
    found = findings.of_keystore(WHERE, seen)
    assert found.grade is grade
    assert str(seen) in found.seen
    assert bool(found.cure) is (grade is not Grade.OK)
