"""One fleet of one worker for all attacks that leave it alive; each has a tenant of its own."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fleet import Fleet, House, pytest_runtest_makereport
from tests.hostile.docket import Docket
from tests.scribe import Scribe
from tests.stack import Services
from worker.local import softhsm

__all__ = ["pytest_runtest_makereport"]


@pytest.fixture(scope="session")
async def fleet(stack: Services, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A fleet on SoftHSM2 with one worker at work."""
    folder = tmp_path_factory.mktemp("hostile")
    module = Path(shutil.copy2(softhsm.module(), folder / "module.so"))
    token = softhsm.token(folder / "token", module_file=module)
    async with Fleet.founded(stack, folder, token) as founded:
        founded.start()
        await founded.at_work(1)
        yield founded


@pytest.fixture
async def house(fleet: Fleet) -> House:
    """A tenant of this test's own."""
    return await fleet.tenant()


@pytest.fixture
async def scribe(fleet: Fleet, house: House) -> AsyncIterator[Scribe]:
    """Writes the tenant's requests by hand."""
    async with Scribe(fleet, house.identity) as opened:
        yield opened


@pytest.fixture
async def docket(fleet: Fleet, scribe: Scribe) -> Docket:
    """Where hostile records are booked."""
    return Docket(fleet, scribe)
