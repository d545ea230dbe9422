"""CloudEvents 1.0 over Kafka (binary and structured mode), and the reply routing that Spring Kafka and FastStream send.

Done by hand, for the SDK folds headers into a dictionary and so can't see a doubled one, which is an attack here.
"""

import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from worker.model.records import Headers, Record
from worker.model.requests import Recipient, ReplyRoute
from worker.model.rows import Suite

SIGNATURE = "keyriver-signature"
STRUCTURED = "application/cloudevents+json"
MAX_ATTRIBUTE = 2048
"""Bytes of one attribute; a P-256, X25519 or hybrid recipient key fits."""
MAX_ECHO = 256
MAX_STRUCTURED = 3 * 1024 * 1024
"""Bytes: a request of 2 MiB in base64, and its attributes."""
MAX_BRACKETS = 4096
"""A request of 1,000 items with contexts opens little more than 2,000."""
_TRACE = ("traceparent", "tracestate")
_REPLY_TOPICS = ("ce_replyto", "kafka_replyTopic", "reply_to")
_CORRELATIONS = ("ce_correlationid", "kafka_correlationId", "correlation_id")
_PARTITIONS = ("ce_replypartition", "kafka_replyPartition")
_ECHOED = frozenset((*_CORRELATIONS, "kafka_replyPartition"))
_SPRING_PARTITION_BYTES = 4


class Unreadable(ValueError):
    """Not a CloudEvent that anybody could have meant for us."""


@dataclass(frozen=True, slots=True)
class Event:
    """A CloudEvent as it came; nothing is verified yet. `body` is the data's bytes, `signature` the detached JWS."""

    record: Record = field(repr=False)
    id: str
    source: str
    type: str
    tenant: str
    client: str
    time: str
    time_ms: int
    deadline: str
    deadline_ms: int | None
    recipient: Recipient | None
    reply_topic: str
    reply_partition: int | None
    route: ReplyRoute
    signature: str
    body: bytes = field(repr=False)
    trace: Headers = ()


def decode(record: Record) -> Event:
    """Read a record. Raises `Unreadable`, saying what is wrong."""
    headers = _headers(record.headers)
    if headers.get("content-type", b"").startswith(STRUCTURED.encode()):
        attributes, body = _structured(record.value)
        clash = [name for name in headers if name.startswith("ce_")]
        if clash:
            raise Unreadable("a structured event must not carry ce_ headers too")
    else:
        attributes = {name[3:]: _text(value) for name, value in headers.items() if name.startswith("ce_")}
        body = record.value
    if not all(text.isprintable() for text in attributes.values()):
        raise Unreadable("an attribute holds a character that does not print")
    if attributes.get("specversion") != "1.0":
        raise Unreadable("specversion must be 1.0")
    topic = _agreed(_REPLY_TOPICS, headers, attributes)
    partition = _partition(headers, attributes)
    if not topic:
        raise Unreadable("no reply topic")
    deadline = attributes.get("deadline", "")
    return Event(
        record=record,
        id=_needed(attributes, "id"),
        source=_needed(attributes, "source"),
        type=_needed(attributes, "type"),
        tenant=_needed(attributes, "tenant"),
        client=_needed(attributes, "client"),
        time=_needed(attributes, "time"),
        time_ms=_milliseconds(attributes["time"]),
        deadline=deadline,
        deadline_ms=_milliseconds(deadline) if deadline else None,
        recipient=_recipient(attributes.get("recipient", "")),
        reply_topic=topic,
        reply_partition=partition,
        route=_route(topic, partition, _echo(headers, attributes)),
        signature=_text(headers.get(SIGNATURE, b"")),
        body=body,
        trace=tuple((name, headers[name]) for name in _TRACE if name in headers),
    )


def _headers(raw: Headers) -> dict[str, bytes]:
    """The headers that mean something here. One that stands twice is refused; others may do as they like."""
    found: dict[str, bytes] = {}
    for name, value in raw:
        ours = name.startswith("ce_") or name in _MEANT
        if not ours:
            continue
        if name in found:
            raise Unreadable(f"the header {name[:64]} stands twice")
        if len(value) > MAX_ATTRIBUTE:
            raise Unreadable(f"the header {name[:64]} is too long")
        found[name] = value
    return found


_MEANT = frozenset((SIGNATURE, "content-type", *_TRACE, *_REPLY_TOPICS, *_CORRELATIONS, *_PARTITIONS))


def _structured(value: bytes) -> tuple[dict[str, str], bytes]:
    """The attributes and the data's bytes; JSON data as canonical text, so that its digest is stable.

    Nobody has signed it yet, so what would take long to parse is refused before it is.
    """
    if len(value) > MAX_STRUCTURED or value.count(b"{") + value.count(b"[") > MAX_BRACKETS:
        raise Unreadable("a structured event with too much in it")
    try:
        event = json.loads(value.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise Unreadable("not a JSON object")
    attributes = {
        name: text for name, text in event.items() if isinstance(text, str) and name not in {"data", "data_base64"}
    }
    try:
        if "data_base64" in event:
            if "data" in event:
                raise ValueError  # noqa: TRY301 - two bodies, and readers that differ in which one they take
            return attributes, b64decode(str(event["data_base64"]), validate=True)
        return attributes, json.dumps(event.get("data"), sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        raise Unreadable("the event's data can't be read") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _agreed(names: tuple[str, ...], headers: Mapping[str, bytes], attributes: Mapping[str, str]) -> str | None:
    """The one value that all forms of a header give. Contradictions are refused: whoever signs must mean one thing."""
    values = {_text(headers[name]) for name in names[1:] if name in headers}
    attribute = attributes.get(names[0].removeprefix("ce_"))
    if attribute is not None:
        values.add(attribute)
    if len(values) > 1:
        raise Unreadable(f"{' and '.join(names)} contradict each other")
    return values.pop() if values else None


def _partition(headers: Mapping[str, bytes], attributes: Mapping[str, str]) -> int | None:
    spring = headers.get("kafka_replyPartition")
    text = attributes.get("replypartition")
    if spring is not None and len(spring) != _SPRING_PARTITION_BYTES:
        raise Unreadable("kafka_replyPartition must have four bytes")
    if text is not None and not (text.isascii() and text.isdigit() and len(text) < 10):  # noqa: PLR2004
        raise Unreadable("ce_replypartition must be a number")
    numbers = {int(text)} if text is not None else set()
    if spring is not None:
        numbers.add(int.from_bytes(spring, "big"))
    if len(numbers) > 1:
        raise Unreadable("ce_replypartition and kafka_replyPartition contradict each other")
    return numbers.pop() if numbers else None


def _route(topic: str, partition: int | None, echo: Headers) -> ReplyRoute:
    correlations = [value for name, value in echo if name in _CORRELATIONS]
    return ReplyRoute(topic, partition, echo, correlations[0].decode(errors="replace") if correlations else "")


def _echo(headers: Mapping[str, bytes], attributes: Mapping[str, str]) -> Headers:
    """What goes back as it came. In structured mode the correlation id stood in the event."""
    echo = [(name, value) for name, value in headers.items() if name in _ECHOED]
    if "ce_correlationid" not in headers and "correlationid" in attributes:
        echo.append(("ce_correlationid", attributes["correlationid"].encode()))
    if any(len(value) > MAX_ECHO for _, value in echo):
        raise Unreadable("a correlation id is too long")
    return tuple(echo)


def _recipient(text: str) -> Recipient | None:
    if not text:
        return None
    suite, _, key = text.partition(":")
    try:
        return Recipient(Suite(suite), b64decode(key, validate=True))
    except ValueError:
        raise Unreadable("the recipient key can't be read") from None


def _needed(attributes: Mapping[str, str], name: str) -> str:
    value = attributes.get(name, "")
    if not value or len(value) > MAX_ECHO:
        raise Unreadable(f"the attribute {name} is missing or too long")
    return value


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Unreadable("a header is not UTF-8") from None


def _milliseconds(text: str) -> int:
    """RFC 3339 with a zone, in Unix milliseconds."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError  # noqa: TRY301 - the same refusal as for what is no time at all
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise Unreadable("a time is not RFC 3339") from None
