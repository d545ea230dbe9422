"""A scripted fleet on top of `seal`, and a transport in memory: what the client's tests talk to instead of workers.

It verifies each request as a worker would, keeps DEKs in a dictionary, and answers signed and sealed. `answer` may be
replaced by a test that wants to answer otherwise.
"""

import asyncio
import secrets
import time
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from worker.client.transport import Listener
from worker.client.wire import SIGNATURE
from worker.model.bodies import BODIES, AnyBody, DekItem, KeyShowBody, RewrapBody, UnwrapBody, WrapBody
from worker.model.codes import Code
from worker.model.hsm import Purpose
from worker.model.ids import uuid7
from worker.model.operations import BY_TYPE, Operation
from worker.model.records import Entry, Headers, Outgoing, Partition
from worker.model.replies import (
    ERRORS,
    KeyResult,
    KeyView,
    Reply,
    Result,
    RewrapResult,
    SealedReply,
    UnwrapResult,
    WrapResult,
)
from worker.model.requests import Recipient
from worker.model.rows import Algorithm, Origin, Suite
from worker.seal import hpke
from worker.seal.announcements import IntakeAnnouncement, WorkerCertificate, kid_of
from worker.seal.claims import ReplyClaims, RequestClaims, recipient_claim, signed_digest
from worker.seal.identity import Identity, generate_private_key_pem
from worker.seal.signatures import Ed25519Signer, ES256Signer, jws_kid, sign_jws, verify_jws

FLEET = "dev-test"
HOUR_MS = 3_600_000
KEK = UUID("018f0000-0000-7000-8000-000000000001")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the fleet understood it."""

    record: Outgoing
    id: str
    operation: Operation
    body: AnyBody
    digest: bytes
    recipient: Recipient | None
    headers: dict[str, str]


@dataclass(slots=True)
class Worker:
    """A worker's signing key with its certificate's life."""

    signer: Ed25519Signer
    not_before_ms: int
    not_after_ms: int


def a_worker(age_ms: int = 0, life_ms: int = HOUR_MS) -> Worker:
    key = Ed25519PrivateKey.generate()
    begin = now_ms() - age_ms
    return Worker(Ed25519Signer(kid_of(key.public_key().public_bytes_raw()), key), begin, begin + life_ms)


Reaction = Callable[["Fleet", Asked], Sequence[Entry]]


@dataclass(slots=True)
class Fleet:
    """A fleet of one worker."""

    suite: Suite = Suite.X25519
    key: ES256Signer = field(default_factory=lambda: ES256Signer("fleet", generate_private_key(SECP256R1())))
    worker: Worker = field(default_factory=a_worker)
    intake: dict[int, hpke.KeyPair] = field(default_factory=dict)
    deks: dict[bytes, tuple[bytes, dict[str, str]]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    done: dict[str, tuple[list[Result], list[bytes]]] = field(default_factory=dict)
    identity: Identity = field(init=False)

    def __post_init__(self) -> None:
        self.intake[1] = hpke.generate_keypair(self.suite)
        self.identity = Identity(
            client="billing",
            tenant="acme",
            fleet=FLEET,
            fleet_key=self.key.public_key,
            algorithm=Algorithm.ED25519,
            private_key=generate_private_key_pem(Algorithm.ED25519),
            recipient=hpke.generate_keypair(self.suite),
            reply_topic="keyriver.replies.v1",
        )

    # What it says of itself.

    def certificate(self, worker: Worker | None = None, by: ES256Signer | None = None) -> tuple[bytes, bytes]:
        signer = (worker or self.worker).signer
        life = worker or self.worker
        said = WorkerCertificate(FLEET, signer.kid, signer.public_key, life.not_before_ms, life.not_after_ms)
        return said.record_key, said.to_json((by or self.key).sign(said.payload()))

    def intake_key(
        self, sequence: int = 1, by: ES256Signer | None = None, begin_ms: int = 0, life_ms: int = HOUR_MS
    ) -> tuple[bytes, bytes]:
        pair = self.intake.setdefault(sequence, hpke.generate_keypair(self.suite))
        begin = begin_ms or now_ms()
        said = IntakeAnnouncement(FLEET, self.suite, sequence, pair.public, begin, begin + life_ms)
        return said.record_key, said.to_json((by or self.key).sign(said.payload()))

    # What it does.

    def read(self, record: Outgoing) -> Asked:
        """The request, its signature verified over what the headers say."""
        headers = {name: value.decode() for name, value in record.headers}
        assert len(headers) == len(record.headers)
        recipient = None
        if "ce_recipient" in headers:
            suite, _, text = headers["ce_recipient"].partition(":")
            recipient = Recipient(Suite(suite), b64decode(text, validate=True))
        assert record.value is not None
        claims = RequestClaims(
            fleet=FLEET,
            tenant=headers["ce_tenant"],
            client=headers["ce_client"],
            topic=record.topic,
            id=headers["ce_id"],
            type=headers["ce_type"],
            source=headers["ce_source"],
            time=headers["ce_time"],
            deadline=headers["ce_deadline"],
            reply_topic=headers["ce_replyto"],
            reply_partition=int(headers["ce_replypartition"]),
            recipient=recipient_claim(recipient),
            body_sha256=sha256(record.value).digest(),
        )
        assert jws_kid(headers[SIGNATURE]) == "billing"
        verify_jws(headers[SIGNATURE], claims.payload(), Algorithm.ED25519, self.identity.signer().public_key)
        operation = BY_TYPE[headers["ce_type"]]
        body = BODIES[operation].model_validate_json(record.value)
        asked = Asked(record, headers["ce_id"], operation, body, signed_digest(claims.payload()), recipient, headers)
        self.asked.append(asked)
        return asked

    def answer(self, asked: Asked) -> list[Entry]:
        """What a healthy fleet answers; the same for the same id."""
        if asked.id not in self.done:
            self.done[asked.id] = self._execute(asked)
        return [self.reply(asked, *self.done[asked.id])]

    def reply(
        self,
        asked: Asked,
        results: Sequence[Result] = (),
        deks: Sequence[bytes] | None = None,
        error: Code | None = None,
        worker: Worker | None = None,
        retry_after_ms: int | None = None,
    ) -> Entry:
        """A signed answer to this request."""
        sealed = None
        if deks is not None and asked.recipient is not None:
            sealed = SealedReply(suite=asked.recipient.suite, ciphertext=self._seal(asked, asked.recipient, deks))
        refusal = None if error is None else ERRORS[error].model_copy(update={"retry_after_ms": retry_after_ms})
        body = Reply(results=list(results), sealed=sealed, error=refusal)
        value = body.model_dump_json().encode()
        topic, kind = asked.headers["ce_replyto"], asked.operation.reply_type
        claims = ReplyClaims(FLEET, topic, kind, asked.id, asked.digest, sha256(value).digest())
        signature = sign_jws((worker or self.worker).signer, claims.payload())
        headers = {
            "ce_specversion": "1.0",
            "ce_id": asked.id,
            "ce_source": f"keyriver/{FLEET}",
            "ce_type": kind,
            SIGNATURE: signature,
        }
        return entry(topic, value, headers, int(asked.headers["ce_replypartition"]))

    def _seal(self, asked: Asked, recipient: Recipient, deks: Sequence[bytes]) -> bytes:
        info = self._info("reply", asked, recipient.suite, recipient.public_key)
        return hpke.seal(recipient.suite, recipient.public_key, info, hpke.pack_slots(deks))

    def _info(self, direction: hpke.Direction, asked: Asked, suite: Suite, public: bytes) -> bytes:
        return hpke.info(direction, suite, FLEET, "acme", "billing", asked.operation.value, asked.id, public)

    def _execute(self, asked: Asked) -> tuple[list[Result], list[bytes]]:
        body = asked.body
        if isinstance(body, WrapBody):
            return self._wrap(asked, body)
        if isinstance(body, UnwrapBody):
            found = [self._find(item) for item in body.items]
            anew = UnwrapResult(key=KEK, version=1, blob=b"KR anew", blob_version=2)
            said = anew if body.rewrap else UnwrapResult(key=KEK, version=1)
            results: list[Result] = [said if dek else ERRORS[Code.UNWRAP_FAILED] for dek in found]
            return results, found
        if isinstance(body, RewrapBody):
            moved: list[Result] = [
                RewrapResult(key=KEK, version=1, id=item.id, blob=item.blob, unchanged=True) for item in body.items
            ]
            return moved, []
        assert isinstance(body, KeyShowBody)
        return [KeyResult(key=_key_view())], []

    def _wrap(self, asked: Asked, body: WrapBody) -> tuple[list[Result], list[bytes]]:
        deks = [secrets.token_bytes(item.bits // 8) for item in body.items]
        if body.sealed is not None:
            pair = self.intake[body.sealed.sequence]
            info = self._info("request", asked, pair.suite, pair.public)
            packed = hpke.open_sealed(pair.suite, pair.private, info, body.sealed.ciphertext)
            deks = hpke.unpack_slots(packed, len(body.items))
        results: list[Result] = []
        for item, dek in zip(body.items, deks, strict=True):
            stored = uuid7(now_ms(), secrets.randbits(74)) if body.store else None
            blob = b"KR" + secrets.token_bytes(60)
            self.deks[blob] = self.deks[stored.bytes if stored else blob] = (dek, dict(item.context))
            shown = blob if body.return_blob or not body.store else None
            results.append(WrapResult(id=stored, key=KEK, version=1, blob=shown))
        return results, deks if body.return_dek else []

    def _find(self, item: DekItem) -> bytes:
        name = item.id.bytes if item.id is not None else item.blob
        assert name is not None
        dek, context = self.deks.get(name, (b"", {}))
        return dek if context == item.context else b""


def entry(topic: str, value: bytes, headers: dict[str, str], partition: int = 0) -> Entry:
    encoded: Headers = tuple((name, text.encode()) for name, text in headers.items())
    return Entry(Partition(topic, partition), 0, None, value, encoded, now_ms())


def _key_view() -> KeyView:
    return KeyView(
        id=KEK,
        tenant="acme",
        alias="acme/eu/payments",
        parent=None,
        layer=3,
        purpose=Purpose.WRAPS_DEKS,
        origin=Origin.GENERATED,
        region="",
        enabled=True,
        active_version=1,
    )


class MemoryTransport:
    """`Transport` in memory. Each request is read by the fleet and answered by `reaction`."""

    def __init__(self, fleet: Fleet, reaction: Reaction = Fleet.answer) -> None:
        self.fleet = fleet
        self.reaction = reaction
        self.announcements = [fleet.certificate(), fleet.intake_key()]
        self.sent: list[Outgoing] = []
        self.stopped = False
        self._on_reply: Listener | None = None
        self._on_announcement: Listener | None = None

    async def start(self, reply_topic: str, intake_topic: str, on_reply: Listener, on_announcement: Listener) -> int:
        assert (reply_topic, intake_topic) == ("keyriver.replies.v1", "keyriver.intake.v1")
        self._on_reply, self._on_announcement = on_reply, on_announcement
        for said in self.announcements:
            self.announce(*said)
        return 3

    async def send(self, record: Outgoing) -> None:
        self.sent.append(record)
        self.deliver(*self.reaction(self.fleet, self.fleet.read(record)))

    async def stop(self) -> None:
        self.stopped = True

    def announce(self, key: bytes | None, value: bytes | None) -> None:
        assert self._on_announcement is not None
        self._on_announcement(Entry(Partition("keyriver.intake.v1", 0), 0, key, value, (), now_ms()))

    def announce_soon(self, key: bytes, value: bytes) -> None:
        asyncio.get_running_loop().call_soon(self.announce, key, value)

    def deliver(self, *entries: Entry) -> None:
        """Soon: a real answer never comes from within `send`."""
        assert self._on_reply is not None
        for one in entries:
            asyncio.get_running_loop().call_soon(self._on_reply, one)
