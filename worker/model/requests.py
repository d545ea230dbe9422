"""A request after `open`: authentic, parsed, typed. Past this point there are no raw dicts."""

from dataclasses import dataclass, field

from worker.model.bodies import AnyBody
from worker.model.operations import Operation
from worker.model.records import Headers, Record
from worker.model.rows import Suite


@dataclass(frozen=True, slots=True)
class Recipient:
    """The public key that plaintext DEKs of the answer are sealed to."""

    suite: Suite
    public_key: bytes


@dataclass(frozen=True, slots=True)
class ReplyRoute:
    """Where the answer goes. `echo` is what came in for correlation, returned as it was (at most 256 bytes each).

    `correlation` is the caller's correlation id as text, for the audit trail; empty if it sent none.
    """

    topic: str
    partition: int | None
    echo: Headers
    correlation: str = ""


@dataclass(frozen=True, slots=True, order=True)
class LedgerKey:
    """What makes two requests the same request (D1)."""

    tenant: str
    client: str
    source: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """An authentic record whose body is not yet read.

    `key.tenant` is the client's. `time_ms` is the signed time, `record.appended_ms` the broker's. `body_digest` covers
    the type, the body and the recipient key, and leaves out time, deadline and routing; `signed_digest` is the
    SHA-256 of everything the client signed, and the answer's signature repeats it.
    """

    record: Record = field(repr=False)
    key: LedgerKey
    type: str
    time_ms: int
    deadline_ms: int | None
    recipient: Recipient | None
    route: ReplyRoute
    body_digest: bytes
    signed_digest: bytes
    client_revision: int
    trace: Headers = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Envelope):
    """An authentic request, parsed."""

    operation: Operation
    body: AnyBody
