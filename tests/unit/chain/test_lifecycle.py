"""Every state with every use: the whole table, written a second time by hand."""

import pytest

from worker.chain.lifecycle import Use, allows
from worker.model.rows import State

#                           WRAP   UNWRAP  REWRAP_FROM  OPEN
TABLE = {
    State.PRE_ACTIVE: (False, False, False, False),
    State.ACTIVE: (True, True, True, True),
    State.SUSPENDED: (False, True, False, True),
    State.DEACTIVATED: (False, True, True, True),
    State.COMPROMISED: (False, False, False, False),
    State.DESTROY_SCHEDULED: (False, False, False, False),
    State.DESTROYED: (False, False, False, False),
}
USES = (Use.WRAP, Use.UNWRAP, Use.REWRAP_FROM, Use.OPEN)
CASES = [(state, use, allowed) for state, row in TABLE.items() for use, allowed in zip(USES, row, strict=True)]


def test_the_table_leaves_nothing_out() -> None:
    assert set(TABLE) == set(State)
    assert set(USES) == set(Use)


@pytest.mark.parametrize(("state", "use", "allowed"), CASES)
def test_what_a_state_allows(state: State, use: Use, *, allowed: bool) -> None:
    assert allows(state, use) is allowed
