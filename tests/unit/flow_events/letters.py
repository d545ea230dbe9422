"""Requests for the unit tests of `open` and its neighbours: one honest client, and records as the bus gives them."""

from collections.abc import Mapping
from dataclasses import replace

from tests.scribe import Draft
from worker.model.operations import Operation
from worker.model.records import Headers, Outgoing, Partition, Record
from worker.model.requests import Recipient
from worker.model.rows import Algorithm, Client, Role, Suite
from worker.seal.hpke import KeyPair, generate_keypair
from worker.seal.identity import Identity, generate_private_key_pem

FLEET, PREFIX, TENANT, CLIENT, REPLIES = "dev-unit", "u", "acme", "billing", "u.replies.v1"
NOW_MS = 1_790_000_000_000
SENT_AT = "2026-09-21T14:13:20.000+00:00"
BODY = b'{"key":"acme/eu","items":[{}]}'
PAIR: KeyPair = generate_keypair(Suite.X25519)


def identity(algorithm: Algorithm = Algorithm.ED25519) -> Identity:
    """A client's keys."""
    private = generate_private_key_pem(algorithm)
    return Identity(CLIENT, TENANT, FLEET, b"\x04" + bytes(64), algorithm, private, PAIR, REPLIES)


def row(of: Identity) -> Client:
    """The client's row, as an officer registered it."""
    return Client(
        id=of.client,
        tenant=of.tenant,
        role=Role.SERVICE,
        algorithm=of.algorithm,
        public_key=of.signer().public_key,
        permissions=("wrap",),
        pattern="*",
        reply_topics=(of.reply_topic,),
        recipient_suite=None,
        recipient_key=b"",
        not_after_ms=NOW_MS + 1,
        revoked=False,
        enrolled_by="alice",
        revision=7,
    )


def draft(of: Identity, operation: Operation = Operation.WRAP, body: bytes = BODY) -> Draft:
    """An honest request."""
    return Draft(
        signer=of,
        fleet=FLEET,
        tenant=of.tenant,
        client=of.client,
        topic=f"{PREFIX}.{operation.topic}",
        id="request-1",
        type=operation.request_type,
        source="tests",
        time_ms=NOW_MS,
        deadline_ms=NOW_MS + 60_000,
        reply_topic=of.reply_topic,
        reply_partition=3,
        recipient=Recipient(PAIR.suite, PAIR.public),
        body=body,
    )


def caught(sent: Outgoing, appended_ms: int = NOW_MS) -> Record:
    """The record as a worker catches it."""
    return Record(Partition(sent.topic, 0), 11, sent.key, sent.value or b"", sent.headers, appended_ms, 1)


def record(headers: Mapping[str, str | bytes | None] | Headers = (), value: bytes = BODY) -> Record:
    """An unsigned but readable request; a mapping changes its headers, None takes one away."""
    if not isinstance(headers, Mapping):
        return Record(Partition(f"{PREFIX}.wrap.v1", 0), 11, b"key", value, headers, NOW_MS, 1)
    usual: dict[str, str | bytes | None] = {
        "ce_specversion": "1.0",
        "ce_id": "request-1",
        "ce_source": "tests",
        "ce_type": "keyriver.wrap.v1",
        "ce_time": SENT_AT,
        "ce_tenant": TENANT,
        "ce_client": CLIENT,
        "ce_replyto": REPLIES,
        "content-type": "application/json",
    }
    merged = {name: text for name, text in {**usual, **headers}.items() if text is not None}
    encoded = tuple((name, text.encode() if isinstance(text, str) else text) for name, text in merged.items())
    return Record(Partition(f"{PREFIX}.wrap.v1", 0), 11, b"key", value, encoded, NOW_MS, 1)


def with_header(of: Record, name: str, value: bytes | None) -> Record:
    """The same record with one header replaced, or removed."""
    kept = tuple(pair for pair in of.headers if pair[0] != name)
    return replace(of, headers=kept if value is None else (*kept, (name, value)))
