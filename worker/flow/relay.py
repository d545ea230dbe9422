"""The outbox's relay (D9): events are published until acknowledged, each with its fixed id, signed.

The sequences of rows have a relay of their own, so that thousands of them hold no hint back.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from worker.chain.conclude import HINT
from worker.flow.answering import Voice
from worker.model.effects import Announce
from worker.model.records import Outgoing
from worker.model.sequences import SEQUENCE
from worker.ports import Outbox, Sink
from worker.seal.claims import EventClaims
from worker.seal.sequences import record_key_of
from worker.seal.signatures import sign_jws

BATCH = 200


@dataclass(frozen=True, slots=True)
class Relay:
    """Moves events from the outbox to the bus: facts to `topic`, hints and rows' sequences to topics of their own."""

    fleet: str
    topic: str
    hints: str
    sequences: str
    outbox: Outbox
    sink: Sink
    voice: Voice
    leads: Callable[[], Awaitable[bool]] | None = None
    """Whether this process relays what waits now; None: every process does, as soon as it can."""

    async def turn(self) -> int:
        """Publish what waits; how many went. An event that the bus has but that was not acknowledged goes again."""
        waiting = await self.outbox.waiting(BATCH)
        if waiting and (self.leads is None or await self.leads()):
            refusals = await self.sink.publish([self._record(event) for event in waiting])
            sent = [event.id for event, refused in zip(waiting, refusals, strict=True) if refused is None]
            await self.outbox.acknowledge(sent)
            return len(sent)
        return 0

    def _record(self, event: Announce) -> Outgoing:
        """The time is the id's (a UUIDv7), so that a fact told again is told in the same words."""
        at = datetime.fromtimestamp((event.id.int >> 80) / 1000, UTC).isoformat(timespec="milliseconds")
        topic = {HINT: self.hints, SEQUENCE: self.sequences}.get(event.type, self.topic)
        claims = EventClaims(
            fleet=self.fleet,
            tenant=event.tenant,
            topic=topic,
            id=str(event.id),
            type=event.type,
            time=at,
            body_sha256=sha256(event.body).digest(),
        )
        headers = (
            ("ce_specversion", b"1.0"),
            ("ce_id", claims.id.encode()),
            ("ce_source", f"keyriver/{self.fleet}".encode()),
            ("ce_type", event.type.encode()),
            ("ce_time", at.encode()),
            ("ce_tenant", event.tenant.encode()),
            ("content-type", b"application/json"),
            ("keyriver-signature", sign_jws(self.voice.signer, claims.payload()).encode()),
        )
        key = record_key_of(event.body) if event.type == SEQUENCE else event.tenant.encode()
        return Outgoing(topic, key, event.body, headers)
