"""What is a readable CloudEvent, and what is refused before anybody looks at its signature."""

import base64
import json
from collections.abc import Mapping, Sequence

import pytest

from tests.unit.flow_events.letters import BODY, NOW_MS, PAIR, REPLIES, record
from worker.flow.events import MAX_ATTRIBUTE, MAX_ECHO, STRUCTURED, Unreadable, decode
from worker.model.requests import Recipient


def structured(**changes: object) -> bytes:
    event: dict[str, object] = {
        "specversion": "1.0",
        "id": "request-1",
        "source": "tests",
        "type": "keyriver.wrap.v1",
        "time": "2026-09-21T14:13:20Z",
        "tenant": "acme",
        "client": "billing",
        "replyto": REPLIES,
        "data": {"b": 1, "a": [2]},
    }
    merged = event | changes
    return json.dumps({name: value for name, value in merged.items() if value is not None}).encode()


ONLY_STRUCTURED = (("content-type", STRUCTURED.encode()), ("keyriver-signature", b"signed"))


def test_binary_mode() -> None:
    text = base64.b64encode(PAIR.public).decode()
    event = decode(
        record(
            {
                "ce_recipient": f"x25519:{text}",
                "ce_deadline": "2026-09-21T14:14:20Z",
                "ce_replypartition": "3",
                "keyriver-signature": "a..b",
                "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                "somebody-elses": b"\xff",
            }
        )
    )
    assert (event.id, event.source, event.type) == ("request-1", "tests", "keyriver.wrap.v1")
    assert (event.tenant, event.client, event.time_ms) == ("acme", "billing", NOW_MS)
    assert event.deadline_ms == NOW_MS + 60_000
    assert event.recipient == Recipient(PAIR.suite, PAIR.public)
    assert (event.reply_topic, event.reply_partition, event.signature) == (REPLIES, 3, "a..b")
    assert event.body == BODY
    assert [name for name, _ in event.trace] == ["traceparent"]


def test_structured_mode_has_one_body_however_it_was_written() -> None:
    event = decode(record(ONLY_STRUCTURED, structured(correlationid="c-1")))
    spaced = decode(record(ONLY_STRUCTURED, structured(data={"a": [2], "b": 1})))
    assert event.body == spaced.body == b'{"a":[2],"b":1}'
    assert event.route.echo == (("ce_correlationid", b"c-1"),)
    assert event.signature == "signed"
    in_base64 = structured(data=None, data_base64=base64.b64encode(BODY).decode())
    assert decode(record(ONLY_STRUCTURED, in_base64)).body == BODY
    assert decode(record(ONLY_STRUCTURED, structured(data=None))).body == b"null"


def test_spring_says_the_same_in_its_own_words() -> None:
    event = decode(
        record(
            {
                "ce_replyto": None,
                "kafka_replyTopic": REPLIES,
                "kafka_replyPartition": b"\0\0\0\x05",
                "kafka_correlationId": b"\x80\xff\0",
            }
        )
    )
    assert (event.reply_topic, event.reply_partition) == (REPLIES, 5)
    assert dict(event.route.echo) == {"kafka_replyPartition": b"\0\0\0\x05", "kafka_correlationId": b"\x80\xff\0"}


def test_faststream_says_the_same_in_its_own_words() -> None:
    event = decode(record({"ce_replyto": None, "reply_to": REPLIES, "correlation_id": "c-2"}))
    assert (event.reply_topic, event.route.echo) == (REPLIES, (("correlation_id", b"c-2"),))


def test_all_three_may_be_there_if_they_agree() -> None:
    event = decode(record({"kafka_replyTopic": REPLIES, "reply_to": REPLIES, "ce_replypartition": "0"}))
    assert (event.reply_topic, event.reply_partition) == (REPLIES, 0)


RELEVANT = (
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_time",
    "ce_tenant",
    "ce_client",
    "ce_replyto",
    "ce_specversion",
    "ce_deadline",
    "ce_recipient",
    "ce_replypartition",
    "ce_correlationid",
    "content-type",
    "keyriver-signature",
    "kafka_replyTopic",
    "kafka_replyPartition",
    "kafka_correlationId",
    "reply_to",
    "correlation_id",
    "traceparent",
    "tracestate",
)


@pytest.mark.parametrize("name", RELEVANT)
def test_a_doubled_header_is_refused_even_if_both_say_the_same(name: str) -> None:
    honest = record({name: "x"}) if name not in dict(record().headers) else record({})
    value = dict(honest.headers)[name]
    with pytest.raises(Unreadable, match="stands twice"):
        decode(record((*honest.headers, (name, value))))


@pytest.mark.parametrize("name", ["id", "source", "type", "tenant", "client", "time", "replyto", "specversion"])
def test_a_missing_attribute_is_refused(name: str) -> None:
    for absent in (None, ""):
        with pytest.raises(Unreadable):
            decode(record({f"ce_{name}": absent}))
    with pytest.raises(Unreadable):
        decode(record(ONLY_STRUCTURED, structured(**{name: None})))
    with pytest.raises(Unreadable):
        decode(record(ONLY_STRUCTURED, structured(**{name: 1})))


@pytest.mark.parametrize(
    "headers",
    [
        {"kafka_replyTopic": "u.other.v1"},
        {"reply_to": "u.other.v1"},
        {"kafka_replyTopic": REPLIES, "reply_to": "u.other.v1"},
        {"ce_replyto": None, "kafka_replyTopic": REPLIES, "reply_to": "u.other.v1"},
        {"ce_replypartition": "1", "kafka_replyPartition": b"\0\0\0\x02"},
    ],
)
def test_contradicting_headers_are_refused(headers: dict[str, str | bytes | None]) -> None:
    with pytest.raises(Unreadable, match="contradict"):
        decode(record(headers))


def each(names: Sequence[str], values: Sequence[str | bytes]) -> list[Mapping[str, str | bytes | None]]:
    return [{name: value} for name in names for value in values]


NAMES = ("ce_id", "ce_source", "ce_type", "ce_tenant", "ce_client")
HOSTILE: list[Mapping[str, str | bytes | None]] = [
    *each(["ce_specversion"], ["1.1", b"\xff"]),
    *each([*NAMES, "ce_deadline", "ce_anything", "keyriver-signature", "kafka_replyTopic"], [b"\xc3\x28"]),
    *each(NAMES, ["x" * (MAX_ECHO + 1), "a\0b", "a\nb", "a\x7fb", "a\u0085b"]),
    *each(["ce_anything", "keyriver-signature", "kafka_correlationId"], ["x" * (MAX_ATTRIBUTE + 1)]),
    *each(["ce_correlationid", "kafka_correlationId", "correlation_id"], ["x" * (MAX_ECHO + 1)]),
    *each(["ce_replypartition"], ["-1", "1.0", "\u0663", "9" * 10, "0x1", " 1"]),
    *each(["kafka_replyPartition"], [b"", b"\0\0\0", b"\0\0\0\0\0"]),
    *each(["ce_recipient"], ["x25519:!", "rsa:AAAA", ":", "x25519:AAA", "x25519:\u0663\u0663=="]),
    *each(["ce_time"], ["now", "2026-09-21T14:13:20", "2026-13-01T00:00:00Z", "1790000000000"]),
    *each(["ce_deadline"], ["soon"]),
    *each(["content-type"], [STRUCTURED]),
]


@pytest.mark.parametrize("headers", HOSTILE, ids=lambda headers: " ".join(headers)[:40])
def test_hostile_headers_are_unreadable(headers: Mapping[str, str | bytes | None]) -> None:
    with pytest.raises(Unreadable):
        decode(record(headers))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe\x00",
        b'{"id":"a","id":"b"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        structured(data=None, data_base64="AAAA") + b" ",
        structured(data_base64="AAAA"),
        structured(data=None, data_base64="not base64!"),
        structured(data=None, data_base64=["AAAA"]),
        structured(id="\ud800"),
        structured(correlationid="\udfff"),
        structured(client="a\0b"),
        structured(data="\ud800").replace(b'"time"', b'"\\ud800"'),
        b'{"specversion":"1.0","data":' + b"9" * 5000 + b"}",
    ],
    ids=range(17),
)
def test_hostile_structured_events_are_unreadable(value: bytes) -> None:
    if value.endswith(b" "):
        assert decode(record(ONLY_STRUCTURED, value)).body == b"\0\0\0"
        return
    with pytest.raises(Unreadable):
        decode(record(ONLY_STRUCTURED, value))
