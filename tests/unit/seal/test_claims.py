"""A signature covers every claim: changing any one changes the bytes."""

from dataclasses import fields, replace
from hashlib import sha256
from typing import Any

import pytest

from worker.model.requests import Recipient
from worker.model.rows import Suite
from worker.seal.claims import EventClaims, ReplyClaims, RequestClaims, recipient_claim, signed_digest
from worker.seal.frames import framed

REQUEST = RequestClaims(
    fleet="dev-f",
    tenant="acme",
    client="payments",
    topic="keyriver.wrap.v1",
    id="r-1",
    type="keyriver.wrap.v1",
    source="/payments",
    time="2026-11-24T22:00:00Z",
    deadline="",
    reply_topic="keyriver.replies.v1",
    reply_partition=None,
    recipient=b"",
    body_sha256=sha256(b"{}").digest(),
)
REPLY = ReplyClaims(
    fleet="dev-f",
    topic="keyriver.replies.v1",
    type="keyriver.wrap.v1.reply",
    request_id="r-1",
    request_sha256=signed_digest(REQUEST.payload()),
    body_sha256=sha256(b"{}").digest(),
)
EVENT = EventClaims(
    fleet="dev-f",
    tenant="acme",
    topic="keyriver.events.v1",
    id="e-1",
    type="keyriver.key.created.v1",
    time="2026-11-24T22:00:00Z",
    body_sha256=sha256(b"{}").digest(),
)


def test_a_request_is_its_claims_in_the_order_of_s2() -> None:
    claims = replace(REQUEST, reply_partition=3, recipient=b"x25519\x00key", deadline="2026-11-24T22:01:00Z")
    assert claims.payload() == framed(
        b"keyriver-request/1",
        b"dev-f",
        b"acme",
        b"payments",
        b"keyriver.wrap.v1",
        b"r-1",
        b"keyriver.wrap.v1",
        b"/payments",
        b"2026-11-24T22:00:00Z",
        b"2026-11-24T22:01:00Z",
        b"keyriver.replies.v1",
        b"3",
        b"x25519\x00key",
        sha256(b"{}").digest(),
    )


def test_a_reply_repeats_the_digest_of_the_signed_request() -> None:
    assert REPLY.payload() == framed(
        b"keyriver-reply/1",
        b"dev-f",
        b"keyriver.replies.v1",
        b"keyriver.wrap.v1.reply",
        b"r-1",
        sha256(REQUEST.payload()).digest(),
        sha256(b"{}").digest(),
    )


def test_an_event_is_what_happened_to_whom_and_when() -> None:
    assert EVENT.payload() == framed(
        b"keyriver-event/1",
        b"dev-f",
        b"acme",
        b"keyriver.events.v1",
        b"e-1",
        b"keyriver.key.created.v1",
        b"2026-11-24T22:00:00Z",
        sha256(b"{}").digest(),
    )


@pytest.mark.parametrize("claims", [REQUEST, REPLY, EVENT])
def test_no_claim_can_be_changed_under_a_signature(claims: RequestClaims | ReplyClaims | EventClaims) -> None:
    seen = {claims.payload()}
    for column in fields(claims):
        value = getattr(claims, column.name)
        other: Any = value + b"x" if isinstance(value, bytes) else 0 if value is None else f"{value}x"
        changed: RequestClaims | ReplyClaims | EventClaims = replace(claims, **{column.name: other})
        seen.add(changed.payload())
    assert len(seen) == 1 + len(fields(claims))


def test_partition_zero_is_not_no_partition() -> None:
    assert replace(REQUEST, reply_partition=0).payload() != REQUEST.payload()


def test_the_recipient_is_suite_nul_key() -> None:
    assert recipient_claim(Recipient(Suite.X25519, b"\x01" * 32)) == b"x25519\x00" + b"\x01" * 32
    assert recipient_claim(None) == b""
