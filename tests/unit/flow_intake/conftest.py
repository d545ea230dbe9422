"""Each test has a lane of its own."""

import pytest

from tests.unit.flow_intake.lane import Lane


@pytest.fixture
def lane() -> Lane:
    return Lane()
