"""Which records are answers to us, and which of those the fleet really gave (S1).

To accept one: 1. its id is that of a call under way, 2. it is signed, 3. by a worker key that the fleet certified,
which holds now, 4. over our topic, its type, our id, the digest of one of our attempts, and its body, 5. its body
answers what was asked, 6. its DEKs open for us. Anything else is counted and changes nothing: a forged answer never
ends a call.
"""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

from worker.client import answers
from worker.client.answers import Answer, Refusal, Result
from worker.client.trust import Trust
from worker.client.wire import SIGNATURE, Prepared, header
from worker.model.records import Entry
from worker.model.rows import Algorithm
from worker.seal import hpke
from worker.seal.announcements import WorkerCertificate
from worker.seal.claims import ReplyClaims
from worker.seal.errors import BadCertificate, BadSeal, BadSignature
from worker.seal.identity import Identity
from worker.seal.signatures import jws_kid, verify_jws

log = logging.getLogger(__name__)

MOST_PARKED = 64
"""Answers per call that may wait for a certificate; a flood of unknown names is counted and dropped."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An answer that the fleet gave to this request: results in item order, and a DEK or nothing for each."""

    results: list[Result]
    deks: list[bytes] = field(repr=False)
    error: Refusal | None


@dataclass(slots=True)
class Call:
    """A request under way: the digests of its attempts, the answer when there is one, and what was refused."""

    request: Prepared
    answer: asyncio.Future[Accepted]
    digests: list[bytes] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    parked: int = 0


class Replies:
    """The calls under way, by request id. `take` and `learned` are called on the event loop and never block."""

    def __init__(self, identity: Identity, trust: Trust, now_ms: Callable[[], int], patience_s: float) -> None:
        self._identity = identity
        self._opener = hpke.Opener(identity.recipient.suite, identity.recipient.private)
        self._trust = trust
        self._now_ms = now_ms
        self._patience_s = patience_s
        self._calls: dict[str, Call] = {}
        self._parked: defaultdict[str, list[tuple[Entry, Call]]] = defaultdict(list)
        self.refused: Counter[str] = Counter()
        """Refused answers and announcements, by reason, since the start."""

    def open(self, request: Prepared) -> Call:
        """Expect answers to this request."""
        call = Call(request, asyncio.get_running_loop().create_future())
        self._calls[request.id] = call
        return call

    def close(self, call: Call) -> None:
        """Expect none any more."""
        self._calls.pop(call.request.id, None)

    def again(self, call: Call) -> None:
        """Expect another answer to the same request."""
        call.answer = asyncio.get_running_loop().create_future()

    def take(self, entry: Entry) -> None:
        """One record of the reply topic."""
        call = self._calls.get(header(entry.headers, "ce_id") or "")
        if call is None or call.answer.done():
            return
        signature = header(entry.headers, SIGNATURE)
        if signature is None:
            self._refuse(call, "unsigned")
            return
        try:
            kid = jws_kid(signature)
            certificate = self._trust.certificate(kid, self._now_ms())
        except BadSignature:
            self._refuse(call, "signature")
        except BadCertificate:
            self._refuse(call, "expired certificate")
        else:
            if certificate is None:
                self._park(kid, entry, call)
            else:
                self._judge(entry, call, signature, certificate)

    def learned(self, certificate: WorkerCertificate) -> None:
        """The answers that waited for this certificate are looked at again."""
        for entry, call in self._parked.pop(certificate.kid, ()):
            call.parked -= 1
            self.take(entry)

    def _park(self, kid: str, entry: Entry, call: Call) -> None:
        if call.parked >= MOST_PARKED:
            self._refuse(call, "unknown certificate")
            return
        call.parked += 1
        waiting = (entry, call)
        self._parked[kid].append(waiting)
        asyncio.get_running_loop().call_later(self._patience_s, self._give_up, kid, waiting)

    def _give_up(self, kid: str, waiting: tuple[Entry, Call]) -> None:
        if waiting in self._parked.get(kid, ()):
            self._parked[kid].remove(waiting)
            if not self._parked[kid]:
                del self._parked[kid]
            waiting[1].parked -= 1
            self._refuse(waiting[1], "unknown certificate")

    def _judge(self, entry: Entry, call: Call, signature: str, certificate: WorkerCertificate) -> None:
        request = call.request
        if header(entry.headers, "ce_type") != request.operation.reply_type:
            self._refuse(call, "type")
        elif not self._is_signed(entry, call, signature, certificate):
            self._refuse(call, "signature")
        else:
            try:
                answer = answers.parse(request.operation, entry.value or b"", request.items)
                deks = self._deks(request, answer)
            except BadSeal:
                self._refuse(call, "seal")
            except ValueError:
                self._refuse(call, "body")
            else:
                call.answer.set_result(Accepted(list(answer.results), deks, answer.error))

    def _is_signed(self, entry: Entry, call: Call, signature: str, certificate: WorkerCertificate) -> bool:
        """Whether it answers one of the attempts; the newest is the likeliest."""
        body = sha256(entry.value or b"").digest()
        request = call.request
        for digest in reversed(call.digests):
            claims = ReplyClaims(
                fleet=self._identity.fleet,
                topic=entry.partition.topic,
                type=request.operation.reply_type,
                request_id=request.id,
                request_sha256=digest,
                body_sha256=body,
            )
            try:
                verify_jws(signature, claims.payload(), Algorithm.ED25519, certificate.public_key)
            except BadSignature:
                continue
            return True
        return False

    def _deks(self, request: Prepared, answer: Answer) -> list[bytes]:
        """A DEK for each result that succeeded, if plaintext was asked for."""
        if request.recipient is None or answer.error is not None:
            return [b""] * len(answer.results)
        succeeded = [not isinstance(result, Refusal) for result in answer.results]
        if answer.sealed is None:
            if any(succeeded):
                raise BadSeal("an answer without the DEKs that were asked for")
            return [b""] * len(answer.results)
        recipient = request.recipient
        info = hpke.info(
            "reply",
            recipient.suite,
            self._identity.fleet,
            self._identity.tenant,
            self._identity.client,
            request.operation.value,
            request.id,
            recipient.public_key,
        )
        if answer.sealed.suite is not recipient.suite:
            raise BadSeal("another suite than the recipient key's")
        packed = self._opener.open(info, answer.sealed.ciphertext)
        deks = hpke.unpack_slots(packed, len(answer.results))
        if [bool(dek) for dek in deks] != succeeded:
            raise BadSeal("empty slots do not stand where items failed")
        return deks

    def _refuse(self, call: Call, reason: str) -> None:
        call.refused[reason] += 1
        self.refused[reason] += 1
        log.warning("an answer to request %s was refused: %s", call.request.id, reason)
