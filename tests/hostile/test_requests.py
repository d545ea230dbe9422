"""Forged, replayed, altered, stale and misdirected requests: each refused, none takes effect (S2, S3)."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.fleet import Fleet, House
from tests.hostile.docket import Docket, rows
from tests.hostile.forging import Alteration, added, anew, doubled, header, jws_header, structured
from tests.scribe import MINUTE_MS, SIGNATURE, Draft, Scribe, now_ms
from tests.unit.flow_events.test_events import RELEVANT
from worker.model.bodies import (
    ClientAddBody,
    ClientRevokeBody,
    ClientRotateBody,
    KeyCreateBody,
    KeyRotateBody,
    TenantCreateBody,
    WrapBody,
    WrapItem,
)
from worker.model.control import (
    ApprovalListBody,
    KeyCompromiseBody,
    KeyDestroyBody,
    KeyDisableBody,
    KeySuspendBody,
)
from worker.model.operations import Operation, Permission
from worker.model.records import Outgoing
from worker.model.requests import Recipient
from worker.model.rows import Algorithm, Suite
from worker.seal.identity import generate_private_key_pem

DEAD, MUTE, ELSEWHERE = "UNAUTHENTICATED", "UNREADABLE", "REPLY_TOPIC_REFUSED"
SMALL_ORDER = bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f")


def honest(scribe: Scribe, house: House, **more: object) -> Draft:
    body = WrapBody.model_validate({"key": house.key, "items": [WrapItem()], **more})
    return scribe.draft(Operation.WRAP, body.model_dump_json().encode(), plaintext=bool(more.get("return_dek")))


def onto(topic: str) -> Alteration:
    return lambda record: replace(record, topic=record.topic.replace("wrap", topic))


CLAIMED: Mapping[str, Alteration] = {
    "tenant": header("ce_tenant", b"another"),
    "client": header("ce_client", b"alice"),
    "topic": onto("unwrap"),
    "topic of another lane": onto("rewrap"),
    "id": header("ce_id", b"another"),
    "type": header("ce_type", b"keyriver.unwrap.v1"),
    "source": header("ce_source", b"another"),
    "time": header("ce_time", b"2026-11-24T00:00:00Z"),
    "deadline": header("ce_deadline", b"2099-01-01T00:00:00Z"),
    "no deadline": header("ce_deadline", None),
    "reply topic": header("ce_replyto", b"another"),
    "reply topic, in Spring's words": lambda record: header("ce_replyto", None)(
        added("kafka_replyTopic", b"n")(record)
    ),
    "reply partition": added("ce_replypartition", b"1"),
    "reply partition, in Spring's words": added("kafka_replyPartition", b"\0\0\0\1"),
    "recipient": added("ce_recipient", b"x25519:" + b"A" * 43 + b"="),
    "body": lambda record: replace(record, value=(record.value or b"") + b" "),
    "no body": lambda record: replace(record, value=b""),
    "no signature": header(SIGNATURE, None),
    "an empty signature": header(SIGNATURE, b".."),
    "the signature's header: none": jws_header({"alg": "none", "kid": "CLIENT"}),
    "the signature's header: another algorithm": jws_header({"alg": "ES256", "kid": "CLIENT"}),
    "the signature's header: a secret's algorithm": jws_header({"alg": "HS256", "kid": "CLIENT"}),
    "the signature's header: another client": jws_header({"alg": "Ed25519", "kid": "alice"}),
    "the signature's header: critical": jws_header({"alg": "Ed25519", "kid": "CLIENT", "crit": ["b64"], "b64": False}),
    "the signature's header: its own key": jws_header({"alg": "Ed25519", "kid": "CLIENT", "jwk": {"kty": "OKP"}}),
}

CONTRADICTIONS: Mapping[str, Alteration] = {
    "ce_replyto and kafka_replyTopic": added("kafka_replyTopic", b"another"),
    "ce_replyto and reply_to": added("reply_to", b"another"),
    "ce_replypartition and kafka_replyPartition": lambda record: added("ce_replypartition", b"1")(
        added("kafka_replyPartition", b"\0\0\0\2")(record)
    ),
    "structured mode and ce_ headers": header("content-type", b"application/cloudevents+json"),
}


async def test_what_was_changed_after_signing_is_dead(docket: Docket, house: House, scribe: Scribe) -> None:
    before = await rows(docket.fleet)
    for what, alter in CLAIMED.items():
        record = alter(honest(scribe, house).record())
        await docket.bury(what, DEAD, record)
    for what, alter in CONTRADICTIONS.items():
        await docket.bury(what, MUTE, alter(honest(scribe, house).record()))
    for name in RELEVANT:
        await docket.bury(f"doubled {name}", MUTE, doubled(name)(honest(scribe, house).record()))
    await docket.closed()
    assert await rows(docket.fleet) == before


async def test_who_signs_for_somebody_else_is_dead(docket: Docket, fleet: Fleet, house: House, scribe: Scribe) -> None:
    other, mine = await fleet.tenant(), honest(scribe, house)
    before = await rows(fleet)
    own = house.identity
    stranger = replace(own, private_key=generate_private_key_pem(own.algorithm))
    confused = replace(own, algorithm=Algorithm.ES256, private_key=generate_private_key_pem(Algorithm.ES256))
    forged = {
        "a stranger": anew(mine, signer=stranger),
        "a stranger with another algorithm": anew(mine, signer=confused),
        "a client of another tenant": anew(mine, tenant=other.tenant),
        "another client of another tenant": anew(mine, tenant=other.tenant, client=other.identity.client),
        "an officer": anew(mine, client="alice", tenant="fleet"),
        "nobody": anew(mine, client="nobody", signer=replace(own, client="nobody")),
        "for another fleet": anew(mine, fleet="dev-other"),
    }
    for what, draft in forged.items():
        await docket.bury(what, DEAD, draft.record())
    for topic in (fleet.topics.events, fleet.topics.intake, fleet.topics.wrap, f"{fleet.prefix}.nowhere.v1"):
        await docket.bury(f"reply to {topic}", ELSEWHERE, anew(mine, reply_topic=topic).record())
    await docket.closed()
    assert await rows(fleet) == before


async def test_time_is_the_brokers(docket: Docket, fleet: Fleet, house: House, scribe: Scribe) -> None:
    mine, before = honest(scribe, house), await rows(fleet)
    for seconds in (-305, -3600, -(10**9), 305, 3600, 10**9):
        stale = anew(mine, time_ms=now_ms() + seconds * 1000, deadline_ms=None)
        await docket.refuse(f"{seconds} s away", "STALE", stale)
    await docket.refuse("past its deadline", "DEADLINE_EXCEEDED", anew(mine, deadline_ms=now_ms() - 1))
    await docket.closed()
    assert await rows(fleet) == before
    for seconds in (-290, 290):
        fresh = await scribe.ask(anew(mine, time_ms=now_ms() + seconds * 1000, deadline_ms=None))
        assert fresh.codes == [""], seconds


async def test_a_replay_changes_nothing(docket: Docket, fleet: Fleet, house: House, scribe: Scribe) -> None:
    """The recorded bytes again, on other topics, and as another body under the same id."""
    mine = honest(scribe, house)
    first = await scribe.ask(mine)
    before = await rows(fleet)
    record = mine.record()
    for _ in range(3):
        await fleet.send(record)
    answers = await scribe.answers(mine.id, 4)
    assert all(answer == first for answer in answers)
    for topic in ("unwrap", "rewrap", "rotate", "keys", "control"):
        await docket.bury(f"on {topic}", DEAD, onto(topic)(record))
    await docket.closed()
    other = replace(mine, body=mine.body.replace(b"256", b"128"))
    await scribe.send(other)
    assert (await scribe.answers(mine.id, 5))[-1].code == "ID_REUSED"
    sealed_to_another = replace(mine, recipient=Recipient(Suite.X25519, bytes([9]) + bytes(31)))
    await scribe.send(sealed_to_another)
    assert (await scribe.answers(mine.id, 6))[-1].code == "ID_REUSED"
    assert await rows(fleet) == before


async def test_each_kind_of_signer_keeps_to_its_own(docket: Docket, fleet: Fleet, house: House, scribe: Scribe) -> None:
    """A service commands nothing, an officer touches no DEK, and no id of another tenant's is anything to anybody."""
    other, tenant = await fleet.tenant(), house.tenant
    before = await rows(fleet)
    own = house.identity
    commands = {
        Operation.TENANT_CREATE: TenantCreateBody(tenant="mine"),
        Operation.KEY_CREATE: KeyCreateBody(tenant=tenant, parent=tenant, alias=f"{tenant}/mine"),
        Operation.KEY_ROTATE: KeyRotateBody(tenant=tenant, key=house.key),
        Operation.CLIENT_ADD: ClientAddBody(
            tenant=tenant,
            client="mine",
            public_key=own.signer().public_key,
            permissions=list(Permission),
            reply_topics=[own.reply_topic],
            not_after_ms=now_ms() + MINUTE_MS,
        ),
        Operation.CLIENT_ROTATE: ClientRotateBody(tenant=tenant, client=own.client, public_key=bytes(32)),
        Operation.CLIENT_REVOKE: ClientRevokeBody(tenant=tenant, client=own.client),
        Operation.KEY_DISABLE: KeyDisableBody(tenant=tenant, key=house.key),
        Operation.KEY_SUSPEND: KeySuspendBody(tenant=tenant, key=house.key),
        Operation.KEY_COMPROMISE: KeyCompromiseBody(tenant=tenant, key=house.key),
        Operation.KEY_DESTROY: KeyDestroyBody(tenant=tenant, key=house.key, version=1),
        Operation.APPROVAL_LIST: ApprovalListBody(),
    }
    for operation, body in commands.items():
        draft = scribe.draft(operation, body.model_dump_json().encode())
        await docket.refuse(f"{operation} by a service", "NOT_FOUND", draft)
    for key in (other.key, other.upper, other.tenant, f"{other.key}x"):
        draft = scribe.draft(Operation.WRAP, WrapBody(key=key, items=[WrapItem()]).model_dump_json().encode())
        await docket.refuse(f"wrap under {key}", "NOT_FOUND", draft)
    await docket.closed()
    async with Scribe(fleet, fleet.officers[0]) as officer:
        booked = Docket(fleet, officer)
        body_of = WrapBody(key=house.key, items=[WrapItem()], return_blob=True, store=False)
        draft = officer.draft(Operation.WRAP, body_of.model_dump_json().encode())
        await booked.refuse("wrap by an officer", "NOT_FOUND", draft)
        await booked.closed()
    assert await rows(fleet) == before | {
        "ledger": before["ledger"] + 4
    }  # the four wraps were decided, and stay refused


async def test_who_was_revoked_or_rotated_hears_nothing_more(docket: Docket, fleet: Fleet, house: House) -> None:
    """Not even what is wrong with his request: a worker's memory of his row does not count."""
    officer = await fleet.officer()
    revoked, rotated = await fleet.service(house.tenant), await fleet.service(house.tenant)
    async with Scribe(fleet, revoked) as first, Scribe(fleet, rotated) as second:
        for scribe in (first, second):  # the worker remembers both
            assert (await scribe.ask(honest(scribe, house))).codes == [""]
        await officer.command(Operation.CLIENT_REVOKE, ClientRevokeBody(tenant=house.tenant, client=revoked.client))
        renewed = replace(rotated, private_key=generate_private_key_pem(rotated.algorithm))
        body = ClientRotateBody(tenant=house.tenant, client=rotated.client, public_key=renewed.signer().public_key)
        await fleet.command(Operation.CLIENT_ROTATE, body)
        before = await rows(fleet)
        for name, scribe in (("revoked", first), ("rotated", second)):
            malformed = scribe.draft(Operation.WRAP, b"{")
            await docket.bury(f"{name}, malformed", DEAD, malformed.record())
            await docket.bury(name, DEAD, honest(scribe, house).record())
            await docket.bury(f"{name}, stale", DEAD, anew(honest(scribe, house), time_ms=0).record())
        await docket.closed()
        assert await rows(fleet) == before


async def test_an_expired_client_hears_nothing(docket: Docket, fleet: Fleet, house: House) -> None:
    brief = replace(house.identity, client=f"{house.tenant}-brief")
    body = ClientAddBody(
        tenant=house.tenant,
        client=brief.client,
        public_key=brief.signer().public_key,
        permissions=list(Permission),
        reply_topics=[brief.reply_topic],
        not_after_ms=now_ms() + 500,
    )
    await fleet.command(Operation.CLIENT_ADD, body)
    await asyncio.sleep(max(0.0, (body.not_after_ms - now_ms()) / 1000) + 0.1)
    async with Scribe(fleet, brief) as scribe:
        await docket.bury("expired", DEAD, honest(scribe, house).record())
        await docket.bury("expired, malformed", DEAD, scribe.draft(Operation.WRAP, b"{").record())
    await docket.closed()


@pytest.mark.parametrize("partition", [b"\0\0\0\x63", b"\xff\xff\xff\xff"], ids=["99", "4294967295"])
async def test_an_answer_to_no_partition_is_undelivered(
    fleet: Fleet, house: House, scribe: Scribe, partition: bytes
) -> None:
    mine = replace(honest(scribe, house), reply_partition=int.from_bytes(partition, "big"))
    record = added("kafka_replyPartition", partition)(header("ce_replypartition", None)(mine.record()))
    await fleet.send(record)
    await fleet.caught_up()
    async with fleet.tap(fleet.topics.undelivered) as waste:
        entries = await waste.to_end()
    (kept,) = [entry for entry in entries if dict(entry.headers).get("ce_id") == mine.id.encode()]
    assert dict(kept.headers)["keyriver-undelivered-reason"] == b"no-topic"


WEAK_KEYS = [
    *((Suite.X25519, key) for key in (b"", bytes(31), bytes(33), bytes(32), bytes([1]) + bytes(31), SMALL_ORDER)),
    *((Suite.P256, key) for key in (b"\x04" + bytes(64), b"\x02" + bytes(32), bytes(65))),
    *((Suite.MLKEM768_X25519, key) for key in (b"\xff" * 1216, bytes(1215), bytes(1216))),
]


async def test_plaintext_is_sealed_to_no_weak_key(docket: Docket, house: House, scribe: Scribe) -> None:
    """And nothing is made for an answer that could not be sealed."""
    before = await rows(docket.fleet)
    for number, (suite, key) in enumerate(WEAK_KEYS):
        weak = replace(honest(scribe, house, return_dek=True), recipient=Recipient(suite, key))
        await docket.refuse(f"{number}: {suite}", "MALFORMED", weak)
    await docket.closed()
    assert await rows(docket.fleet) == before


async def test_structured_mode_is_signed_as_a_whole(docket: Docket, house: House, scribe: Scribe) -> None:
    mine = honest(scribe, house)
    record = structured(mine)
    scribe.expect(replace(mine, body=record.value or b""))
    await docket.fleet.send(record)
    assert (await scribe.answer(mine.id)).codes == [""]
    before = await rows(docket.fleet)
    altered: dict[str, tuple[str, Outgoing]] = {
        "a space more": (DEAD, replace(record, value=(record.value or b"") + b" ")),
        "signed for another mode": (
            DEAD,
            added("keyriver-signature", _signature(mine))(header(SIGNATURE, None)(record)),
        ),
        "data and data_base64": (MUTE, structured(anew(mine), data={"key": house.key})),
        "half a surrogate pair": (MUTE, _surrogate(structured(anew(mine)))),
        "an id that is a number": (MUTE, structured(anew(mine), id=7)),
        "two ids": (MUTE, replace(record, value=(record.value or b"").replace(b"{", b'{"id":"1",', 1))),
        "ce_ headers too": (MUTE, added("ce_id", b"1")(record)),
    }
    for what, (code, other) in altered.items():
        await docket.bury(what, code, other)
    await docket.closed()
    assert await rows(docket.fleet) == before


def _signature(draft: Draft) -> bytes:
    return dict(draft.record().headers)[SIGNATURE]


def _surrogate(record: Outgoing) -> Outgoing:
    event = json.loads(record.value or b"")
    return replace(record, value=json.dumps(event | {"source": "\ud800"}).encode())
