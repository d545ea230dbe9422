"""Answers go where the request says, in every dialect that clients speak; what can't be delivered is set aside (D5)."""

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.fleet import Fleet, House
from tests.scribe import SIGNATURE, Draft, Scribe
from worker.model.bodies import WrapBody, WrapItem
from worker.model.operations import Operation
from worker.model.records import Entry, Headers, Outgoing

TRACE = ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")


@pytest.fixture(scope="module")
async def house(fleet: Fleet) -> House:
    return await fleet.tenant()


@pytest.fixture(scope="module")
async def scribe(fleet: Fleet, house: House) -> AsyncIterator[Scribe]:
    async with Scribe(fleet, house.identity) as opened:
        yield opened


DIALECTS: dict[str, tuple[Headers, int | None, Headers]] = {
    # What stands in the headers in place of ce_replyto, the partition that is named, and what comes back as it was.
    "CloudEvents": ((("ce_replyto", b"REPLIES"), ("ce_correlationid", b"c-1")), None, (("ce_correlationid", b"c-1"),)),
    "CloudEvents, to a partition": ((("ce_replyto", b"REPLIES"), ("ce_replypartition", b"1")), 1, ()),
    "Spring Kafka": (
        (
            ("kafka_replyTopic", b"REPLIES"),
            ("kafka_correlationId", bytes(range(16))),
            ("kafka_replyPartition", (1).to_bytes(4, "big")),
        ),
        1,
        (("kafka_correlationId", bytes(range(16))), ("kafka_replyPartition", (1).to_bytes(4, "big"))),
    ),
    "FastStream": ((("reply_to", b"REPLIES"), ("correlation_id", b"c-2")), None, (("correlation_id", b"c-2"),)),
}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_dialect_of_reply_routing(fleet: Fleet, house: House, scribe: Scribe, dialect: str) -> None:
    # Given a request that says in this way where its answer goes, and carries a trace
    routing, partition, echo = DIALECTS[dialect]
    draft = replace(_wrapping(house, scribe), reply_partition=partition)
    record = draft.record()
    kept = [(name, value) for name, value in record.headers if name not in {"ce_replyto", "ce_replypartition"}]
    said = [(name, value.replace(b"REPLIES", fleet.topics.replies.encode())) for name, value in routing]
    # When it is sent, Then the answer comes there, signed, with all that was to be echoed, bytes for bytes
    entry = await _answer(fleet, scribe, draft, replace(record, headers=(*kept, *said, TRACE)))
    assert partition in {None, entry.partition.number}
    assert {*echo, TRACE} <= set(entry.headers)
    assert not (await scribe.answer(draft.id)).code


async def test_a_structured_event(fleet: Fleet, house: House, scribe: Scribe) -> None:
    # Given the same request as one JSON document
    draft = _wrapping(house, scribe)
    attributes = {
        name.removeprefix("ce_"): value.decode() for name, value in draft.record().headers if name.startswith("ce_")
    }
    event = json.dumps({**attributes, "data_base64": b64encode(draft.body).decode()}).encode()
    # When its value is signed and sent, Then it is answered like the other
    signed = replace(draft, body=event).record()
    headers = (("content-type", b"application/cloudevents+json"), (SIGNATURE, dict(signed.headers)[SIGNATURE]))
    entry = await _answer(fleet, scribe, draft, replace(signed, headers=headers))
    assert "error" not in json.loads(entry.value or b"")


async def test_an_answer_without_a_topic(fleet: Fleet, house: House) -> None:
    # Given a client whose reply topic is not there, or takes only small records
    small = f"{fleet.prefix}.small"
    admin = AIOKafkaAdminClient(bootstrap_servers=fleet.services.kafka)
    await admin.start()
    await admin.create_topics([NewTopic(small, 1, 1, topic_configs={"max.message.bytes": "400"})])
    await admin.close()
    topics = {f"{fleet.prefix}.missing": b"no-topic", small: b"too-large"}
    for topic, reason in topics.items():
        identity = await fleet.service(house.tenant, reply_topics=[topic])
        async with Scribe(fleet, identity) as scribe:
            draft = _wrapping(house, scribe)
            # When it asks, Then its answer waits in the undelivered topic, and says why
            await fleet.send(draft.record())
            entry = await _record_of(fleet, draft, fleet.topics.undelivered)
            assert dict(entry.headers)["keyriver-undelivered-reason"] == reason
            assert dict(entry.headers)["keyriver-undelivered-topic"] == topic.encode()
            assert json.loads(entry.value or b"")["results"]
    # And the partition moves on: everybody else is served
    await fleet.caught_up()
    assert len(await house.client.generate(house.key)) == 1


def _wrapping(house: House, scribe: Scribe) -> Draft:
    body = WrapBody(key=house.key, items=[WrapItem()]).model_dump_json().encode()
    return scribe.draft(Operation.WRAP, body, request_id=str(uuid4()))


def _is_of(draft: Draft, entry: Entry) -> bool:
    return dict(entry.headers).get("ce_id") == draft.id.encode()


async def _answer(fleet: Fleet, scribe: Scribe, draft: Draft, record: Outgoing) -> Entry:
    """The answer's record."""
    scribe.expect(draft)
    await fleet.send(record)
    return await _record_of(fleet, draft, fleet.topics.replies)


async def _record_of(fleet: Fleet, draft: Draft, topic: str) -> Entry:
    """The one record of the topic that has the request's id."""
    async with fleet.tap(topic) as tap:
        entries = await tap.until(lambda entries: any(_is_of(draft, one) for one in entries), f"{topic} names it")
    (entry,) = [one for one in entries if _is_of(draft, one)]
    return entry
