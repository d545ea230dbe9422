"""What workers and the client library really send fits the contract's headers and bodies."""

import json
import re
from pathlib import Path
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jsonschema import Draft7Validator

from schemas import contract, headers
from worker.client.wire import Letterhead, Prepared, attempt
from worker.flow.answering import Answering
from worker.flow.deadletters import DeadLetters
from worker.flow.events import decode
from worker.flow.relay import Relay
from worker.model.codes import Code
from worker.model.effects import Announce
from worker.model.operations import Operation
from worker.model.records import Headers, Outgoing, Partition, Record, Undeliverable
from worker.model.requests import Envelope, LedgerKey, Recipient, ReplyRoute
from worker.model.rows import Suite
from worker.model.sequences import SEQUENCE
from worker.seal.signatures import Ed25519Signer, Signer

SIGNER = Ed25519Signer("kid", Ed25519PrivateKey.generate())
ID = UUID("01936120-0000-7000-8000-00000000a001")
RECORD = Record(Partition("keyriver.wrap.v1", 3), 7, b"key", b"{}", (("ce_id", b"x"),), 1_795_557_600_000, 1)


class Voice:
    signer: Signer = SIGNER


class Nobody:
    """Mourner, outbox and sink of the parts that only make records here."""

    def buried(self, record: Record, code: Code) -> None: ...
    def noted(self, record: Record, code: Code) -> None: ...
    def undelivered(self, topic: str, reason: Undeliverable) -> None: ...


def fits(kind: str, sent: Headers, *, exactly: bool = True) -> None:
    told = {name: value.decode() for name, value in sent}
    assert len(told) == len(sent)
    schema = {**headers.ALL[kind], **({"additionalProperties": False} if exactly else {})}
    Draft7Validator(schema).validate(told)


def refusal() -> Outgoing:
    envelope = Envelope(
        record=RECORD,
        key=LedgerKey("acme", "payments", "/payments", str(ID)),
        type="keyriver.wrap.v1",
        time_ms=0,
        deadline_ms=None,
        recipient=None,
        route=ReplyRoute("keyriver.replies.v1", None, (("ce_correlationid", b"c"), ("correlation_id", b"c"))),
        body_digest=bytes(32),
        signed_digest=bytes(32),
        client_revision=1,
        trace=(("traceparent", b"00-1-1-00"),),
    )
    return Answering("dev-example", Voice()).refusal(envelope, Code.STALE)


def test_an_answer() -> None:
    sent = refusal()
    fits("reply", sent.headers)
    schema = contract.messages()["keyriver.wrap.v1.reply"]["payload"]
    Draft7Validator(schema).validate(json.loads(sent.value or b""))


def test_an_event() -> None:
    nobody = Nobody()
    topics = ("keyriver.events.v1", "keyriver.hints.v1", "keyriver.sequences.v1")
    relay = Relay("dev-example", *topics, nobody, nobody, Voice())  # type: ignore[arg-type]
    fits("event", relay._record(Announce(ID, "keyriver.key.created.v1", "acme", b"{}")).headers)


def test_dead_letters() -> None:
    letters = DeadLetters("keyriver.undelivered.v1", "worker-1", Nobody())
    fits("deadLetter", letters.authentic(RECORD, Code.POISON, 3).headers, exactly=False)
    large = Outgoing("replies", b"key", bytes(9 * 1024 * 1024), ())
    for answer in (refusal(), large):
        fits("undelivered", letters.undelivered(answer, RECORD, Undeliverable.TOO_LARGE).headers, exactly=False)


def test_a_request_of_the_client_library() -> None:
    head = Letterhead("dev-example", "acme", "payments", "keyriver", "keyriver.replies.v1", 3, SIGNER)
    prepared = Prepared(
        operation=Operation.WRAP,
        id=str(ID),
        key=b"acme/eu",
        body=b"{}",
        items=1,
        recipient=Recipient(Suite.MLKEM768_X25519, bytes(1216)),
        deadline_ms=1_795_557_630_000,
    )
    sent, _ = attempt(head, prepared, 1_795_557_600_000)
    fits("request", sent.headers)
    decode(Record(Partition(sent.topic, 0), 0, sent.key, sent.value or b"", sent.headers, 0, 1))


def test_every_event_that_the_chain_states_is_in_the_contract() -> None:
    chain = Path(__file__).parents[3] / "worker" / "chain"
    stated = {
        found for file in chain.glob("*.py") for found in re.findall(r'"(keyriver\.[a-z.]+\.v1)"', file.read_text())
    }
    assert stated | {SEQUENCE} == set(contract.EVENTS)
