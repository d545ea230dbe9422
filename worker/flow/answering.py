"""Answers: the body, its plaintext sealed to the recipient, the fleet's signature over it, and the way back."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from worker.chain.plan import Plan
from worker.model.bodies import RewrapBody, WrapBody
from worker.model.codes import Code
from worker.model.ids import NO_ID
from worker.model.outcomes import Failed, Outcome, Rewrapped, Unwrapped, Wrapped
from worker.model.records import Headers, Outgoing
from worker.model.replies import ERRORS, REPLIES, Reply, Result, RewrapResult, SealedReply, UnwrapResult, WrapResult
from worker.model.requests import Envelope, Recipient, Request
from worker.seal import hpke
from worker.seal.claims import ReplyClaims
from worker.seal.signatures import Signer, sign_jws


class Voice(Protocol):
    """This run's certified signing key; it changes when its certificate nears its end."""

    @property
    def signer(self) -> Signer:
        """The key that is certified now."""
        ...


@dataclass(frozen=True, slots=True)
class Answering:
    """Builds signed answers."""

    fleet: str
    voice: Voice

    def refusal(self, envelope: Envelope, code: Code, retry_after_ms: int | None = None) -> Outgoing:
        """The answer to a request that is refused as a whole. `retry_after_ms`: sooner it would be again."""
        error = ERRORS[code]
        if retry_after_ms is not None:
            error = error.model_copy(update={"retry_after_ms": retry_after_ms})
        return self._signed(envelope, Reply(error=error))

    def answer(self, plan: Plan, outcomes: Sequence[Outcome]) -> Outgoing:
        """The answer to a request that was carried out, item by item."""
        body = plan.request.body
        shows = isinstance(body, WrapBody | RewrapBody) and body.return_blob
        results = [_result(outcome, shows) for outcome in outcomes]
        sealed = None if plan.recipient is None else self._sealed(plan.request, plan.recipient, outcomes)
        reply = REPLIES[plan.request.operation].model_construct(results=results, sealed=sealed, error=None)
        return self._signed(plan.request, reply)

    def _sealed(self, request: Request, recipient: Recipient, outcomes: Sequence[Outcome]) -> SealedReply:
        bound = hpke.info(
            "reply",
            recipient.suite,
            self.fleet,
            request.key.tenant,
            request.key.client,
            request.operation.value,
            request.key.id,
            recipient.public_key,
        )
        slots = [outcome.dek if isinstance(outcome, Wrapped | Unwrapped) else b"" for outcome in outcomes]
        ciphertext = hpke.seal(recipient.suite, recipient.public_key, bound, hpke.pack_slots(slots))
        return SealedReply(suite=recipient.suite, ciphertext=ciphertext)

    def _signed(self, envelope: Envelope, reply: Reply) -> Outgoing:
        body = reply.model_dump_json(exclude_none=True).encode()
        claims = ReplyClaims(
            fleet=self.fleet,
            topic=envelope.route.topic,
            type=f"{envelope.type}.reply",
            request_id=envelope.key.id,
            request_sha256=envelope.signed_digest,
            body_sha256=sha256(body).digest(),
        )
        signature = sign_jws(self.voice.signer, claims.payload())
        headers: Headers = (
            ("ce_specversion", b"1.0"),
            ("ce_id", envelope.key.id.encode()),
            ("ce_source", f"keyriver/{self.fleet}".encode()),
            ("ce_type", claims.type.encode()),
            ("content-type", b"application/json"),
            ("keyriver-signature", signature.encode()),
            *envelope.route.echo,
            *envelope.trace,
        )
        key = envelope.record.key
        return Outgoing(envelope.route.topic, key, body, headers, envelope.route.partition)


def _result(outcome: Outcome, shows_blob: bool) -> Result:
    """The item's result; a blob is shown when it was asked for, and always when it is stored nowhere."""
    if isinstance(outcome, Wrapped | Rewrapped):
        stored = None if outcome.id == NO_ID else outcome.id
        blob = outcome.blob if shows_blob or stored is None else None
        if isinstance(outcome, Wrapped):
            return WrapResult(id=stored, key=outcome.key, version=outcome.version, blob=blob)
        return RewrapResult(id=stored, key=outcome.key, version=outcome.version, blob=blob, unchanged=outcome.unchanged)
    if isinstance(outcome, Unwrapped):
        if not outcome.blob:
            return UnwrapResult(key=outcome.key, version=outcome.version)
        anew, number = outcome.blob, outcome.blob_version
        return UnwrapResult(key=outcome.key, version=outcome.version, blob=anew, blob_version=number)
    return ERRORS[outcome.code] if isinstance(outcome, Failed) else outcome.result
