"""The states of key versions (NIST SP 800-57 part 1, section 7; KMIP): what each allows, and what leads to what.

Two tables, no exceptions to them. A version that is active or suspended is its key's active one; nothing may wrap under
any other, so what needs such a version can only become less.
"""

from enum import Enum, auto

from worker.model.rows import State


class Use(Enum):
    """A use of a key version. `OPEN` is what an ancestor must allow so that what it wraps can be opened."""

    WRAP = auto()
    UNWRAP = auto()
    REWRAP_FROM = auto()
    OPEN = auto()


class Who(Enum):
    """On whose behalf a version is used."""

    CALLER = auto()
    GRANTED = auto()
    """A caller with an officer's grant for this version."""
    CAMPAIGN = auto()


class Change(Enum):
    """What can happen to a version. `RETIRE` is what a newer version that becomes active does to the one before."""

    ACTIVATE = auto()
    SUSPEND = auto()
    RESUME = auto()
    DEACTIVATE = auto()
    RETIRE = auto()
    COMPROMISE = auto()
    SCHEDULE_DESTROY = auto()
    CARRY_OUT_DESTROY = auto()


_NOTHING: frozenset[Use] = frozenset()
_OLD = frozenset({Use.UNWRAP, Use.REWRAP_FROM, Use.OPEN})
_PAUSED = frozenset({Use.UNWRAP, Use.OPEN})
_ALLOWED: dict[State, dict[Who, frozenset[Use]]] = {
    #                         callers                  callers with a grant      campaigns
    State.PRE_ACTIVE: {Who.CALLER: _NOTHING, Who.GRANTED: _NOTHING, Who.CAMPAIGN: _NOTHING},
    State.ACTIVE: {Who.CALLER: frozenset(Use), Who.GRANTED: frozenset(Use), Who.CAMPAIGN: frozenset(Use)},
    State.SUSPENDED: {Who.CALLER: _PAUSED, Who.GRANTED: _PAUSED, Who.CAMPAIGN: _PAUSED},
    State.DEACTIVATED: {Who.CALLER: _OLD, Who.GRANTED: _OLD, Who.CAMPAIGN: _OLD},
    State.COMPROMISED: {Who.CALLER: _NOTHING, Who.GRANTED: _OLD, Who.CAMPAIGN: _OLD},
    State.DESTROY_SCHEDULED: {Who.CALLER: _NOTHING, Who.GRANTED: _NOTHING, Who.CAMPAIGN: _NOTHING},
    State.DESTROYED: {Who.CALLER: _NOTHING, Who.GRANTED: _NOTHING, Who.CAMPAIGN: _NOTHING},
}
# Stops may be repeated: a state that leads to itself changes nothing and is no error.
_LEADS: dict[Change, dict[State, State]] = {
    Change.ACTIVATE: {State.PRE_ACTIVE: State.ACTIVE},
    Change.SUSPEND: {State.ACTIVE: State.SUSPENDED, State.SUSPENDED: State.SUSPENDED},
    Change.RESUME: {State.SUSPENDED: State.ACTIVE},
    Change.DEACTIVATE: {
        State.ACTIVE: State.DEACTIVATED,
        State.SUSPENDED: State.DEACTIVATED,
        State.DEACTIVATED: State.DEACTIVATED,
    },
    Change.RETIRE: {State.ACTIVE: State.DEACTIVATED, State.SUSPENDED: State.DEACTIVATED},
    Change.COMPROMISE: {
        State.PRE_ACTIVE: State.COMPROMISED,
        State.ACTIVE: State.COMPROMISED,
        State.SUSPENDED: State.COMPROMISED,
        State.DEACTIVATED: State.COMPROMISED,
        State.COMPROMISED: State.COMPROMISED,
    },
    Change.SCHEDULE_DESTROY: {
        State.PRE_ACTIVE: State.DESTROY_SCHEDULED,
        State.DEACTIVATED: State.DESTROY_SCHEDULED,
        State.COMPROMISED: State.DESTROY_SCHEDULED,
    },
    Change.CARRY_OUT_DESTROY: {State.DESTROY_SCHEDULED: State.DESTROYED},
}


def allows(state: State, use: Use, who: Who = Who.CALLER) -> bool:
    """Whether a version in this state may be used in this way."""
    return use in _ALLOWED[state][who]


def after(change: Change, state: State) -> State | None:
    """The state that follows, or None where the change is refused. A cancelled destruction restores `prior` instead."""
    return _LEADS[change].get(state)
