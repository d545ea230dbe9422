"""A process whose background is closed afterwards."""

from collections.abc import AsyncIterator

import pytest

from tests.unit.flow_outside.outer import Rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    await made.stones.close()
