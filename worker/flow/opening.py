"""`open`: from a record's bytes to an authentic, typed request.

To become a request, a record passes in this order:

1. It is a readable CloudEvent (binary or structured mode): no doubled header, nothing missing, nothing oversized.
2. It names a client that is registered and live, and that client's tenant.
3. The client's signature holds, under its registered algorithm, over everything that `RequestClaims` lists.
4. Its reply topic is one of the client's. From here on a refusal is answered.
5. Its size is within the limit, its type is known and belongs to this topic.
6. Its body is JSON without doubled names, not too deep, and a valid body of its type within the limits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from worker.chain import policy
from worker.flow import bodies, events
from worker.flow.events import Event
from worker.flow.pacing import paced
from worker.model.codes import Code
from worker.model.operations import BY_TYPE
from worker.model.records import Record
from worker.model.requests import Envelope, LedgerKey, Request
from worker.model.rows import Client
from worker.ports import TokenUnavailable
from worker.seal import claims, signatures
from worker.seal.errors import SealError
from worker.seal.frames import framed


@dataclass(frozen=True, slots=True)
class Rejected:
    """An authentic request that is refused before it is understood; it is answered."""

    envelope: Envelope
    code: Code


@dataclass(frozen=True, slots=True)
class Dead:
    """Not an authentic request: dead-lettered at a bounded rate and never answered. `detail` is for the log."""

    record: Record
    code: Code
    detail: str


@dataclass(frozen=True, slots=True)
class Unproven:
    """Nobody can tell yet whether it is authentic, for the token that verifies the client's row is away."""

    record: Record


Opened = Request | Rejected | Dead | Unproven


class Registry(Protocol):
    """The registered clients, as last seen."""

    async def clients(self, ids: frozenset[str], *, fresh: bool) -> Mapping[str, Client]:
        """The verified rows of these clients; `fresh` reads them again from the store. Raises `TokenUnavailable`."""
        ...

    def remembered(self, ids: frozenset[str]) -> Mapping[str, Client]:
        """Those among them that were verified before."""
        ...


@dataclass(frozen=True, slots=True)
class Opening:
    """The `open` stage."""

    fleet: str
    prefix: str
    limits: bodies.BodyLimits
    registry: Registry

    async def open(self, records: Sequence[Record]) -> list[Opened]:
        """Open a batch; one result per record. What fails against a remembered client is tried once against its row."""
        decoded = [self._decode(record) async for record in paced(records)]
        known, _ = await self._clients(decoded, fresh=False)
        opened = [self._open(event, known) async for event in paced(decoded)]
        doubtful = [index for index, item in enumerate(opened) if _is_doubtful(item)]
        if doubtful:
            fresh, is_sure = await self._clients([decoded[index] for index in doubtful], fresh=True)
            async for index in paced(doubtful):
                again = self._open(decoded[index], fresh)
                opened[index] = again if is_sure or not _is_doubtful(again) else Unproven(records[index])
        return opened

    async def _clients(self, events: Sequence[Event | Dead], *, fresh: bool) -> tuple[Mapping[str, Client], bool]:
        """The rows of these events' clients; False without the token: then only those that are remembered."""
        names = frozenset(event.client for event in events if isinstance(event, Event))
        try:
            return await self.registry.clients(names, fresh=fresh), True
        except TokenUnavailable:
            return self.registry.remembered(names), False

    def _decode(self, record: Record) -> Event | Dead:
        try:
            return events.decode(record)  # 1
        except events.Unreadable as error:
            return Dead(record, Code.UNREADABLE, str(error))

    def _open(self, event: Event | Dead, clients: Mapping[str, Client]) -> Opened:
        if isinstance(event, Dead):
            return event
        client = clients.get(event.client)
        if client is None or client.tenant != event.tenant:  # 2
            return Dead(event.record, Code.UNAUTHENTICATED, "no such client of this tenant")
        if not policy.is_live(client, event.record.appended_ms):
            return Dead(event.record, Code.UNAUTHENTICATED, "the client is revoked or expired")
        envelope = self._authenticate(event, client)  # 3
        if isinstance(envelope, Dead):
            return envelope
        if not policy.may_reply_to(client, event.reply_topic):  # 4
            return Dead(event.record, Code.REPLY_TOPIC_REFUSED, "the reply topic is not one of the client's")
        return self._read(event, envelope)

    def _authenticate(self, event: Event, client: Client) -> Envelope | Dead:
        record = event.record
        payload = claims.RequestClaims(
            fleet=self.fleet,
            tenant=event.tenant,
            client=event.client,
            topic=record.partition.topic,
            id=event.id,
            type=event.type,
            source=event.source,
            time=event.time,
            deadline=event.deadline,
            reply_topic=event.reply_topic,
            reply_partition=event.reply_partition,
            recipient=claims.recipient_claim(event.recipient),
            body_sha256=sha256(record.value).digest(),
        ).payload()
        try:
            if signatures.jws_kid(event.signature) != client.id:
                return Dead(record, Code.UNAUTHENTICATED, "the signature names another client")
            signatures.verify_jws(event.signature, payload, client.algorithm, client.public_key)
        except SealError as error:
            return Dead(record, Code.UNAUTHENTICATED, str(error))
        return Envelope(
            record=record,
            key=LedgerKey(client.tenant, client.id, event.source, event.id),
            type=event.type,
            time_ms=event.time_ms,
            deadline_ms=event.deadline_ms,
            recipient=event.recipient,
            route=event.route,
            body_digest=sha256(
                framed(event.type.encode(), claims.recipient_claim(event.recipient), event.body)
            ).digest(),
            signed_digest=claims.signed_digest(payload),
            client_revision=client.revision,
            trace=event.trace,
        )

    def _read(self, event: Event, envelope: Envelope) -> Request | Rejected:
        operation = BY_TYPE.get(event.type)
        if event.record.size > self.limits.request_bytes:  # 5
            return Rejected(envelope, Code.TOO_LARGE)
        if operation is None or event.record.partition.topic != f"{self.prefix}.{operation.topic}":
            return Rejected(envelope, Code.MALFORMED)
        body = bodies.read(operation, event.body, self.limits)  # 6
        if isinstance(body, Code):
            return Rejected(envelope, body)
        return Request(
            record=envelope.record,
            key=envelope.key,
            type=envelope.type,
            time_ms=envelope.time_ms,
            deadline_ms=envelope.deadline_ms,
            recipient=envelope.recipient,
            route=envelope.route,
            body_digest=envelope.body_digest,
            signed_digest=envelope.signed_digest,
            client_revision=envelope.client_revision,
            trace=envelope.trace,
            operation=operation,
            body=body,
        )


def _is_doubtful(item: Opened) -> bool:
    return isinstance(item, Dead) and item.code is Code.UNAUTHENTICATED
