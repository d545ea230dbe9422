"""Every failpoint of the river × kill, around an import: done once or counted once, and one object in the token."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.contract.hsm_rig import opened
from tests.fleet import Fleet
from tests.stack import Services
from tests.stories.bank import SAFE, Bank
from worker.client import RequestRefused
from worker.edges.hsm import templates
from worker.flow.failpoints import NAMES
from worker.local import Token
from worker.model.importing import KeyImportBody
from worker.model.operations import Operation
from worker.model.replies import KeyResult, KeyView


@pytest.fixture(scope="module")
async def bank(stack: Services, kryoptic: Token, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bank]:
    """A fleet without workers."""
    folder = tmp_path_factory.mktemp("imports")
    async with Fleet.founded(stack, folder, kryoptic) as fleet:
        yield Bank(fleet, tmp_path_factory.mktemp("desk"), SAFE)


@pytest.fixture(scope="module")
async def orders(bank: Bank) -> list[KeyImportBody]:
    """An import that waits to be sent, of a tenant of its own, for each run."""
    founder = bank.fleet.start()
    made = []
    for _ in range(2 * len(NAMES)):
        parameters = await bank.parameters(await bank.tenant())
        made.append(await bank.wrapped(parameters, bank.key_file()))
    assert await founder.terminated() == 0
    return made


@pytest.mark.parametrize("point", NAMES)
async def test_an_import_is_done_once(bank: Bank, orders: list[KeyImportBody], kryoptic: Token, point: str) -> None:
    # Given a worker that dies at this point of an import, and another that takes over
    good, bad = orders.pop(), orders.pop().model_copy(update={"check_value": "000000"})
    key = await imported(bank, good, point)
    # Then there is one object in the token, it is the row's, and the parameters are used
    row = await bank.fleet.pool.fetchrow("SELECT material FROM keyriver.versions WHERE key = $1", key.id)
    assert row is not None
    token = await opened(kryoptic)
    try:
        mine = templates.by_id(templates.key_id(key.id, 1))
        (handle,) = await token.hsm.call(lambda crew: crew.session.find(mine), 10)
        label = await token.hsm.call(lambda crew: crew.session.attribute(handle, 0x3), 10)
        assert label == row["material"].hex.encode()
    finally:
        await token.close()
    # and a refused one counts once
    with pytest.raises(RequestRefused) as refusal:
        await imported(bank, bad, point)
    assert refusal.value.code == "IMPORT_REFUSED"
    failures = await bank.fleet.pool.fetchval("SELECT failures FROM keyriver.imports WHERE id = $1", bad.parameters)
    assert failures == 1


async def imported(bank: Bank, order: KeyImportBody, point: str) -> KeyView:
    """The import, through a worker that dies at the point and one that comes after it."""
    doomed = bank.fleet.start(failpoints=f"{point}=kill")
    await bank.fleet.at_work(1)
    officer = await bank.fleet.officer()
    asked = asyncio.create_task(officer.command(Operation.KEY_IMPORT, order))
    assert await doomed.ended() == -9
    healthy = bank.fleet.start()
    try:
        done = await asked
        assert isinstance(done, KeyResult)
        return done.key
    finally:
        await bank.shown(order.tenant)  # it answers, so it can be told to end
        assert await healthy.terminated() == 0
