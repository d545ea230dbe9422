"""Answers are signed over what was asked, sealed to who asked, and show no more than they must (S1, S4)."""

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.unit.flow_events.letters import FLEET, PAIR, REPLIES, caught, draft, identity, row
from tests.unit.flow_events.test_opening import Rows
from worker.chain.plan import Plan
from worker.client.answers import parse
from worker.flow.answering import Answering
from worker.flow.bodies import BodyLimits
from worker.flow.opening import Opening
from worker.model.codes import Code
from worker.model.ids import NO_ID, derived_id
from worker.model.operations import Operation
from worker.model.outcomes import Failed, Outcome, Rewrapped, Unwrapped, Wrapped
from worker.model.records import Headers, Outgoing
from worker.model.requests import Recipient, Request
from worker.model.rows import Algorithm
from worker.seal import hpke
from worker.seal.claims import ReplyClaims
from worker.seal.errors import BadSeal, BadSignature
from worker.seal.signatures import Ed25519Signer, verify_jws

ME = identity()
KEY, DEK = derived_id(1, "key"), derived_id(1, "dek")
SECRET = b"\x0d" * 32
TWO = b'{"key":"acme/eu","items":[{},{}]%s}'


class Voice:
    """A worker's certified key."""

    signer = Ed25519Signer("worker-1", Ed25519PrivateKey.generate())


ANSWERING = Answering(FLEET, Voice())


async def asked(body: bytes, operation: Operation = Operation.WRAP, more: Headers = ()) -> Request:
    record = caught(draft(ME, operation, body).record())
    record = replace(record, headers=(*record.headers, *more))
    opening = Opening(FLEET, "u", BodyLimits(), Rows({ME.client: row(ME)}))
    (found,) = await opening.open([record])
    assert isinstance(found, Request)
    return found


def answered(request: Request, outcomes: list[Outcome], recipient: Recipient | None = None) -> Outgoing:
    plan = Plan(request, (Failed(Code.NOT_FOUND),) * len(outcomes), (), None, recipient)
    return ANSWERING.answer(plan, outcomes)


def check(request: Request, sent: Outgoing, **changed: str | bytes) -> None:
    """Raises BadSignature unless the answer is signed for this request."""
    claims: dict[str, Any] = {
        "fleet": FLEET,
        "topic": sent.topic,
        "type": f"{request.type}.reply",
        "request_id": request.key.id,
        "request_sha256": request.signed_digest,
        "body_sha256": sha256(sent.value or b"").digest(),
    } | changed
    signature = dict(sent.headers)["keyriver-signature"].decode()
    payload = ReplyClaims(**claims).payload()
    verify_jws(signature, payload, Algorithm.ED25519, Voice.signer.public_key)


async def test_an_answer_is_signed_over_everything_that_it_answers() -> None:
    request = await asked(TWO % b"")
    sent = answered(request, [Wrapped(DEK, KEY, 1, b"blob"), Failed(Code.KEY_STATE)])
    check(request, sent)
    for change in ("fleet", "topic", "type", "request_id"):
        with pytest.raises(BadSignature):
            check(request, sent, **{change: "other"})
    for change in ("request_sha256", "body_sha256"):
        with pytest.raises(BadSignature):
            check(request, sent, **{change: bytes(32)})
    assert (sent.topic, sent.partition, sent.key) == (REPLIES, 3, request.record.key)


async def test_what_came_for_correlation_goes_back_as_it_came() -> None:
    trace = {"traceparent": b"00-0a-0b-01", "correlation_id": b"c-1", "kafka_correlationId": b"\xff\0"}
    request = await asked(TWO % b"", more=tuple(trace.items()))
    told = dict(ANSWERING.refusal(request, Code.STALE).headers)
    assert {name: told[name] for name in trace} == trace
    assert told["ce_type"] == b"keyriver.wrap.v1.reply"


async def test_plaintext_is_sealed_to_the_recipient_and_bound_to_the_request() -> None:
    recipient = Recipient(PAIR.suite, PAIR.public)
    request = await asked(TWO % b',"return_dek":true')
    sent = answered(request, [Failed(Code.KEY_STATE), Wrapped(DEK, KEY, 1, b"blob", SECRET)], recipient)
    assert SECRET not in (sent.value or b"")
    reply = parse(Operation.WRAP, sent.value or b"", 2)
    assert reply.sealed is not None

    def info(tenant: str = "acme", operation: str = "wrap", request_id: str = "request-1") -> bytes:
        return hpke.info("reply", PAIR.suite, FLEET, tenant, "billing", operation, request_id, PAIR.public)

    opened = hpke.open_sealed(PAIR.suite, PAIR.private, info(), reply.sealed.ciphertext)
    assert hpke.unpack_slots(opened, 2) == [b"", SECRET]
    for other in (info("globex"), info(operation="unwrap"), info(request_id="request-2")):
        with pytest.raises(BadSeal):
            hpke.open_sealed(PAIR.suite, PAIR.private, other, reply.sealed.ciphertext)


async def test_nothing_is_sealed_for_whom_nobody_asked() -> None:
    request = await asked(TWO % b"")
    sent = answered(request, [Wrapped(DEK, KEY, 1, b"blob", SECRET)] * 2)
    assert parse(Operation.WRAP, sent.value or b"", 2).sealed is None
    assert SECRET not in (sent.value or b"")


async def test_a_blob_is_shown_when_asked_for_or_stored_nowhere() -> None:
    outcomes: list[Outcome] = [Wrapped(DEK, KEY, 1, b"stored"), Wrapped(NO_ID, KEY, 1, b"loose")]
    quiet = answered(await asked(TWO % b""), outcomes).value or b""
    shown = answered(await asked(TWO % b',"return_blob":true'), outcomes).value or b""
    assert [b"c3RvcmVk" in quiet, b"bG9vc2U=" in quiet] == [False, True]
    assert [b"c3RvcmVk" in shown, b"bG9vc2U=" in shown] == [True, True]
    moving = await asked(b'{"items":[{"blob":"AAAA"}]}', Operation.REWRAP)
    moved = answered(moving, [Rewrapped(NO_ID, KEY, 2, b"loose", unchanged=True)]).value or b""
    assert b'"unchanged":true' in moved
    assert b"bG9vc2U=" in moved


async def test_an_unwrapped_dek_stands_in_its_slot_only() -> None:
    request = await asked(b'{"items":[{"blob":"AAAA"}]}', Operation.UNWRAP)
    sent = answered(request, [Unwrapped(KEY, 3, SECRET)], Recipient(PAIR.suite, PAIR.public))
    assert parse(Operation.UNWRAP, sent.value or b"", 1).results[0] is not None
    assert SECRET.hex().encode() not in (sent.value or b"")
    assert repr(SECRET) not in repr(sent)
