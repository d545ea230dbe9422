"""A worker that was frozen between settle and answer looks again at what its answer rests on (D3)."""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest

from tests.fleet import Fleet
from tests.processes import until
from tests.scribe import Scribe
from tests.stack import Services
from worker.client.results import WrappedDek
from worker.local import Token
from worker.model.bodies import ClientRevokeBody, DekItem, UnwrapBody, WrapBody, WrapItem
from worker.model.operations import Operation
from worker.model.topics import Lane, dead_letter_topic

LONGER_THAN_AN_ANSWER_MAY_WAIT_S = 0.5


@pytest.fixture
async def fleet(stack: Services, kryoptic: Token, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """Whose workers may be frozen for long without losing their partitions."""
    folder = tmp_path_factory.mktemp("frozen")
    async with Fleet.founded(stack, folder, kryoptic, kafka_session_s=20) as founded:
        yield founded


async def test_a_client_that_was_revoked_meanwhile_gets_no_dek(fleet: Fleet) -> None:
    # Given two workers, one of which freezes when it has settled, and has not yet answered
    fleet.start()
    house = await fleet.tenant()
    (made,) = await house.client.generate(house.key)
    assert isinstance(made, WrappedDek)
    await fleet.caught_up()
    frozen = fleet.start(lanes=[Lane.INTERACTIVE], failpoints="settled=freeze")
    await fleet.at_work(2, [Lane.INTERACTIVE])
    body = UnwrapBody(items=[DekItem(id=made.id)]).model_dump_json(exclude_none=True).encode()
    async with Scribe(fleet, house.identity) as scribe, Scribe(fleet, fleet.officers[0]) as officer:
        drafts = [scribe.draft(Operation.UNWRAP, body, plaintext=True) for _ in range(2)]
        for partition, draft in enumerate(drafts):
            await scribe.send(draft, partition)
        await until(lambda: frozen.is_frozen, "one of the two is frozen")
        while not (answered := [draft for draft in drafts if await scribe.so_far(draft.id)]):
            await asyncio.sleep(0.02)

        # When the client is revoked, and the officer has read the answer
        text = ClientRevokeBody(tenant=house.tenant, client=house.identity.client).model_dump_json().encode()
        revoking = officer.draft(Operation.CLIENT_REVOKE, text)
        for partition in range(2):
            await officer.send(revoking, partition)
        assert not (await officer.answer(revoking.id)).code
        await asyncio.sleep(LONGER_THAN_AN_ANSWER_MAY_WAIT_S)
        frozen.thaw()

        # Then what was under way is dead-lettered like everything that comes later, and its DEK stays where it is
        await fleet.caught_up()
        assert [len(await scribe.so_far(draft.id)) for draft in drafts] == [int(draft in answered) for draft in drafts]
    assert len(answered) == 1
    async with fleet.tap(dead_letter_topic(fleet.topics.unwrap)) as graves:
        (letter,) = await graves.to_end()
    unanswered = next(draft for draft in drafts if draft not in answered)
    assert dict(letter.headers)["ce_id"] == unanswered.id.encode()


async def test_what_was_settled_is_answered_before_the_end(fleet: Fleet) -> None:
    # Given a worker that is told to end while one request is settled and not yet answered
    founder = fleet.start()
    house = await fleet.tenant()
    assert await founder.terminated() == 0
    body = WrapBody(key=house.key, items=[WrapItem()]).model_dump_json().encode()
    async with Scribe(fleet, house.identity) as scribe:
        draft = scribe.draft(Operation.WRAP, body)
        await scribe.send(draft)
        ending = fleet.start(failpoints="settled=freeze")
        await until(lambda: ending.is_frozen, "it is frozen")
        ending.signal(signal.SIGTERM)
        # When it goes on, Then it answers, commits and ends, and nothing is left to be done again
        ending.thaw()
        assert await ending.ended() == 0
        assert await fleet.backlog() == {}
        assert len(await scribe.so_far(draft.id)) == 1
