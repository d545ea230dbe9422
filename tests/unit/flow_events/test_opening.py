"""`open`: what is authentic, what is refused with an answer, and what is dead (S2)."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.scribe import Draft
from tests.unit.flow_events.letters import (
    BODY,
    FLEET,
    NOW_MS,
    PAIR,
    PREFIX,
    REPLIES,
    caught,
    draft,
    identity,
    record,
    row,
    with_header,
)
from worker.flow.bodies import BodyLimits
from worker.flow.opening import Dead, Opened, Opening, Rejected
from worker.model.codes import Code
from worker.model.operations import Operation
from worker.model.records import Partition, Record
from worker.model.requests import Recipient, Request
from worker.model.rows import Algorithm, Client
from worker.seal.signatures import sign_jws

ME = identity()
HONEST = draft(ME)


@dataclass
class Rows:
    """A registry whose memory may be older than its rows."""

    rows: dict[str, Client]
    memory: dict[str, Client] = field(default_factory=dict)
    asked: list[bool] = field(default_factory=list)

    async def clients(self, ids: frozenset[str], *, fresh: bool) -> Mapping[str, Client]:
        self.asked.append(fresh)
        known = self.rows if fresh else {**self.rows, **self.memory}
        return {name: known[name] for name in ids if name in known}

    def remembered(self, ids: frozenset[str]) -> Mapping[str, Client]:
        return {name: self.memory[name] for name in ids if name in self.memory}


async def opened(record: Record, *rows: Client) -> Opened:
    (result,) = await Opening(FLEET, PREFIX, BodyLimits(), Rows({one.id: one for one in rows or (row(ME),)})).open(
        [record]
    )
    return result


async def test_an_honest_request() -> None:
    found = await opened(caught(HONEST.record()))
    assert isinstance(found, Request)
    assert (found.key.tenant, found.key.client, found.key.source, found.key.id) == (
        "acme",
        "billing",
        "tests",
        "request-1",
    )
    assert (found.operation, found.client_revision, found.time_ms) == (Operation.WRAP, 7, NOW_MS)
    assert found.recipient == Recipient(PAIR.suite, PAIR.public)


async def test_an_honest_request_with_the_other_algorithm() -> None:
    other = identity(Algorithm.ES256)
    assert isinstance(await opened(caught(draft(other).record()), row(other)), Request)


CLAIMED: list[tuple[str, Callable[[Record], Record]]] = [
    ("tenant", lambda r: with_header(r, "ce_tenant", b"globex")),
    ("client", lambda r: with_header(r, "ce_client", b"shipping")),
    ("topic", lambda r: replace(r, partition=Partition(f"{PREFIX}.unwrap.v1", 0))),
    ("id", lambda r: with_header(r, "ce_id", b"request-2")),
    ("type", lambda r: with_header(r, "ce_type", b"keyriver.unwrap.v1")),
    ("source", lambda r: with_header(r, "ce_source", b"elsewhere")),
    ("time", lambda r: with_header(r, "ce_time", b"2026-09-21T14:13:20.001+00:00")),
    ("the same time in other words", lambda r: with_header(r, "ce_time", b"2026-09-21T14:13:20.000Z")),
    ("deadline", lambda r: with_header(r, "ce_deadline", b"2026-09-21T14:20:00.000+00:00")),
    ("no deadline", lambda r: with_header(r, "ce_deadline", None)),
    ("reply topic", lambda r: with_header(r, "ce_replyto", b"u.shipping.v1")),
    ("reply partition", lambda r: with_header(r, "ce_replypartition", b"4")),
    ("no reply partition", lambda r: with_header(r, "ce_replypartition", None)),
    ("recipient", lambda r: with_header(r, "ce_recipient", b"x25519:" + b"A" * 43 + b"=")),
    (
        "recipient's suite",
        lambda r: with_header(r, "ce_recipient", dict(r.headers)["ce_recipient"].replace(b"x2", b"p")),
    ),
    ("no recipient", lambda r: with_header(r, "ce_recipient", None)),
    ("body", lambda r: replace(r, value=BODY + b" ")),
    ("no body", lambda r: replace(r, value=b"")),
    ("no signature", lambda r: with_header(r, "keyriver-signature", None)),
    (
        "a flipped signature",
        lambda r: with_header(r, "keyriver-signature", _flipped(dict(r.headers)["keyriver-signature"])),
    ),
]


def _flipped(signature: bytes) -> bytes:
    return signature[:-2] + (b"A" if signature[-2:-1] != b"A" else b"B") + signature[-1:]


@pytest.mark.parametrize(("what", "changed"), CLAIMED, ids=[what for what, _ in CLAIMED])
async def test_what_was_changed_after_signing_is_dead(what: str, changed: Callable[[Record], Record]) -> None:
    everyone = [row(ME), replace(row(ME), id="shipping", reply_topics=(REPLIES, "u.shipping.v1"))]
    found = await opened(changed(caught(HONEST.record())), *everyone)
    assert isinstance(found, Dead), what
    assert found.code in {Code.UNAUTHENTICATED, Code.UNREADABLE}


async def test_another_fleets_request_is_dead() -> None:
    found = await opened(caught(replace(HONEST, fleet="dev-other").record()))
    assert isinstance(found, Dead)


def _with_jws_header(of: Record, header: dict[str, object] | str) -> Record:
    head = header if isinstance(header, str) else json.dumps(header)
    _, _, signature = dict(of.headers)["keyriver-signature"].decode().partition("..")
    encoded = urlsafe_b64encode(head.encode()).rstrip(b"=").decode()
    return with_header(of, "keyriver-signature", f"{encoded}..{signature}".encode())


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none", "kid": "billing"},
        {"alg": "ES256", "kid": "billing"},
        {"alg": "HS256", "kid": "billing"},
        {"alg": "EdDSA", "kid": "billing"},
        {"alg": ["Ed25519"], "kid": "billing"},
        {"alg": "Ed25519", "kid": "shipping"},
        {"alg": "Ed25519", "kid": {"a": 1}},
        {"alg": "Ed25519"},
        {"kid": "billing"},
        {"alg": "Ed25519", "kid": "billing", "crit": ["b64"], "b64": False},
        {"alg": "Ed25519", "kid": "billing", "jwk": {}},
        '{"alg":"none","alg":"Ed25519","kid":"billing"}',
        '[["alg","Ed25519"],["kid","billing"]]',
        "[" * 500,
        "",
    ],
    ids=str,
)
async def test_the_header_of_the_signature_decides_nothing(header: dict[str, object] | str) -> None:
    found = await opened(_with_jws_header(caught(HONEST.record()), header))
    assert isinstance(found, Dead)
    assert found.code is Code.UNAUTHENTICATED


async def test_algorithms_are_not_confused() -> None:
    """An ES256 signature by somebody who registered for Ed25519, and the public key taken for an HMAC secret."""
    impostor = replace(identity(Algorithm.ES256), client=ME.client)
    found = await opened(caught(replace(HONEST, signer=impostor).record()))
    assert isinstance(found, Dead)
    honest = caught(HONEST.record())
    signature = dict(honest.headers)["keyriver-signature"]
    for raw in (b"", bytes(64), urlsafe_b64decode(signature.split(b"..")[1] + b"==")[:63]):
        cut = signature.split(b"..")[0] + b".." + urlsafe_b64encode(raw).rstrip(b"=")
        assert isinstance(await opened(with_header(honest, "keyriver-signature", cut)), Dead)


@pytest.mark.parametrize("text", [b"..", b"a..b..c", b"x" * 1025, b"e30..", b"\xc3\xa9.." + b"A" * 86])
async def test_what_is_no_detached_jws_is_dead(text: bytes) -> None:
    assert isinstance(await opened(with_header(caught(HONEST.record()), "keyriver-signature", text)), Dead)


@pytest.mark.parametrize(
    ("change", "appended_ms"),
    [
        ({"revoked": True}, NOW_MS),
        ({"not_after_ms": NOW_MS}, NOW_MS),
        ({}, NOW_MS + 1),
        ({"tenant": "globex"}, NOW_MS),
        ({"public_key": identity().signer().public_key}, NOW_MS),
        ({"public_key": bytes(32)}, NOW_MS),
        ({"public_key": b"\xff" * 32}, NOW_MS),
        ({"algorithm": Algorithm.ES256}, NOW_MS),
    ],
    ids=["revoked", "expired", "expired since", "of another tenant", "rotated", "zero", "no point", "other algorithm"],
)
async def test_a_client_that_may_not_sign_is_dead(change: dict[str, Any], appended_ms: int) -> None:
    changed = replace(row(ME), **change)
    found = await opened(caught(HONEST.record(), appended_ms), changed)
    assert isinstance(found, Dead)
    assert found.code is Code.UNAUTHENTICATED


async def test_an_unknown_client_is_dead() -> None:
    assert isinstance(await opened(caught(HONEST.record()), replace(row(ME), id="shipping")), Dead)


async def test_a_reply_topic_of_another_client_is_never_written() -> None:
    found = await opened(caught(replace(HONEST, reply_topic="u.shipping.v1").record()))
    assert isinstance(found, Dead)
    assert found.code is Code.REPLY_TOPIC_REFUSED


async def test_what_fails_against_memory_is_tried_once_against_the_row() -> None:
    """A client whose key was rotated a moment ago is not refused by a worker that remembers the old one."""
    old = replace(row(ME), public_key=identity().signer().public_key, revision=6)
    rows = Rows({ME.client: row(ME)}, {ME.client: old})
    opening = Opening(FLEET, PREFIX, BodyLimits(), rows)
    found = await opening.open([caught(HONEST.record()), record()])
    assert isinstance(found[0], Request)
    assert isinstance(found[1], Dead)
    assert rows.asked == [False, True]


async def test_unreadable_records_ask_for_no_row() -> None:
    rows = Rows({})
    (found,) = await Opening(FLEET, PREFIX, BodyLimits(), rows).open([record({"ce_id": None})])
    assert isinstance(found, Dead)
    assert found.code is Code.UNREADABLE
    assert rows.asked == [False]


def _sent(of: Draft) -> Record:
    return caught(of.record())


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (_sent(replace(HONEST, body=b" " * BodyLimits().request_bytes)), Code.TOO_LARGE),
        (replace(_sent(HONEST), key=b"k" * BodyLimits().request_bytes), Code.TOO_LARGE),
        (_sent(replace(HONEST, type="keyriver.destroy.v1")), Code.MALFORMED),
        (_sent(replace(HONEST, topic=f"{PREFIX}.unwrap.v1")), Code.MALFORMED),
        (_sent(replace(HONEST, type="keyriver.unwrap.v1")), Code.MALFORMED),
        (_sent(replace(HONEST, topic="v.wrap.v1")), Code.MALFORMED),
        (_sent(replace(HONEST, body=b"{}")), Code.MALFORMED),
        (_sent(replace(HONEST, body=b"[" * 3000)), Code.TOO_DEEP),
    ],
    ids=["body", "key", "type", "topic", "type of another topic", "prefix", "fields", "depth"],
)
async def test_an_authentic_request_is_refused_with_an_answer(record: Record, code: Code) -> None:
    found = await opened(record)
    assert isinstance(found, Rejected)
    assert found.code is code
    assert found.envelope.route.topic == REPLIES


async def test_time_and_routing_make_no_other_body_but_recipient_and_type_do() -> None:
    async def digest(changed: Draft) -> bytes:
        found = await opened(caught(changed.record()))
        assert isinstance(found, Request | Rejected)
        return (found.envelope if isinstance(found, Rejected) else found).body_digest

    same = await digest(HONEST)
    assert await digest(replace(HONEST, time_ms=NOW_MS + 5, deadline_ms=None, reply_partition=None)) == same
    others = [
        replace(HONEST, recipient=None),
        replace(HONEST, recipient=Recipient(PAIR.suite, bytes(32))),
        replace(HONEST, body=BODY + b" "),
        replace(HONEST, type="keyriver.unwrap.v1"),
    ]
    assert len({same, *[await digest(other) for other in others]}) == 5


async def test_in_structured_mode_the_whole_value_is_signed() -> None:
    value = json.dumps(
        {
            "specversion": "1.0",
            "id": HONEST.id,
            "source": HONEST.source,
            "type": HONEST.type,
            "time": HONEST.claims().time,
            "tenant": HONEST.tenant,
            "client": HONEST.client,
            "replyto": HONEST.reply_topic,
            "data": json.loads(BODY),
        }
    ).encode()
    claims = replace(HONEST, deadline_ms=None, reply_partition=None, recipient=None, body=value).claims()
    signed = sign_jws(ME.signer(), claims.payload()).encode()
    honest = replace(
        caught(HONEST.record()),
        headers=(("content-type", b"application/cloudevents+json"), ("keyriver-signature", signed)),
        value=value,
    )
    assert isinstance(await opened(honest), Request)
    assert isinstance(await opened(replace(honest, value=value + b" ")), Dead)
    assert isinstance(await opened(replace(honest, value=value.replace(b"acme/eu", b"acme/us"))), Dead)
