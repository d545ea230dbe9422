"""The tables of codes, operations, rows and records: complete, and as they must stay."""

from dataclasses import fields, is_dataclass
from inspect import getmembers, isclass
from types import ModuleType
from typing import get_args
from uuid import UUID

import pytest

from worker.model import effects, facts, fleet, hsm, outcomes, records, requests, rows, topics, words
from worker.model.bodies import BODIES
from worker.model.codes import MEANINGS, Code, Family, is_retryable
from worker.model.operations import BY_TYPE, DATA_OPERATIONS, SERVICE_OPERATIONS, Operation, Permission
from worker.model.records import ITEM_BYTES, Partition, Record
from worker.model.replies import ERRORS, REPLIES, RESULTS
from worker.model.rows import Suite

TRANSIENT = {Code.DEFERRED, Code.WRONG_TOKEN, Code.KEK_OPENING, Code.THROTTLED, Code.KEYSTORE_UNREACHABLE}
NEVER_ANSWERED = {Code.UNREADABLE, Code.UNAUTHENTICATED, Code.REPLY_TOPIC_REFUSED}
SECRET_FIELDS = {"dek", "value", "headers", "unsealed"}


@pytest.mark.parametrize("code", Code)
def test_every_code_has_a_family_and_a_sentence(code: Code) -> None:
    assert code.value == code.name
    assert MEANINGS[code].message.endswith(".")
    family = Family.TRANSIENT if code in TRANSIENT else Family.POISON if code in NEVER_ANSWERED else Family.CALLER
    assert MEANINGS[code].family is family
    assert is_retryable(code) is MEANINGS[code].retry is (code in TRANSIENT)
    assert (ERRORS[code].code, ERRORS[code].message, ERRORS[code].retry) == (
        code,
        MEANINGS[code].message,
        code in TRANSIENT,
    )


def test_messages_do_not_tell_two_codes_apart_that_must_look_alike() -> None:
    assert len({meaning.message for meaning in MEANINGS.values()}) == len(MEANINGS)


@pytest.mark.parametrize("operation", Operation)
def test_every_operation_has_its_type_body_result_and_topic(operation: Operation) -> None:
    assert operation.request_type == f"keyriver.{operation}.v1"
    assert operation.reply_type == f"{operation.request_type}.reply"
    assert BY_TYPE[operation.request_type] is operation
    assert operation in BODIES
    assert operation in RESULTS
    assert operation in REPLIES
    own = {"wrap": "wrap.v1", "unwrap": "unwrap.v1", "rewrap": "rewrap.v1", "key.rotate": "rotate.v1"}
    own |= dict.fromkeys(
        ("key.disable", "key.suspend", "key.compromise", "link.cut", "approval.approve", "approval.reject"),
        "control.v1",
    )
    own |= dict.fromkeys(("policy.revoke", "grant.revoke"), "control.v1")
    own |= {"campaign.pause": "control.v1", "campaign.cancel": "control.v1"}
    own |= {"trigger": "triggers.v1", "trigger.remove": "control.v1"}
    assert operation.topic == own.get(operation.value, "keys.v1")


def test_what_makes_or_changes_something_is_ledgered() -> None:
    reads = {Operation.UNWRAP, Operation.KEY_SHOW, Operation.KEY_LIST, Operation.CLIENT_LIST, Operation.APPROVAL_LIST}
    reads |= {Operation.LINK_SHOW, Operation.LINK_LIST, Operation.REGION_LIST}
    reads |= {Operation.LINK_SHOW, Operation.LINK_LIST, Operation.CAMPAIGN_PLAN, Operation.CAMPAIGN_SHOW}
    reads |= {Operation.CAMPAIGN_LIST, Operation.CAMPAIGN_FAILURES, Operation.CAMPAIGN_EXPOSED}
    reads |= {Operation.POLICY_LIST, Operation.POLICY_CHECK, Operation.GRANT_LIST, Operation.TENANT_QUOTAS}
    reads |= {Operation.FLEET_SHOW, Operation.TRIGGER_LIST, Operation.TRIGGER_CHECK}
    assert {operation for operation in Operation if not operation.is_ledgered} == reads
    assert {operation.value for operation in DATA_OPERATIONS} == {"wrap", "unwrap", "rewrap"}
    assert DATA_OPERATIONS | {Operation.TRIGGER} == SERVICE_OPERATIONS
    allowed = ["wrap", "unwrap", "rewrap", "rewrap-from", "rewrap-to", "trigger"]
    assert [permission.value for permission in Permission] == allowed


@pytest.mark.parametrize("suite", Suite)
def test_only_the_hybrid_suite_is_stronger_than_another(suite: Suite) -> None:
    assert suite.at_least(Suite.P256)
    assert suite.at_least(Suite.X25519)
    assert suite.at_least(Suite.MLKEM768_X25519) is (suite is Suite.MLKEM768_X25519)


def test_every_table_of_rows_has_a_kind_of_row() -> None:
    kinds = get_args(rows.Row)
    assert {kind.TABLE for kind in kinds} == set(rows.Table)
    assert all("revision" in {field.name for field in fields(kind)} for kind in kinds)


def test_rows_are_named_by_their_table_and_key() -> None:
    row = rows.IntakeKey(42, Suite.P256, b"p", b"w", 1, 2, 1)
    assert row.ref == rows.RowRef(rows.Table.INTAKE_KEYS, "42")


def test_a_record_knows_its_place_and_what_it_will_take() -> None:
    record = Record(Partition("t", 3), 17, b"key", b'{"items":[{},{}]}', (("a", b"bc"), ("d", b"")), 5, 1)
    assert (record.at, record.place) == ((Partition("t", 3), 17), "t/3@17")
    assert record.size == 3 + 17 + 3 + 1
    assert record.weight == record.size + 3 * ITEM_BYTES
    assert Record(Partition("t", 3), 17, None, b"", (), 5, 1).weight == 0


def test_what_is_in_base64_weighs_as_much_as_it_may_hold() -> None:
    value = b'{"data_base64":"' + b"A" * 400 + b'"}'
    assert Record(Partition("t", 3), 1, None, value, (), 5, 1).weight == len(value) + len(value) // 4 * ITEM_BYTES
    value = b'{"data_base64":"' + b"A" * 8000 + b'"}'
    assert Record(Partition("t", 3), 1, None, value, (), 5, 1).weight == len(value) + 1000 * ITEM_BYTES


@pytest.mark.parametrize("module", [effects, facts, fleet, hsm, outcomes, records, requests, rows, topics, words])
def test_all_that_passes_between_stages_is_frozen_and_prints_no_secret(module: ModuleType) -> None:
    kinds = [
        kind for _, kind in getmembers(module, isclass) if kind.__module__ == module.__name__ and is_dataclass(kind)
    ]
    assert kinds
    for kind in kinds:
        assert getattr(kind, "__dataclass_params__").frozen, kind  # noqa: B009 - it has no public name
        assert hasattr(kind, "__slots__"), kind
        if kind is not effects.MoveDek:  # there `dek` is a row, whose blob is no secret
            shown = {field.name for field in fields(kind) if field.repr}
            assert shown.isdisjoint(SECRET_FIELDS), kind


def test_a_dek_never_stands_in_a_repr() -> None:
    dek = b"SECRETSECRETSECR"
    told = (
        outcomes.Wrapped(UUID(int=1), UUID(int=2), 1, b"blob", dek),
        outcomes.Unwrapped(UUID(int=2), 1, dek),
        hsm.WrappedDek(b"n", b"c", dek),
        hsm.UnwrappedDek(dek, b"d"),
    )
    assert "SECRET" not in repr(told)


@pytest.mark.parametrize("lane", topics.Lane)
def test_a_lane_consumes_its_topics_under_its_group(lane: topics.Lane) -> None:
    names = topics.Topics("p")
    assert set(names.lane(lane)) <= set(names.requests)
    assert names.group(lane) == f"p.{lane}"


def test_every_request_topic_is_in_one_lane() -> None:
    names = topics.Topics("p")
    consumed = [topic for lane in topics.Lane for topic in names.lane(lane)]
    assert sorted(consumed) == sorted(names.requests)
    assert {f"p.{operation.topic}" for operation in Operation} <= set(consumed)
