"""What a signature covers: the length-prefixed claims of a request (S2), of an answer and of an event (S1).

Texts stand in UTF-8 exactly as they stand in the record's headers; what is absent is empty.
"""

from dataclasses import dataclass
from hashlib import sha256

from worker.model.requests import Recipient
from worker.seal.frames import framed

REQUEST = b"keyriver-request/1"
REPLY = b"keyriver-reply/1"
EVENT = b"keyriver-event/1"


@dataclass(frozen=True, slots=True)
class RequestClaims:
    """All that a client vouches for. `recipient` is from `recipient_claim`; `body_sha256` is of the record's value."""

    fleet: str
    tenant: str
    client: str
    topic: str
    id: str
    type: str
    source: str
    time: str
    deadline: str
    reply_topic: str
    reply_partition: int | None
    recipient: bytes
    body_sha256: bytes

    def payload(self) -> bytes:
        """The bytes to sign."""
        partition = "" if self.reply_partition is None else str(self.reply_partition)
        texts = (
            self.fleet,
            self.tenant,
            self.client,
            self.topic,
            self.id,
            self.type,
            self.source,
            self.time,
            self.deadline,
            self.reply_topic,
            partition,
        )
        return framed(REQUEST, *[text.encode() for text in texts], self.recipient, self.body_sha256)


@dataclass(frozen=True, slots=True)
class ReplyClaims:
    """All that the fleet vouches for: `request_sha256` is of the payload that the request's signature covers."""

    fleet: str
    topic: str
    type: str
    request_id: str
    request_sha256: bytes
    body_sha256: bytes

    def payload(self) -> bytes:
        """The bytes to sign."""
        texts = (self.fleet, self.topic, self.type, self.request_id)
        return framed(REPLY, *[text.encode() for text in texts], self.request_sha256, self.body_sha256)


@dataclass(frozen=True, slots=True)
class EventClaims:
    """All that the fleet vouches for when it states a fact; a fact told again has the same id and the same claims."""

    fleet: str
    tenant: str
    topic: str
    id: str
    type: str
    time: str
    body_sha256: bytes

    def payload(self) -> bytes:
        """The bytes to sign."""
        texts = (self.fleet, self.tenant, self.topic, self.id, self.type, self.time)
        return framed(EVENT, *[text.encode() for text in texts], self.body_sha256)


def recipient_claim(recipient: Recipient | None) -> bytes:
    """How a request names the key for its answer: suite ‖ 0x00 ‖ key; empty if it names none."""
    return b"" if recipient is None else recipient.suite.encode() + b"\x00" + recipient.public_key


def signed_digest(payload: bytes) -> bytes:
    """SHA-256 of a request's payload, which the answer's signature repeats."""
    return sha256(payload).digest()
