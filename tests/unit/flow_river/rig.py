"""One river on fakes: bus, store and token in memory; requests are signed and answers verified as on the wire."""

import json
from base64 import b64decode
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import count
from uuid import UUID, uuid4

from tests.unit.flow_river.parts import Between, Clock, Fence, Hiccups, Progress, Sent, Told, Watch
from worker.chain.plan import Limits
from worker.client.answers import Refusal, parse
from worker.client.wire import Letterhead, Prepared, attempt, header
from worker.edges.bus.fake import FakeBus
from worker.edges.hsm.fake import FakeToken
from worker.edges.store.fake import FakeStore
from worker.flow.answering import Answering
from worker.flow.bodies import BodyLimits
from worker.flow.deadletters import DeadLetters
from worker.flow.enrolling import Enrolling
from worker.flow.executing import Executing
from worker.flow.failpoints import Failpoint, Failpoints
from worker.flow.fresh import new_ids
from worker.flow.importing import Statements
from worker.flow.intakekeys import IntakeKeys
from worker.flow.knowing import Knowing
from worker.flow.opening import Opening
from worker.flow.publishing import Publishing
from worker.flow.quotas import Quotas
from worker.flow.registry import Clients
from worker.flow.river import River
from worker.flow.trust import Trust
from worker.flow.unsealing import Unsealing
from worker.flow.uses import Uses
from worker.flow.voice import RunVoice
from worker.model.bodies import (
    AnyBody,
    ClientAddBody,
    KeyCreateBody,
    SealedDeks,
    TenantCreateBody,
    WrapBody,
    WrapItem,
)
from worker.model.control import ApprovalApproveBody
from worker.model.operations import Operation, Permission
from worker.model.records import Entry, Outgoing, Partition, Record, Verdict
from worker.model.replies import ApprovalResult, CommandResult, RewrapResult, UnwrapResult, WrapResult
from worker.model.requests import Recipient
from worker.model.rows import Algorithm, IntakeKey, Suite
from worker.model.topics import Topics, dead_letter_topic
from worker.ports import Store
from worker.seal import hpke
from worker.seal.claims import ReplyClaims
from worker.seal.errors import BadSignature
from worker.seal.identity import Identity, generate_private_key_pem
from worker.seal.signatures import jws_kid, verify_jws

FLEET = "dev-rig"
TOPICS = Topics()
PAYMENTS = "acme/eu/payments"
CARDS = "acme/eu/cards"
LIMITS = Limits()


class Rig:
    """A fleet of one river. `await Rig.made()` has a tenant, its keys, an officer `ann` and a service `billing`."""

    def __init__(self, store: Store | None = None, limits: Limits = LIMITS) -> None:
        self.clock = Clock()
        self.limits = limits
        self.bus = FakeBus(self.clock)
        names = (*TOPICS.requests, *map(dead_letter_topic, TOPICS.requests))
        for topic in (*names, TOPICS.replies, TOPICS.undelivered, TOPICS.intake, TOPICS.events, TOPICS.hints):
            self.bus.create(topic)
        self.memory = FakeStore(self.clock)
        self.store = Between(store or self.memory)
        self.token = FakeToken()
        self.hiccups = Hiccups(self.token.hsm)
        self.fence = Fence()
        self.watch = Watch()
        self.progress = Progress()
        self.sink = self.bus.sink()
        self.voice = RunVoice(FLEET, TOPICS.intake, self.token.fleet_keys, self.sink, clock=lambda: self.clock.ms)
        self.points: dict[str, Failpoint] = {}
        self._offsets = count()
        self.river = self.worker()
        self.ann: Identity
        self.ben: Identity
        self.billing: Identity

    def worker(self) -> River:
        """Another process of the fleet: nothing is remembered in it."""
        trust = Trust(self.token.fleet_keys)
        clients = Clients(self.store, trust)
        self.uses = Uses(self.memory)
        self.intake = IntakeKeys(
            fleet=FLEET,
            intake_topic=TOPICS.intake,
            suites=(Suite.X25519,),
            store=self.store,
            trust=trust,
            fleet_keys=self.token.fleet_keys,
            sink=self.sink,
            progress=self.progress,
            private_halves=self.memory.private_halves,
        )
        return River(
            opening=Opening(FLEET, TOPICS.prefix, BodyLimits(), clients),
            clients=clients,
            knowing=Knowing(self.store, trust),
            quotas=Quotas(self.memory, lambda: self.clock.ms / 1000),
            unsealing=Unsealing(FLEET, self.intake),
            executing=Executing(
                self.hiccups, self.token.fleet_keys, self.uses, new_ids, Statements(FLEET, self.token.fleet_keys)
            ),
            store=self.store,
            answering=Answering(FLEET, self.voice),
            publishing=Publishing(self.sink, DeadLetters(TOPICS.undelivered, "rig", self.watch)),
            fence=self.fence,
            watch=self.watch,
            limits=self.limits,
            new_ids=new_ids,
            failpoints=Failpoints(self.points),
        )

    @classmethod
    async def made(cls) -> "Rig":
        """A fleet with a tenant of three layers."""
        return await cls().founded()

    async def founded(self) -> "Rig":
        """The fleet's first officers, tenant, keys and service."""
        rig = self
        await rig.voice.renew(rig.clock.ms)
        await rig.intake.keep(rig.clock.ms)
        enrolling = Enrolling(FLEET, TOPICS.replies, rig.store, rig.token.fleet_keys, lambda _: None)
        rig.ann, rig.ben = await enrolling.enrol(["ann", "ben"])
        await rig.command(Operation.TENANT_CREATE, TenantCreateBody(tenant="acme"))
        for parent, alias in (("acme", "acme/eu"), ("acme/eu", PAYMENTS), ("acme/eu", CARDS)):
            await rig.command(Operation.KEY_CREATE, KeyCreateBody(tenant="acme", parent=parent, alias=alias))
        rig.billing = await rig.add("billing")
        return rig

    # Who asks.

    async def add(self, name: str, **changes: object) -> Identity:
        """Register a service of the tenant's."""
        identity = Identity(
            client=name,
            tenant=str(changes.get("tenant", "acme")),
            fleet=FLEET,
            fleet_key=self.token.fleet_keys.signing_key,
            algorithm=Algorithm.ED25519,
            private_key=generate_private_key_pem(Algorithm.ED25519),
            recipient=hpke.generate_keypair(Suite.X25519),
            reply_topic=TOPICS.replies,
        )
        body: dict[str, object] = {
            "tenant": "acme",
            "client": name,
            "public_key": identity.signer().public_key,
            "permissions": list(Permission),
            "reply_topics": [TOPICS.replies],
            "not_after_ms": self.clock.ms + 10**10,
        }
        await self.command(Operation.CLIENT_ADD, ClientAddBody.model_validate(body | changes))
        return identity

    async def command(self, operation: Operation, body: AnyBody) -> CommandResult:
        """Carry out a command of the officer's; it must succeed."""
        told = await self.ask(operation, body, self.ann)
        (result,) = told.results
        if isinstance(result, Refusal) and result.pending is not None:
            return await self.approve(told)
        assert not isinstance(result, Refusal | WrapResult | UnwrapResult | RewrapResult), result
        return result

    async def approve(self, told: Told) -> CommandResult:
        """The second officer approves what waits for him; it must succeed."""
        (waiting,) = told.results
        assert isinstance(waiting, Refusal), waiting
        assert waiting.pending is not None, waiting
        pending = waiting.pending
        body = ApprovalApproveBody(tenant=pending.tenant, approval=pending.id, digest=pending.digest)
        (approved,) = (await self.ask(Operation.APPROVAL_APPROVE, body, self.ben)).results
        assert isinstance(approved, ApprovalResult), approved
        assert approved.result is not None, approved
        return approved.result

    # Requests.

    def draft(self, operation: Operation, body: AnyBody, identity: Identity | None = None, id_: str = "") -> Sent:
        """A signed request, as the client library makes it."""
        signer = identity or self.billing
        own = signer.recipient
        prepared = Prepared(
            operation=operation,
            id=id_ or str(uuid4()),
            key=b"acme",
            body=body.model_dump_json(exclude_none=True).encode(),
            items=len(getattr(body, "items", (1,))),
            recipient=Recipient(own.suite, own.public),
            deadline_ms=self.clock.ms + 60_000,
        )
        return self.signed(prepared, signer)

    def signed(self, prepared: Prepared, identity: Identity) -> Sent:
        """One attempt at a request, now."""
        head = Letterhead(
            FLEET, identity.tenant, identity.client, TOPICS.prefix, identity.reply_topic, 0, identity.signer()
        )
        outgoing, digest = attempt(head, prepared, self.clock.ms)
        return Sent(self.record(outgoing), identity, prepared, digest)

    def again(self, sent: Sent) -> Sent:
        """What a client does that heard nothing: the same bytes, a new time, a new record."""
        later = replace(sent.request, deadline_ms=self.clock.ms + 60_000)
        return self.signed(later, sent.identity)

    def redelivered(self, sent: Sent) -> Sent:
        """What the bus does: the same record under a new assignment."""
        return replace(sent, record=replace(sent.record, epoch=sent.record.epoch + 1))

    def record(self, outgoing: Outgoing) -> Record:
        """As the bus would give it."""
        place = Partition(outgoing.topic, 0)
        return Record(
            place, next(self._offsets), outgoing.key, outgoing.value or b"", outgoing.headers, self.clock.ms, 1
        )

    def sealed(self, deks: Sequence[bytes], id_: str, key: str = PAYMENTS, **changes: object) -> WrapBody:
        """A body that brings DEKs, sealed to the newest intake key."""
        rows = [stored.row for stored in self.memory.rows.values() if isinstance(stored.row, IntakeKey)]
        newest = max(rows, key=lambda row: row.sequence)
        suite, public = newest.suite, newest.public_key
        info = hpke.info("request", suite, FLEET, "acme", self.billing.client, "wrap", id_, public)
        ciphertext = hpke.seal(suite, public, info, hpke.pack_slots(deks))
        deks_sealed = SealedDeks(sequence=newest.sequence, ciphertext=ciphertext)
        body: dict[str, object] = {"key": key, "items": [WrapItem() for _ in deks], "sealed": deks_sealed}
        return WrapBody.model_validate(body | changes)

    # Running, and reading answers.

    async def run(self, *sent: Sent) -> list[Verdict]:
        """One batch through the river."""
        return await self.river.run([one.record for one in sent])

    async def ask(self, operation: Operation, body: AnyBody, identity: Identity | None = None, id_: str = "") -> Told:
        """One request in a batch of its own, and its answer."""
        sent = self.draft(operation, body, identity, id_)
        assert await self.run(sent) == [Verdict.DONE]
        return self.told(sent)[-1]

    def told(self, sent: Sent) -> list[Told]:
        """All answers to a request so far that are signed for this very attempt."""
        entries = [entry for entry in self.bus.entries(TOPICS.replies) if _id(entry) == sent.request.id]
        return [told for entry in entries if (told := self.verified(sent, entry)) is not None]

    def verified(self, sent: Sent, entry: Entry) -> Told | None:
        """The answer, if its signature is for this attempt."""
        value, operation = entry.value or b"", sent.request.operation
        claims = ReplyClaims(
            fleet=FLEET,
            topic=entry.partition.topic,
            type=operation.reply_type,
            request_id=sent.request.id,
            request_sha256=sent.digest,
            body_sha256=sha256(value).digest(),
        )
        signature = header(entry.headers, "keyriver-signature") or ""
        try:
            verify_jws(signature, claims.payload(), Algorithm.ED25519, self._keys()[jws_kid(signature)])
        except BadSignature:  # of another attempt
            return None
        answer = parse(operation, value, sent.request.items)
        deks: list[bytes] = []
        if answer.sealed is not None:
            deks = self._opened(sent, answer.sealed.ciphertext, len(answer.results))
        return Told(list(answer.results), deks, answer.error, entry)

    def _keys(self) -> dict[str, bytes]:
        """The voices that were ever certified, by their names."""
        said = [json.loads(entry.value or b"") for entry in self.bus.entries(TOPICS.intake)]
        return {one["kid"]: b64decode(one["public_key"]) for one in said if one["kind"] == "certificate"}

    def _opened(self, sent: Sent, ciphertext: bytes, slots: int) -> list[bytes]:
        own, who = sent.identity.recipient, sent.identity
        operation = sent.request.operation.value
        info = hpke.info("reply", own.suite, FLEET, who.tenant, who.client, operation, sent.request.id, own.public)
        return hpke.unpack_slots(hpke.open_sealed(own.suite, own.private, info, ciphertext), slots)

    def census(self) -> dict[tuple[UUID, int], int]:
        """What the counters say is stored, by key version."""
        return {place: stored for place, (stored, _) in self.memory.census.items() if stored}

    def rows(self) -> dict[tuple[UUID, int], int]:
        """What is stored."""
        return dict(Counter((dek.key, dek.version) for dek in self.memory.deks.values()))


def _id(entry: Entry) -> str | None:
    return header(entry.headers, "ce_id")
