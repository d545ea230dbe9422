"""Fleets for the fault tests, on kryoptic: SIGKILL inside a login destroys a SoftHSM2 token (FACTS 2.8)."""

from collections.abc import AsyncIterator

import pytest

from tests.fleet import Fleet, pytest_runtest_makereport
from tests.stack import Services
from worker.local import Token

__all__ = ["pytest_runtest_makereport"]


@pytest.fixture(scope="module")
async def fleet(stack: Services, kryoptic: Token, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A fleet without workers."""
    async with Fleet.founded(stack, tmp_path_factory.mktemp("faults"), kryoptic) as founded:
        yield founded
