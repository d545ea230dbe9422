"""Requests written by hand and every answer to them: for what no honest client sends, and for counting answers."""

import json
import time
import uuid
from base64 import b64encode
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from types import TracebackType
from typing import Self

from tests.fleet import Fleet
from worker.client.answers import Answer as Reply
from worker.client.answers import Refusal, Result, parse
from worker.model.bodies import SealedDeks, WrapBody, WrapItem
from worker.model.operations import BY_TYPE, Operation
from worker.model.records import Entry, Headers, Outgoing
from worker.model.requests import Recipient
from worker.model.rows import Algorithm
from worker.seal import hpke
from worker.seal.announcements import IntakeAnnouncement, WorkerCertificate
from worker.seal.claims import ReplyClaims, RequestClaims, recipient_claim, signed_digest
from worker.seal.errors import BadSignature
from worker.seal.identity import Identity
from worker.seal.lineage import Lineage
from worker.seal.signatures import jws_kid, sign_jws, verify_jws

SIGNATURE = "keyriver-signature"
MINUTE_MS = 60_000


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A request before it is signed. `dataclasses.replace` makes it what an honest client would not send."""

    signer: Identity = field(repr=False)
    fleet: str
    tenant: str
    client: str
    topic: str
    id: str
    type: str
    source: str
    time_ms: int
    deadline_ms: int | None
    reply_topic: str
    reply_partition: int | None
    recipient: Recipient | None
    body: bytes = field(repr=False)

    def claims(self) -> RequestClaims:
        """What is signed."""
        return RequestClaims(
            fleet=self.fleet,
            tenant=self.tenant,
            client=self.client,
            topic=self.topic,
            id=self.id,
            type=self.type,
            source=self.source,
            time=_rfc3339(self.time_ms),
            deadline="" if self.deadline_ms is None else _rfc3339(self.deadline_ms),
            reply_topic=self.reply_topic,
            reply_partition=self.reply_partition,
            recipient=recipient_claim(self.recipient),
            body_sha256=sha256(self.body).digest(),
        )

    def record(self, partition: int | None = None) -> Outgoing:
        """The signed record."""
        claims = self.claims()
        headers = {
            "ce_specversion": "1.0",
            "ce_id": claims.id,
            "ce_source": claims.source,
            "ce_type": claims.type,
            "ce_time": claims.time,
            "ce_tenant": claims.tenant,
            "ce_client": claims.client,
            "ce_deadline": claims.deadline,
            "ce_replyto": claims.reply_topic,
            "ce_replypartition": "" if self.reply_partition is None else str(self.reply_partition),
            "content-type": "application/json",
            SIGNATURE: sign_jws(self.signer.signer(), claims.payload()),
        }
        if self.recipient is not None:
            headers["ce_recipient"] = f"{self.recipient.suite}:{b64encode(self.recipient.public_key).decode()}"
        present = tuple((name, value.encode()) for name, value in headers.items() if value)
        return Outgoing(self.topic, f"{self.tenant}/{self.id}".encode(), self.body, present, partition)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, its signature verified and its DEKs opened."""

    results: list[Result]
    deks: list[bytes] = field(repr=False)
    error: Refusal | None

    @property
    def code(self) -> str:
        """Why the request was refused as a whole, or nothing."""
        return "" if self.error is None else self.error.code

    @property
    def codes(self) -> list[str]:
        """Why each item was refused, or nothing."""
        return [result.code if isinstance(result, Refusal) else "" for result in self.results]


class Scribe:
    """Writes requests of one identity, and reads the fleet's answers from the topic itself, all of them."""

    def __init__(self, fleet: Fleet, identity: Identity) -> None:
        self.identity = identity
        self._fleet = fleet
        self._tap = fleet.tap(fleet.topics.replies, fleet.topics.intake)
        self._open = AsyncExitStack()
        self._sent: defaultdict[str, list[Draft]] = defaultdict(list)
        self._read = 0
        self._answers: defaultdict[str, list[Answer]] = defaultdict(list)
        self._certificates: dict[str, WorkerCertificate] = {}
        self._waiting: list[Entry] = []
        self._intake: list[IntakeAnnouncement] = []
        self._fleet_keys = Lineage(identity.fleet, identity.fleet_key)

    async def __aenter__(self) -> Self:
        await self._open.enter_async_context(self._tap)
        await self._tap.to_end()
        self._take()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    # Writing.

    def draft(self, operation: Operation, body: bytes, *, request_id: str = "", plaintext: bool = False) -> Draft:
        """An honest request; `plaintext` names the recipient key in it."""
        own = self.identity.recipient
        return Draft(
            signer=self.identity,
            fleet=self.identity.fleet,
            tenant=self.identity.tenant,
            client=self.identity.client,
            topic=f"{self._fleet.prefix}.{operation.topic}",
            id=request_id or str(uuid.uuid4()),
            type=operation.request_type,
            source="tests/scribe",
            time_ms=now_ms(),
            deadline_ms=now_ms() + MINUTE_MS,
            reply_topic=self.identity.reply_topic,
            reply_partition=None,
            recipient=Recipient(own.suite, own.public) if plaintext else None,
            body=body,
        )

    def wrapping(self, key: str, deks: Sequence[bytes]) -> Draft:
        """A request to store DEKs of the caller's, sealed to the newest intake key."""
        request_id, intake = str(uuid.uuid4()), self._intake[-1]
        info = hpke.info(
            "request",
            intake.suite,
            self.identity.fleet,
            self.identity.tenant,
            self.identity.client,
            Operation.WRAP.value,
            request_id,
            intake.public_key,
        )
        sealed = SealedDeks(
            sequence=intake.sequence,
            ciphertext=hpke.seal(intake.suite, intake.public_key, info, hpke.pack_slots(deks)),
        )
        body = WrapBody(key=key, items=[WrapItem() for _ in deks], sealed=sealed)
        return self.draft(Operation.WRAP, body.model_dump_json().encode(), request_id=request_id)

    async def send(self, draft: Draft, partition: int | None = None) -> None:
        """Sign it and put it on its topic."""
        self.expect(draft)
        await self._fleet.send(draft.record(partition))

    def expect(self, draft: Draft) -> None:
        """Read the answers to it, whoever sends it and in whatever form."""
        self._sent[draft.id].append(draft)

    # Reading.

    async def answers(self, request_id: str, count: int = 1, seconds: float = 60.0) -> list[Answer]:
        """The answers to a request, in order of arrival; waits for so many."""

        def enough(entries: list[Entry]) -> bool:
            del entries
            self._take()
            return len(self._answers[request_id]) >= count

        await self._tap.until(enough, f"{count} answers to {request_id}", seconds)
        return self._answers[request_id]

    async def answer(self, request_id: str) -> Answer:
        """The first answer to a request."""
        return (await self.answers(request_id))[0]

    async def ask(self, draft: Draft) -> Answer:
        """Send it, and wait for its first answer."""
        await self.send(draft)
        return await self.answer(draft.id)

    async def so_far(self, request_id: str) -> list[Answer]:
        """All answers to a request that stand in the topic at this moment."""
        await self._tap.to_end()
        self._take()
        return list(self._answers[request_id])

    def _take(self) -> None:
        """Look at what the tap has read since: announcements first, for an answer may need one."""
        fresh, self._read = self._tap.entries[self._read :], len(self._tap.entries)
        for entry in fresh:
            if entry.partition.topic == self._fleet.topics.intake and entry.value is not None:
                self._announced(entry.key or b"", entry.value)
            elif entry.partition.topic == self._fleet.topics.replies:
                self._waiting.append(entry)
        waiting, self._waiting = self._waiting, []
        for entry in waiting:
            headers = _texts(entry.headers)
            if headers.get("ce_id") not in self._sent:
                continue
            certificate = self._certificates.get(jws_kid(headers[SIGNATURE]))
            if certificate is None:
                self._waiting.append(entry)
            else:
                self._answers[headers["ce_id"]].append(self._verified(entry, headers, certificate))

    def _announced(self, key: bytes, value: bytes) -> None:
        identity = self.identity
        if key.startswith(b"certificate/"):
            said = WorkerCertificate.parse(value, identity.fleet, self._fleet_keys, now_ms())
            self._certificates[said.kid] = said
        elif key.startswith(b"fleet-key/"):
            self._fleet_keys.accept(value)
        else:
            self._intake.append(IntakeAnnouncement.parse(value, identity.fleet, self._fleet_keys, now_ms(), 1))

    def _verified(self, entry: Entry, headers: dict[str, str], certificate: WorkerCertificate) -> Answer:
        """The answer; a failure unless it is signed for one of the attempts."""
        value = entry.value or b""
        for draft in self._sent[headers["ce_id"]]:
            claims = ReplyClaims(
                fleet=self.identity.fleet,
                topic=entry.partition.topic,
                type=f"{draft.type}.reply",
                request_id=draft.id,
                request_sha256=signed_digest(draft.claims().payload()),
                body_sha256=sha256(value).digest(),
            )
            with suppress(BadSignature):
                verify_jws(headers[SIGNATURE], claims.payload(), Algorithm.ED25519, certificate.public_key)
                operation = BY_TYPE.get(draft.type, Operation.WRAP)  # what is of no type is answered by an error
                answer = parse(operation, value, _items(draft.body))
                return Answer(list(answer.results), self._deks(draft, operation, answer), answer.error)
        raise AssertionError(f"an answer to {headers['ce_id']} is signed for none of its attempts")

    def _deks(self, draft: Draft, operation: Operation, answer: Reply) -> list[bytes]:
        if answer.sealed is None or draft.recipient is None:
            return []
        return open_deks(self.identity, operation, draft.id, answer.sealed.ciphertext, len(answer.results))


def open_deks(identity: Identity, operation: Operation, request_id: str, sealed: bytes, count: int) -> list[bytes]:
    """The DEKs of an answer to this identity."""
    own = identity.recipient
    info = hpke.info(
        "reply",
        own.suite,
        identity.fleet,
        identity.tenant,
        identity.client,
        operation.value,
        request_id,
        own.public,
    )
    return list(hpke.unpack_slots(hpke.Opener(own.suite, own.private).open(info, sealed), count))


def _items(body: bytes) -> int:
    """The number of items, where the body is a request."""
    try:
        return len(json.loads(body)["items"])
    except (ValueError, RecursionError, TypeError, KeyError):
        return 1


def _texts(headers: Headers) -> dict[str, str]:
    return {name: value.decode() for name, value in headers}


def _rfc3339(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds")
