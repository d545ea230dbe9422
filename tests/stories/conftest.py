"""One fleet of one worker for all stories; each has a tenant of its own. A story that breaks things founds a fleet."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fleet import Fleet, House, pytest_runtest_makereport
from tests.stack import Services
from worker.local import softhsm

__all__ = ["pytest_runtest_makereport"]


@pytest.fixture(scope="session")
async def fleet(stack: Services, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A fleet on SoftHSM2 with one worker at work."""
    folder = tmp_path_factory.mktemp("stories")
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
