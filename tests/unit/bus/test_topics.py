"""Names, settings and lanes of the topics, and what is said when a cluster's differ."""

import pytest

from worker.edges.bus.admin import Difference, compare
from worker.edges.bus.render import Principals, acl_commands, topic_commands
from worker.model.topics import (
    DEAD_LETTER_LIMIT_BYTES,
    LEDGER_WINDOW_MS,
    REQUEST_LIMIT_BYTES,
    TOPIC_LIMIT_BYTES,
    Cleanup,
    Lane,
    Topics,
    TopicSpec,
    Writer,
    dead_letter_topic,
    limits,
    specs,
)

TOPICS = Topics("acme")
SPECS = {spec.name: spec for spec in specs(TOPICS)}


def test_every_topic_of_the_contract_is_there_under_its_prefix() -> None:
    nouns = "wrap unwrap rotate keys control rewrap replies events triggers audit intake hints sequences undelivered"
    names = {f"acme.{noun}.v1" for noun in nouns.split()}
    assert names | set(map(dead_letter_topic, TOPICS.requests)) == SPECS.keys()


def test_each_lane_has_its_topics_and_a_group() -> None:
    assert TOPICS.lane(Lane.CONTROL) == ("acme.control.v1",)
    interactive = TOPICS.lane(Lane.INTERACTIVE)
    assert interactive == (
        "acme.wrap.v1",
        "acme.unwrap.v1",
        "acme.rotate.v1",
        "acme.keys.v1",
        "acme.triggers.v1",
    )
    assert TOPICS.lane(Lane.BULK) == ("acme.rewrap.v1",)
    assert TOPICS.group(Lane.BULK) == "acme.bulk"


def test_requests_are_forgotten_before_the_ledger_forgets_them() -> None:
    for name in TOPICS.requests:
        retention = SPECS[name].retention_ms
        assert retention is not None
        assert retention < LEDGER_WINDOW_MS
    assert SPECS[TOPICS.wrap].retention_ms == 72 * 3_600_000


def test_limits_stand_in_their_order() -> None:
    assert REQUEST_LIMIT_BYTES < TOPIC_LIMIT_BYTES < DEAD_LETTER_LIMIT_BYTES
    assert limits(TOPICS)[TOPICS.wrap] == TOPIC_LIMIT_BYTES
    assert limits(TOPICS)[dead_letter_topic(TOPICS.wrap)] == DEAD_LETTER_LIMIT_BYTES
    assert "callers.replies" not in limits(TOPICS)


def test_append_time_is_the_broker_s_everywhere() -> None:
    assert {spec.config["message.timestamp.type"] for spec in SPECS.values()} == {"LogAppendTime"}
    assert SPECS[TOPICS.sequences].config["cleanup.policy"] == "compact"
    assert SPECS[TOPICS.sequences].config["retention.ms"] == "-1"
    assert SPECS[TOPICS.intake].config["cleanup.policy"] == "compact,delete"


@pytest.mark.parametrize(
    ("setting", "value", "is_wrong"),
    [
        ("message.timestamp.type", "CreateTime", True),
        ("cleanup.policy", "compact", True),
        ("compression.type", "producer", True),
        ("max.message.bytes", "1048588", True),
        ("max.message.bytes", "99999999", False),
        ("retention.ms", "-1", True),
        ("retention.ms", str(LEDGER_WINDOW_MS), True),
        ("retention.ms", "1000", False),
    ],
)
def test_a_setting_that_breaks_a_promise_is_named(setting: str, value: str, is_wrong: bool) -> None:
    spec = SPECS[TOPICS.wrap]
    found = compare(spec, spec.config | {setting: value})
    assert [each.setting for each in found] == ([setting] if is_wrong else [])


def test_a_policy_of_two_parts_is_the_same_in_any_order() -> None:
    spec = TopicSpec("t", 1, Cleanup.BOTH, 1000, 10, Writer.WORKERS)
    assert compare(spec, spec.config | {"cleanup.policy": "delete,compact"}) == []


def test_a_difference_is_told_in_one_line() -> None:
    assert str(Difference("t", "a.b", "1", "2")) == "t: a.b is 1, has to be 2"


def test_commands_create_every_topic_with_its_settings() -> None:
    commands = topic_commands(SPECS.values(), 3)
    assert len(commands) == len(SPECS)
    wrap = next(each for each in commands if "--topic acme.wrap.v1 " in each)
    assert "--partitions 12 --replication-factor 3" in wrap
    assert "--config message.timestamp.type=LogAppendTime" in wrap


def test_only_workers_may_write_what_the_fleet_says() -> None:
    who = Principals()
    ours = (TOPICS.replies, TOPICS.intake, TOPICS.hints, TOPICS.audit, TOPICS.events, TOPICS.sequences)
    commands = acl_commands(TOPICS, who, ["their.replies"])
    for name in ours:
        writers = [each for each in commands if each.endswith(f"--topic {name}") and "Write" in each]
        assert len(writers) == 1
        assert who.workers in writers[0]
    assert any(who.workers in each and each.endswith("--topic their.replies") for each in commands)
    assert not any(who.services in each and "control" in each for each in commands)
    assert sum("--group acme." in each for each in commands) == 3
