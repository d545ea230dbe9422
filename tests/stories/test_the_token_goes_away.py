"""The token vanishes and returns under load: requests wait or fail with a retryable code, nothing is lost."""

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.contract.hsm_rig import compiled_shim
from tests.fleet import Fleet, House
from tests.scribe import Answer, Draft, Scribe, now_ms
from tests.stack import Services
from worker.chain import blob
from worker.client.answers import Wrap
from worker.client.results import Unwrapped, WrappedDek
from worker.local import softhsm
from worker.model.bodies import DekItem, UnwrapBody, WrapBody, WrapItem
from worker.model.operations import Operation


@dataclass(frozen=True, slots=True)
class Outage:
    """A fleet whose token is behind the shim; while the file exists the token is away."""

    fleet: Fleet
    down_file: Path

    def begin(self) -> None:
        self.down_file.touch()

    def end(self) -> None:
        self.down_file.unlink()


@pytest.fixture(scope="module")
async def outage(stack: Services, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Outage]:
    folder = tmp_path_factory.mktemp("outage")
    real = Path(shutil.copy2(softhsm.module(), folder / "module.so"))
    token = softhsm.token(folder / "token", module_file=real)
    shim, down = compiled_shim(folder), folder / "down"
    behind = replace(token, module=shim, env={**token.env, "SHIM_MODULE": str(real), "SHIM_DOWN_FILE": str(down)})
    async with Fleet.founded(stack, folder, behind) as fleet:
        fleet.start()
        yield Outage(fleet, down)


async def test_open_items_are_filled_when_the_token_is_back(outage: Outage) -> None:
    # Given a stored DEK, and a token that has gone away
    house = await outage.fleet.tenant()
    (stored,) = await house.client.generate(house.key)
    assert isinstance(stored, WrappedDek)
    async with Scribe(outage.fleet, house.identity) as scribe:
        body = WrapBody(key=house.key, items=[WrapItem()] * 3, return_dek=True).model_dump_json().encode()
        making = scribe.draft(Operation.WRAP, body, plaintext=True)
        text = UnwrapBody(items=[DekItem(id=stored.id)]).model_dump_json(exclude_none=True).encode()
        reading = scribe.draft(Operation.UNWRAP, text, plaintext=True)
        outage.begin()
        try:
            # When DEKs are asked for, Then every item is answered in time with a retryable code, and nothing is stored
            for draft, items in ((making, 3), (reading, 1)):
                answer = await scribe.ask(draft)
                assert answer.codes == ["DEFERRED"] * items
                assert all(getattr(result, "retry", False) for result in answer.results)
            assert await _stored(outage.fleet) == 1
        finally:
            outage.end()

        # And when the token is back, the same request is filled, once
        filled = await _filled(scribe, making)
        ids = [one.id for one in filled[0].results if isinstance(one, Wrap)]
        assert len(set(ids)) == 3
        assert all(answer == filled[0] for answer in filled)
        assert await _stored(outage.fleet) == 4
    back = await house.client.unwrap([DekItem(id=one) for one in ids])
    assert [one.dek for one in back if isinstance(one, Unwrapped)] == filled[0].deks


async def test_nothing_is_lost_under_load(outage: Outage) -> None:
    # Given callers that work all the time
    houses = [await outage.fleet.tenant() for _ in range(2)]
    stop = asyncio.Event()
    made: list[tuple[House, WrappedDek]] = []

    async def working(house: House) -> None:
        while not stop.is_set():
            fresh = await house.client.generate(house.key, 20, return_blob=True)
            assert all(isinstance(one, WrappedDek) for one in fresh), fresh[:1]
            made.extend((house, one) for one in fresh if isinstance(one, WrappedDek))

    # When the token goes away and comes back, three times, shorter and longer than a caller's first wait
    async with asyncio.TaskGroup() as tasks:
        for house in houses * 3:
            tasks.create_task(working(house))
        for seconds in (0.2, 1.5, 4.0):
            await _more(made)
            outage.begin()
            await _noticed(outage.fleet)
            await asyncio.sleep(seconds)
            outage.end()
        await _more(made)
        stop.set()

    # Then nobody met an error, the worker has healed by itself, and all that was made unwraps, by id and by blob
    (worker,) = outage.fleet.members
    assert worker.is_running
    assert await worker.total("keyriver_token_changes_total", state="ready") >= 4
    for house in houses:
        deks = [one for owner, one in made if owner is house]
        for items in ([DekItem(id=one.id) for one in deks], [DekItem(blob=one.blob) for one in deks]):
            back = await house.client.unwrap(items)
            assert [one.dek for one in back if isinstance(one, Unwrapped)] == [one.dek for one in deks]
        # Under the key that the header names: a handle of an earlier life would name another tenant's
        headers = {(blob.parse(one.blob or b"").key, blob.parse(one.blob or b"").version) for one in deks}
        assert headers == {(deks[0].key, 1)}


async def _noticed(fleet: Fleet) -> None:
    """Wait until the worker is about to heal: it has met the outage."""
    (worker,) = fleet.members
    async with asyncio.timeout(60):
        while await worker.total("keyriver_token_state", state="ready"):
            await asyncio.sleep(0.02)


async def _more(made: list[tuple[House, WrappedDek]]) -> None:
    goal = len(made) + 200
    async with asyncio.timeout(60):
        while len(made) < goal:
            await asyncio.sleep(0.02)


async def _stored(fleet: Fleet) -> int:
    return int(await fleet.pool.fetchval("SELECT count(*) FROM keyriver.deks"))


async def _filled(scribe: Scribe, draft: Draft) -> list[Answer]:
    """Send it again until an answer has every item, and once more: the answers without an open item."""
    async with asyncio.timeout(60):
        for count in itertools.count(2):
            await scribe.send(replace(draft, time_ms=now_ms()))
            answers = await scribe.answers(draft.id, count)
            filled = [answer for answer in answers if not any(answer.codes)]
            if len(filled) == 2:
                return filled
    raise AssertionError
