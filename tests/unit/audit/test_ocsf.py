"""Records as a SIEM reads them: the fields of OCSF, and how bad it was."""

import json
from uuid import UUID

import pytest

from tests.unit.audit.book import leaf
from worker.chain import audit
from worker.chain.leaves import own_leaf
from worker.cli import ocsf
from worker.cli.ocsf import Severity
from worker.model.audit import LogEntry, LogRow
from worker.model.codes import Code

BODY = {
    "algorithm": "AES-256-GCM",
    "appended_ms": 2,
    "client": "billing",
    "correlation": "c-1",
    "counts": {"OK": 2, "NOT_FOUND: foreign": 1},
    "form": 1,
    "items": "00",
    "key": "01936120-0000-7000-8000-000000000001",
    "request": "r-1",
    "signed": "11",
    "source": "/billing",
    "tenant": "acme",
    "time_ms": 1,
    "type": "keyriver.unwrap.v1",
    "version": 3,
}


def row(**changed: object) -> LogRow:
    one = leaf(5, body=json.dumps(BODY | changed).encode())
    return LogRow(LogEntry(7, 5, one.id, audit.hash_of(one, 7)), one)


def test_a_record_is_an_api_activity() -> None:
    told = ocsf.event(row())
    assert (told["class_uid"], told["activity_id"], told["type_uid"]) == (6003, 2, 600_302)
    assert told["time"] == 1_795_471_200_000
    assert told["actor"]["user"]["name"] == "billing"
    assert told["api"]["request"]["uid"] == "r-1"
    assert told["resources"] == [{"uid": BODY["key"], "type": "key", "version": "3"}]
    assert told["metadata"]["sequence"] == 7
    assert told["metadata"]["correlation_uid"] == "c-1"
    assert (told["status"], told["status_code"], told["status_detail"]) == (
        "Failure",
        "NOT_FOUND",
        "NOT_FOUND: foreign",
    )
    assert told["severity_id"] == Severity.MEDIUM
    json.dumps(told)


def test_what_went_well_is_information() -> None:
    told = ocsf.event(row(counts={"OK": 1, "UNCHANGED": 1}, key=None, version=None, type="keyriver.unheard-of.v1"))
    assert (told["status"], told["status_code"], told["severity"]) == ("Success", "OK", "Informational")
    assert (told["activity_name"], told["resources"]) == ("Other", [])


@pytest.mark.parametrize(
    ("words", "worst"),
    [
        ({"OK"}, Severity.INFORMATIONAL),
        ({"DEFERRED", "OK"}, Severity.INFORMATIONAL),
        ({"MALFORMED"}, Severity.LOW),
        ({"NOT_FOUND", "MALFORMED"}, Severity.MEDIUM),
        ({"INTEGRITY: row", "NOT_FOUND"}, Severity.CRITICAL),
    ],
)
def test_the_worst_counts(words: set[str], worst: Severity) -> None:
    assert ocsf.severity(words) is worst


def test_every_code_has_a_severity() -> None:
    for code in Code:
        assert ocsf.severity([code.value]) in Severity


@pytest.mark.parametrize("body", [b"\xff", b"[]", b"{}", b'{"client":"x"}'])
def test_a_record_that_was_altered_is_told_as_such(body: bytes) -> None:
    one = leaf(5, body=body)
    told = ocsf.event(LogRow(LogEntry(7, 5, one.id, b""), one))
    assert (told["severity"], told["unmapped"]["body"]) == ("Critical", body.hex())
    gone = ocsf.event(LogRow(LogEntry(7, 5, one.id, b""), None))
    assert gone["unmapped"]["body"] == "gone"


@pytest.mark.parametrize(("word", "worst"), [("OK", Severity.INFORMATIONAL), ("PIN_LOCKED", Severity.CRITICAL)])
def test_what_happens_without_a_request_is_a_record_like_any_other(word: str, worst: Severity) -> None:
    made = own_leaf(UUID(int=1), "acme", 7, "keyriver.key.destroyed.v1", "versions a/1", {word: 1}, (UUID(int=2), 1))
    one = leaf(5, body=made.body)
    told = ocsf.event(LogRow(LogEntry(7, 5, one.id, audit.hash_of(one, 7)), one))
    assert (told["severity_id"], told["status_code"]) == (worst, word)
    assert (told["actor"]["user"]["name"], told["resources"][0]["uid"]) == ("keyriver", str(UUID(int=2)))
