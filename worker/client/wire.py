"""Requests as records: CloudEvents 1.0 in binary mode, each attempt signed anew over the same bytes (S2). Pure."""

from base64 import b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from worker.model.operations import Operation
from worker.model.records import Headers, Outgoing
from worker.model.requests import Recipient
from worker.seal.claims import RequestClaims, recipient_claim, signed_digest
from worker.seal.signatures import Signer, sign_jws

SIGNATURE = "keyriver-signature"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Letterhead:
    """What all requests of one client share. Answers come to this partition of the reply topic and no other."""

    fleet: str
    tenant: str
    client: str
    prefix: str
    reply_topic: str
    reply_partition: int
    signer: Signer = field(repr=False)

    @property
    def source(self) -> str:
        """CloudEvents `source`; with the id it names a request for ever (D1)."""
        return f"keyriver-client/{self.client}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One request whose bytes are final: every attempt sends the same id and body."""

    operation: Operation
    id: str
    key: bytes
    """The record key: tenant, slash, key name. A hint for locality only."""
    body: bytes = field(repr=False)
    items: int
    recipient: Recipient | None
    deadline_ms: int
    """Unix milliseconds; signed, so it is the same in every attempt."""


def rfc3339(unix_ms: int) -> str:
    """A time as CloudEvents want it (RFC 3339), in UTC with milliseconds."""
    return (_EPOCH + timedelta(milliseconds=unix_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def attempt(head: Letterhead, request: Prepared, now_ms: int) -> tuple[Outgoing, bytes]:
    """The record to send now, and the digest of what it signs, which the answer must repeat."""
    topic = f"{head.prefix}.{request.operation.topic}"
    time, deadline = rfc3339(now_ms), rfc3339(request.deadline_ms)
    claims = RequestClaims(
        fleet=head.fleet,
        tenant=head.tenant,
        client=head.client,
        topic=topic,
        id=request.id,
        type=request.operation.request_type,
        source=head.source,
        time=time,
        deadline=deadline,
        reply_topic=head.reply_topic,
        reply_partition=head.reply_partition,
        recipient=recipient_claim(request.recipient),
        body_sha256=sha256(request.body).digest(),
    )
    payload = claims.payload()
    headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", request.id),
        ("ce_source", head.source),
        ("ce_type", request.operation.request_type),
        ("ce_time", time),
        ("ce_tenant", head.tenant),
        ("ce_client", head.client),
        ("ce_deadline", deadline),
        ("ce_replyto", head.reply_topic),
        ("ce_replypartition", str(head.reply_partition)),
        ("content-type", "application/json"),
        (SIGNATURE, sign_jws(head.signer, payload)),
    ]
    if request.recipient is not None:
        text = b64encode(request.recipient.public_key).decode()
        headers.append(("ce_recipient", f"{request.recipient.suite}:{text}"))
    encoded = tuple((name, value.encode()) for name, value in headers)
    return Outgoing(topic, request.key, request.body, encoded), signed_digest(payload)


def header(headers: Headers, name: str) -> str | None:
    """The one header of this name as text; None if it is absent, doubled or not UTF-8."""
    values = [value for given, value in headers if given == name]
    if len(values) != 1:
        return None
    try:
        return values[0].decode()
    except UnicodeDecodeError:
        return None
