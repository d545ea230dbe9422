"""Who can write the reply and the intake topic hands nobody a DEK and learns none (S1)."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.fleet import Fleet, House
from tests.hostile.impostor import Impostor
from tests.scribe import Scribe
from tests.stack import Services
from tests.tap import Tap
from worker.client import KafkaTransport, KeyriverClient, NoAnswer, NoIntakeKey, Options
from worker.client.calls import Pace
from worker.client.results import Unwrapped, WrappedDek
from worker.local import Token
from worker.model.bodies import DekItem, WrapBody, WrapItem
from worker.model.operations import Operation
from worker.model.records import Entry
from worker.seal import hpke
from worker.seal.errors import BadSeal
from worker.seal.identity import Identity

OWN = b"\x77" * 32


def a_client(fleet: Fleet, identity: Identity, patience_s: float = 5.0, timeout_s: float = 30.0) -> KeyriverClient:
    # One attempt only: each answer that is refused is counted once.
    chosen = Options(prefix=fleet.prefix, patience_s=patience_s, timeout_s=timeout_s, pace=Pace(answer_s=60.0))
    return KeyriverClient(identity, KafkaTransport({"bootstrap_servers": fleet.services.kafka}), chosen)


@pytest.fixture(scope="module")
async def fleet(stack: Services, softhsm: Token, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A fleet of its own, for what is on its topics afterwards is nothing for others."""
    async with Fleet.founded(stack, tmp_path_factory.mktemp("impostor"), softhsm) as founded:
        founded.start()
        await founded.at_work(1)
        yield founded


@pytest.fixture(scope="module")
async def house(fleet: Fleet) -> House:
    return await fleet.tenant()


@pytest.fixture(scope="module")
async def earlier(fleet: Fleet, house: House) -> Entry:
    """A true answer, recorded to be replayed."""
    async with Scribe(fleet, house.identity) as scribe:
        body = WrapBody(key=house.key, items=[WrapItem()], return_dek=True).model_dump_json().encode()
        draft = scribe.draft(Operation.WRAP, body, plaintext=True)
        await scribe.ask(draft)
    async with fleet.tap(fleet.topics.replies) as replies:
        return next(e for e in await replies.to_end() if dict(e.headers)["ce_id"] == draft.id.encode())


async def _request(tap: Tap, identity: Identity, seen: int) -> Entry:
    def asked(entries: list[Entry]) -> list[Entry]:
        return [e for e in entries[seen:] if dict(e.headers).get("ce_client") == identity.client.encode()]

    return asked(await tap.until(lambda entries: bool(asked(entries)), "the client's request"))[0]


async def test_forged_answers_come_first_and_the_true_one_is_taken(fleet: Fleet, house: House, earlier: Entry) -> None:
    impostor = Impostor(fleet)
    async with fleet.tap(fleet.topics.intake) as said:
        await impostor.announce([entry for entry in await said.to_end() if entry.value is not None])
    worker = fleet.members[0]
    async with a_client(fleet, house.identity, 0.5) as client, fleet.tap(fleet.topics.wrap) as requests:
        seen = len(await requests.to_end())
        worker.freeze()
        try:
            asking = asyncio.create_task(client.generate(house.key))
            forged = impostor.answers(await _request(requests, house.identity, seen), earlier)
            for record in forged:
                await fleet.send(record)
            async with asyncio.timeout(60):
                while sum(client.refused[why] for why in REASONS) < len(forged):
                    await asyncio.sleep(0.01)
            assert not asking.done()
        finally:
            worker.thaw()
        (made,) = await asking
        assert isinstance(made, WrappedDek)
        assert made.dek not in (None, impostor.dek)
        (back,) = await client.unwrap([DekItem(id=made.id)])
        assert isinstance(back, Unwrapped)
        assert back.dek == made.dek


REASONS = ("unsigned", "signature", "unknown certificate", "type")


async def test_forged_answers_alone_are_none(fleet: Fleet, house: House, earlier: Entry) -> None:
    """The error says what was refused; nothing was taken for an answer."""
    impostor = Impostor(fleet)
    lonely = replace(house.identity, client=f"{house.tenant}-unheard")  # the fleet does not answer this one
    for patience_s in (2.0, 10.0, 40.0):  # so that all of them have come before it gives up, on a busy machine, too
        async with a_client(fleet, lonely, 0.2, patience_s) as client, fleet.tap(fleet.topics.wrap) as requests:
            seen = len(await requests.to_end())
            asking = asyncio.create_task(client.generate(house.key))
            forged = impostor.answers(await _request(requests, lonely, seen), earlier)
            for record in forged:
                await fleet.send(record)
            with pytest.raises(NoAnswer) as told:
                await asking
            assert set(told.value.refused) <= set(REASONS)
            if sum(told.value.refused.values()) == len(forged):
                return
    pytest.fail("not every forged answer was refused")


async def test_deks_are_sealed_to_no_forged_intake_key(fleet: Fleet, house: House) -> None:
    impostor = Impostor(fleet)
    async with fleet.tap(fleet.topics.intake) as said:
        await impostor.announce([entry for entry in await said.to_end() if entry.value is not None])
    async with a_client(fleet, house.identity) as client, fleet.tap(fleet.topics.wrap) as requests:
        seen = len(await requests.to_end())
        (made,) = await client.wrap(house.key, [OWN])
        assert isinstance(made, WrappedDek)
        request = await _request(requests, house.identity, seen)
        body = WrapBody.model_validate_json(request.value or b"")
        assert body.sealed is not None
        assert body.sealed.sequence < 10**6
        assert client.refused["the announcement is refused: the fleet's key did not sign it"] >= 2
        told = {name: value.decode() for name, value in request.headers}
        names = (impostor.fleet_id, told["ce_tenant"], told["ce_client"], "wrap", told["ce_id"])
        info = hpke.info("request", impostor.intake.suite, *names, impostor.intake.public)
        with pytest.raises(BadSeal):
            hpke.open_sealed(impostor.intake.suite, impostor.intake.private, info, body.sealed.ciphertext)
        (back,) = await client.unwrap([DekItem(id=made.id)])
        assert isinstance(back, Unwrapped)
        assert back.dek == OWN


async def test_without_a_true_intake_key_nothing_is_sealed_or_sent(fleet: Fleet, house: House) -> None:
    """A client that pins another fleet's key believes nobody here."""
    impostor = Impostor(fleet)
    misled = replace(house.identity, fleet_key=Impostor(fleet).root.public_key)
    async with fleet.tap(fleet.topics.intake) as said:
        await impostor.announce([entry for entry in await said.to_end() if entry.value is not None])
    async with a_client(fleet, misled, 0.5) as client, fleet.tap(fleet.topics.wrap) as requests:
        seen = len(await requests.to_end())
        with pytest.raises(NoIntakeKey):
            await client.wrap(house.key, [OWN])
        assert len(await requests.to_end()) == seen
