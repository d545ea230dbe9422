"""Answers that nobody takes, and records that kill their worker: each is set aside, and whoever may be told is."""

import json
from dataclasses import replace

import pytest

from tests.unit.flow_river.parts import Sent
from tests.unit.flow_river.rig import PAYMENTS, TOPICS, Rig
from worker.client.wire import header
from worker.model.bodies import (
    ClientRevokeBody,
    WrapBody,
    WrapItem,
)
from worker.model.codes import Code
from worker.model.operations import Operation
from worker.model.records import Undeliverable, Verdict

WRAP = WrapBody(key=PAYMENTS, items=[WrapItem(), WrapItem()])


def wrap(rig: Rig, body: WrapBody = WRAP) -> Sent:
    return rig.draft(Operation.WRAP, body)


# Answers that nobody takes.


@pytest.mark.parametrize("reason", [Undeliverable.NO_TOPIC, Undeliverable.TOO_LARGE, Undeliverable.REFUSED])
async def test_an_answer_that_can_not_be_delivered_is_set_aside_and_the_others_go(reason: Undeliverable) -> None:
    rig = await Rig.made()
    lost = await rig.add("lost", reply_topics=["their.replies"])
    if reason is not Undeliverable.NO_TOPIC:
        rig.bus.create("their.replies", limit_bytes=100, refuses=reason is Undeliverable.REFUSED)
    orphan = rig.draft(Operation.WRAP, WRAP, replace(lost, reply_topic="their.replies"))
    sent = wrap(rig)
    assert await rig.run(orphan, sent) == [Verdict.DONE] * 2
    assert rig.told(sent)[0].codes == ["", ""]
    (kept,) = rig.bus.entries(TOPICS.undelivered)
    assert header(kept.headers, "keyriver-undelivered-reason") == reason
    assert header(kept.headers, "keyriver-undelivered-origin-topic") == TOPICS.wrap
    assert header(kept.headers, "ce_id") == orphan.request.id
    assert rig.watch.undelivered_ == [reason]
    assert len(rig.memory.deks) == 4, "the effect stands, and a retry is answered from the ledger"


# Records that kill their worker.


async def test_a_record_that_kills_is_buried_and_its_requester_told() -> None:
    rig = await Rig.made()
    sent = wrap(rig)
    assert await rig.river.bury(sent.record) is Verdict.DEAD
    assert rig.told(sent)[0].code == "POISON"
    (dead,) = rig.bus.entries(f"{TOPICS.wrap}.dlq")
    assert (dead.value, header(dead.headers, "keyriver-dlq-code")) == (sent.record.value, "POISON")
    assert json.loads(rig.memory.leaves[-1].body)["counts"] == {"POISON": 1}
    assert rig.memory.deks == {}


async def test_a_body_that_kills_while_it_is_read_is_buried_too() -> None:
    rig = await Rig.made()
    prepared = replace(wrap(rig).request, body=b"[" * 50)
    sent = rig.signed(prepared, rig.billing)
    assert await rig.river.bury(sent.record) is Verdict.DEAD
    assert rig.told(sent)[0].code == "POISON"


async def test_a_forged_record_that_kills_is_buried_and_nobody_is_told() -> None:
    rig = await Rig.made()
    sent = wrap(rig)
    forged = replace(sent.record, value=sent.record.value + b" ")
    assert await rig.river.bury(forged) is Verdict.UNAUTHENTIC
    assert rig.told(sent) == []
    assert rig.watch.dead == {Code.UNAUTHENTICATED: 1}


async def test_a_client_that_was_revoked_meanwhile_is_told_nothing() -> None:
    rig = await Rig.made()
    await rig.ask(Operation.WRAP, WRAP)
    sent = wrap(rig)
    rig.river, other = rig.worker(), rig.river
    await rig.command(Operation.CLIENT_REVOKE, ClientRevokeBody(tenant="acme", client="billing"))
    assert await other.bury(sent.record) is Verdict.DEAD
    assert rig.told(sent) == []
    assert len(rig.bus.entries(f"{TOPICS.wrap}.dlq")) == 1


async def test_a_record_that_kills_whoever_opens_it_is_set_aside_unread() -> None:
    rig = await Rig.made()
    sent = wrap(rig)
    assert await rig.river.set_aside(sent.record) is Verdict.UNAUTHENTIC
    (dead,) = rig.bus.entries(f"{TOPICS.wrap}.dlq")
    assert header(dead.headers, "keyriver-dlq-attempts") == "6"
    assert rig.watch.stages[-1] != "open"
