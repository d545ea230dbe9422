"""Who can write the fleet's topics and knows everything but its keys: answers of his own, certificates, intake keys."""

from base64 import b64decode
from dataclasses import dataclass, field
from hashlib import sha256
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.fleet import Fleet
from tests.scribe import SIGNATURE, now_ms
from worker.model.bodies import WrapBody
from worker.model.operations import Operation
from worker.model.records import Entry, Headers, Outgoing
from worker.model.replies import REPLIES, SealedReply, WrapResult
from worker.model.requests import Recipient
from worker.model.rows import Suite
from worker.seal import hpke
from worker.seal.announcements import IntakeAnnouncement, WorkerCertificate, kid_of
from worker.seal.claims import ReplyClaims, RequestClaims, recipient_claim, signed_digest
from worker.seal.signatures import Ed25519Signer, ES256Signer, Signer, jws_kid, sign_jws

HOUR_MS = 3_600_000


def _worker() -> Ed25519Signer:
    key = Ed25519PrivateKey.generate()
    return Ed25519Signer(kid_of(key.public_key().public_bytes_raw()), key)


@dataclass
class Impostor:
    """See the module. `dek` is what he wants clients to encrypt with."""

    fleet: Fleet
    dek: bytes = field(default=b"\x66" * 32, repr=False)
    worker: Ed25519Signer = field(default_factory=_worker)
    root: ES256Signer = field(default_factory=lambda: ES256Signer("root", generate_private_key(SECP256R1())))
    intake: hpke.KeyPair = field(default_factory=lambda: hpke.generate_keypair(Suite.X25519))

    @property
    def fleet_id(self) -> str:
        return f"dev-{self.fleet.prefix}"

    async def announce(self, genuine: list[Entry]) -> None:
        """His certificate and a newer intake key, signed by a root of his own; and rubbish over what is there."""
        begin, end = now_ms() - 1000, now_ms() + HOUR_MS
        mine = WorkerCertificate(self.fleet_id, self.worker.kid, self.worker.public_key, begin, end)
        await self.say(mine.record_key, mine.to_json(self.root.sign(mine.payload())))
        newer = IntakeAnnouncement(self.fleet_id, Suite.X25519, 10**6, self.intake.public, begin, end)
        await self.say(newer.record_key, newer.to_json(self.root.sign(newer.payload())))
        for entry in genuine:
            value = entry.value or b"{}"
            for rubbish in (
                b"",
                b"{}",
                b"\xff",
                value[:-2],
                value.replace(b'"not_after_ms":1', b'"not_after_ms":2'),
                None,
            ):
                await self.say(entry.key or b"", rubbish)
            await self.say(newer.record_key, entry.value)  # the fleet's own words under another name

    async def say(self, key: bytes, value: bytes | None) -> None:
        """One record on the intake topic."""
        await self.fleet.send(Outgoing(self.fleet.topics.intake, key, value, ()))

    def answers(self, request: Entry, earlier: Entry) -> list[Outgoing]:
        """Every answer that he can think of to this request; `earlier` is a true answer to another one."""
        told = {name: value.decode() for name, value in request.headers}
        digest = signed_digest(_claims(told, self.fleet_id, request).payload())
        body = self._body(request, told)
        kid = sign_jws(self.worker, b"").partition("..")[0]
        theirs = dict(earlier.headers)[SIGNATURE]
        own = self._signature(told, digest, body, self.worker)
        of_theirs = Ed25519Signer(jws_kid(theirs.decode()), Ed25519PrivateKey.generate())
        signatures = {
            "none": None,
            "of his own": own,
            "of his own under a worker's name": self._signature(told, digest, body, of_theirs),
            "of another answer": theirs,
            "no algorithm": f"{kid}..".encode(),
            "by the root": self._signature(told, digest, body, self.root),
            "rubbish": b"\xff\xfe",
        }
        sent = [self._record(request, told, body, signature) for signature in signatures.values()]
        sent.append(self._record(request, told, earlier.value or b"", theirs))
        sent.append(self._record(request, told | {"ce_type": "keyriver.unwrap.v1"}, body, own))
        return sent

    def _body(self, request: Entry, told: dict[str, str]) -> bytes:
        items = len(WrapBody.model_validate_json(request.value or b"").items)
        suite, _, text = told["ce_recipient"].partition(":")
        key = b64decode(text)
        names = (self.fleet_id, told["ce_tenant"], told["ce_client"], "wrap", told["ce_id"])
        info = hpke.info("reply", Suite(suite), *names, key)
        sealed = hpke.seal(Suite(suite), key, info, hpke.pack_slots([self.dek] * items))
        results = [WrapResult(id=uuid4(), key=uuid4(), version=1) for _ in range(items)]
        reply = REPLIES[Operation.WRAP](results=results, sealed=SealedReply(suite=Suite(suite), ciphertext=sealed))
        return reply.model_dump_json(exclude_none=True).encode()

    def _signature(self, told: dict[str, str], digest: bytes, body: bytes, signer: Signer) -> bytes:
        claims = ReplyClaims(
            fleet=self.fleet_id,
            topic=told["ce_replyto"],
            type=f"{told['ce_type']}.reply",
            request_id=told["ce_id"],
            request_sha256=digest,
            body_sha256=sha256(body).digest(),
        )
        return sign_jws(signer, claims.payload()).encode()

    def _record(self, request: Entry, told: dict[str, str], body: bytes, signature: bytes | None) -> Outgoing:
        headers: Headers = (
            ("ce_specversion", b"1.0"),
            ("ce_id", told["ce_id"].encode()),
            ("ce_source", f"keyriver/{self.fleet_id}".encode()),
            ("ce_type", f"{told['ce_type']}.reply".encode()),
            ("content-type", b"application/json"),
        )
        if signature is not None:
            headers = (*headers, (SIGNATURE, signature))
        return Outgoing(told["ce_replyto"], request.key, body, headers, int(told["ce_replypartition"]))


def _claims(told: dict[str, str], fleet: str, request: Entry) -> RequestClaims:
    """What the client signed: all of it can be read in the record."""
    suite, _, text = told["ce_recipient"].partition(":")
    return RequestClaims(
        fleet=fleet,
        tenant=told["ce_tenant"],
        client=told["ce_client"],
        topic=request.partition.topic,
        id=told["ce_id"],
        type=told["ce_type"],
        source=told["ce_source"],
        time=told["ce_time"],
        deadline=told["ce_deadline"],
        reply_topic=told["ce_replyto"],
        reply_partition=int(told["ce_replypartition"]),
        recipient=recipient_claim(Recipient(Suite(suite), b64decode(text))),
        body_sha256=sha256(request.value or b"").digest(),
    )
