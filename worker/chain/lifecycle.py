"""What a key version's state allows to callers (NIST SP 800-57 part 1, section 7): one table, no exceptions to it."""

from enum import Enum, auto

from worker.model.rows import State


class Use(Enum):
    """A use of a key version. `OPEN` is what an ancestor must allow so that what it wraps can be opened."""

    WRAP = auto()
    UNWRAP = auto()
    REWRAP_FROM = auto()
    OPEN = auto()


_ALLOWED: dict[State, frozenset[Use]] = {
    State.PRE_ACTIVE: frozenset(),
    State.ACTIVE: frozenset(Use),
    State.SUSPENDED: frozenset({Use.UNWRAP, Use.OPEN}),
    State.DEACTIVATED: frozenset({Use.UNWRAP, Use.REWRAP_FROM, Use.OPEN}),
    State.COMPROMISED: frozenset(),
    State.DESTROY_SCHEDULED: frozenset(),
    State.DESTROYED: frozenset(),
}


def allows(state: State, use: Use) -> bool:
    """Whether a caller may use a version in this state in this way."""
    return use in _ALLOWED[state]
