"""The same request again: a client that heard no answer, a broker that delivered twice, or somebody who copied it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.fleet import Fleet, House
from tests.scribe import Scribe, now_ms
from worker.client.answers import Rewrap, Wrap
from worker.model.bodies import (
    DekItem,
    KeyCreateBody,
    KeyRotateBody,
    RewrapBody,
    RewrapItem,
    UnwrapBody,
    WrapBody,
    WrapItem,
)
from worker.model.operations import Operation
from worker.model.replies import KeyResult
from worker.model.requests import Recipient
from worker.model.rows import Suite
from worker.seal.hpke import generate_keypair


@pytest.fixture
async def scribe(fleet: Fleet, house: House) -> AsyncIterator[Scribe]:
    async with Scribe(fleet, house.identity) as opened:
        yield opened


@pytest.mark.parametrize("store", [True, False])
async def test_the_same_deks_come_again(scribe: Scribe, house: House, store: bool) -> None:
    # Given an answered request for three DEKs
    body = WrapBody(key=house.key, items=[WrapItem()] * 3, store=store, return_blob=True, return_dek=True)
    draft = scribe.draft(Operation.WRAP, body.model_dump_json().encode(), plaintext=True)
    await scribe.send(draft)
    (first,) = await scribe.answers(draft.id)
    # When it comes again, later, and many times at once
    again = replace(draft, time_ms=now_ms() + 1, deadline_ms=now_ms() + 50_000)
    await asyncio.gather(*[scribe.send(again) for _ in range(5)])
    # Then each answer has the same ids, the same blobs and the same DEKs, sealed anew
    answers = await scribe.answers(draft.id, 6)
    assert len(set(first.deks)) == 3
    assert all(answer == first for answer in answers)


async def test_the_callers_deks_are_stored_once(fleet: Fleet, scribe: Scribe, house: House) -> None:
    # Given one request that is on its topic five times before anybody answers
    draft = scribe.wrapping(house.key, [bytes([number]) * 32 for number in range(3)])
    await asyncio.gather(*[scribe.send(draft) for _ in range(5)])
    # When all are answered, Then they agree, and there are three rows
    answers = await scribe.answers(draft.id, 5)
    ids = [one.id for one in answers[0].results if isinstance(one, Wrap)]
    assert all(answer == answers[0] for answer in answers)
    key = answers[0].results[0].key if isinstance(answers[0].results[0], Wrap) else None
    stored = await fleet.pool.fetch("SELECT id FROM keyriver.deks WHERE key = $1", key)
    assert {row["id"] for row in stored} == set(ids)
    assert len(stored) == 3


async def test_what_was_answered_is_answered_as_it_was(fleet: Fleet, scribe: Scribe, house: House) -> None:
    # Given a DEK that was made and moved, each by an answered request
    body = WrapBody(key=house.key, items=[WrapItem()], return_dek=True)
    made = scribe.draft(Operation.WRAP, body.model_dump_json().encode(), plaintext=True)
    first = await scribe.ask(made)
    (dek,) = [one for one in first.results if isinstance(one, Wrap)]
    officer = await fleet.officer()
    await officer.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.key))
    moving = RewrapBody(items=[RewrapItem(id=dek.id)]).model_dump_json(exclude_none=True).encode()
    moved = scribe.draft(Operation.REWRAP, moving)
    (to,) = (await scribe.ask(moved)).results
    # When both come again
    await scribe.send(made)
    await scribe.send(moved)
    # Then they are answered as before: version 1 when it was made, version 2 when it was moved
    assert (await scribe.answers(made.id, 2))[1] == first
    (again,) = (await scribe.answers(moved.id, 2))[1].results
    assert isinstance(again, Rewrap)
    assert again == to
    assert (dek.version, again.version, again.unchanged) == (1, 2, False)


async def test_a_key_is_made_once(fleet: Fleet, house: House) -> None:
    # Given an officer's command that is sent three times
    body = KeyCreateBody(tenant=house.tenant, parent=house.upper, alias=f"{house.upper}/twice")
    async with Scribe(fleet, fleet.officers[0]) as officer:
        draft = officer.draft(Operation.KEY_CREATE, body.model_dump_json().encode())
        await asyncio.gather(*[officer.send(draft) for _ in range(3)])
        answers = await officer.answers(draft.id, 3)
    # Then it is one key with one version
    (key,) = {one.key.id for answer in answers for one in answer.results if isinstance(one, KeyResult)}
    assert await fleet.pool.fetchval("SELECT count(*) FROM keyriver.versions WHERE key = $1", key) == 1
    assert (
        await fleet.pool.fetchval(
            "SELECT count(*) FROM keyriver.keys WHERE parent = (SELECT parent FROM keyriver.keys WHERE id = $1)", key
        )
        == 2
    )


async def test_another_body_under_the_same_id_is_refused(scribe: Scribe, house: House) -> None:
    # Given an answered request
    body = WrapBody(key=house.key, items=[WrapItem()], return_dek=True)
    draft = scribe.draft(Operation.WRAP, body.model_dump_json().encode(), plaintext=True)
    await scribe.ask(draft)
    stranger = generate_keypair(Suite.X25519)
    others = [
        replace(draft, body=body.model_copy(update={"items": [WrapItem(), WrapItem()]}).model_dump_json().encode()),
        replace(draft, recipient=Recipient(stranger.suite, stranger.public)),  # the DEK for somebody else
        replace(draft, recipient=None),
    ]
    # When its id comes with another body, or for another recipient, Then it is refused
    for count, other in enumerate(others, 2):
        await scribe.send(other)
        assert (await scribe.answers(draft.id, count))[-1].code == "ID_REUSED"


async def test_reading_again_is_no_repetition(fleet: Fleet, scribe: Scribe, house: House) -> None:
    # Given an unwrap that was answered
    (made,) = await house.client.generate(house.key)
    item = DekItem(id=getattr(made, "id", None))
    body = UnwrapBody(items=[item]).model_dump_json(exclude_none=True).encode()
    draft = scribe.draft(Operation.UNWRAP, body, plaintext=True)
    first = await scribe.ask(draft)
    # When it comes again, Then it is carried out again: nothing was ledgered, two leaves are on the trail
    await scribe.send(draft)
    assert (await scribe.answers(draft.id, 2))[1] == first
    assert await fleet.pool.fetchval("SELECT count(*) FROM keyriver.ledger WHERE id = $1", draft.id) == 0
    leaves = "SELECT count(*) FROM keyriver.leaves WHERE convert_from(body, 'UTF8')::jsonb ->> 'request' = $1"
    assert await fleet.pool.fetchval(leaves, draft.id) == 2
