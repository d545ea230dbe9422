"""The Kafka headers of the contract, as JSON Schema: CloudEvents attributes, signatures, and what frameworks add."""

from typing import Any

from worker.flow.events import MAX_ATTRIBUTE, MAX_ECHO

Json = dict[str, Any]


def _text(description: str, longest: int = MAX_ECHO, **more: object) -> Json:
    return {"type": "string", "description": description, "minLength": 1, "maxLength": longest, **more}


SIGNATURE = _text(
    'Detached JWS (RFC 7515, appendix F); its header is exactly {"alg","kid"}. What it covers is in README.md.', 1024
)
TIME = _text("RFC 3339 with a zone.", format="date-time")
TRACE: Json = {
    "traceparent": _text("W3C trace context; passed through.", MAX_ATTRIBUTE),
    "tracestate": _text("W3C trace context; passed through.", MAX_ATTRIBUTE),
}
CORRELATION: Json = {
    "ce_correlationid": _text("Echoed as it came. Not signed."),
    "kafka_correlationId": _text("Spring Kafka's; bytes, echoed as they came. Not signed."),
    "kafka_replyPartition": {
        "type": "string",
        "contentEncoding": "base64",
        "description": "Spring Kafka's: four bytes, big-endian (in base64 here only); echoed. Signed as a number.",
    },
    "correlation_id": _text("FastStream's; echoed as it came. Not signed."),
}


REQUEST: Json = {
    "type": "object",
    "description": "Of a request, in binary mode. In structured mode the ce_ ones stand in the value, without ce_.",
    "properties": {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": _text("The request's id: one client, source and id mean one request for ever."),
        "ce_source": _text("Who within the client asks; part of the request's identity."),
        "ce_type": _text("The message's type."),
        "ce_time": TIME | {"description": "When it was signed; within five minutes of the broker's append time."},
        "ce_tenant": _text("The client's tenant."),
        "ce_client": _text("The registered client that signed; also the JWS's kid."),
        "ce_deadline": TIME | {"description": "No work is begun after it; at most ten minutes after ce_time."},
        "ce_recipient": _text("`<suite>:<base64 of the raw public key>`: what DEKs are sealed to.", MAX_ATTRIBUTE),
        "ce_replyto": _text("The reply topic; one of the client's."),
        "ce_replypartition": _text("The reply partition, in decimal.", 9, pattern="^[0-9]+$"),
        "kafka_replyTopic": _text("Spring Kafka's name for ce_replyto."),
        "reply_to": _text("FastStream's name for ce_replyto."),
        **CORRELATION,
        "content-type": _text("application/json, or application/cloudevents+json for structured mode."),
        "keyriver-signature": SIGNATURE,
        **TRACE,
    },
    "required": [
        *("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_tenant", "ce_client"),
        *("content-type", "keyriver-signature"),
    ],
    "allOf": [{"anyOf": [{"required": [name]} for name in ("ce_replyto", "kafka_replyTopic", "reply_to")]}],
}


REPLY: Json = {
    "type": "object",
    "description": "Of an answer.",
    "properties": {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": _text("The request's id."),
        "ce_source": _text("`keyriver/<fleet id>`."),
        "ce_type": _text("The message's type."),
        **CORRELATION,
        "content-type": {"type": "string", "const": "application/json"},
        "keyriver-signature": SIGNATURE,
        **TRACE,
    },
    "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "content-type", "keyriver-signature"],
}


EVENT: Json = {
    "type": "object",
    "description": "Of a fact. Told again, it has the same id and time.",
    "properties": {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": _text("The fact's id, a UUID."),
        "ce_source": _text("`keyriver/<fleet id>`."),
        "ce_type": _text("The message's type."),
        "ce_time": TIME,
        "ce_tenant": _text("Whom it concerns."),
        "content-type": {"type": "string", "const": "application/json"},
        "keyriver-signature": SIGNATURE,
    },
    "required": [
        *("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_tenant"),
        *("content-type", "keyriver-signature"),
    ],
}
ANNOUNCEMENT: Json = {
    "type": "object",
    "description": "Of an announcement: it is signed within.",
    "properties": {"content-type": {"type": "string", "const": "application/json"}},
    "required": ["content-type"],
}
_ORIGIN = ("origin-topic", "origin-partition", "origin-offset")
DEAD_LETTER: Json = {
    "type": "object",
    "description": "Added to a dead letter, which keeps its own headers and bytes.",
    "properties": {f"keyriver-dlq-{name}": {"type": "string"} for name in (*_ORIGIN, "code", "attempts", "worker")},
    "required": [f"keyriver-dlq-{name}" for name in (*_ORIGIN, "code", "attempts", "worker")],
}
UNDELIVERED: Json = {
    "type": "object",
    "description": "Added to an answer that its topic never takes; too large for any: without its bytes.",
    "properties": {
        f"keyriver-undelivered-{name}": {"type": "string"}
        for name in (*_ORIGIN, "topic", "partition", "reason", "worker", "size", "sha256")
    },
    "required": [f"keyriver-undelivered-{name}" for name in (*_ORIGIN, "topic", "partition", "reason", "worker")],
}
ALL = {
    "request": REQUEST,
    "reply": REPLY,
    "event": EVENT,
    "announcement": ANNOUNCEMENT,
    "deadLetter": DEAD_LETTER,
    "undelivered": UNDELIVERED,
}
