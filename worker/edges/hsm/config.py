"""How to reach the token, how much of it to use, and who is told what it does."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, NoReturn, Protocol

from worker.model.hsm import Fault

MAX_SESSIONS: Final = 64
MIN_HANDLES: Final = 16
"""A chain of the deepest tenant, held by every thread at once, must fit."""


class Pin:
    """A token's PIN: never printed, never pickled."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value.encode()

    def reveal(self) -> bytes:
        """The bytes for C_Login."""
        return self._value

    def __repr__(self) -> str:
        return "Pin(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a PIN is not pickled")


@dataclass(frozen=True, slots=True)
class HsmConfig:
    """A token named by label or serial (one of them, or both), and the bounds of its use.

    `sessions` is the number of threads, each with a session of its own: 1 or 2 for a token in software (it does not
    scale with threads), about 16 for a network HSM. `handles` bounds the cached KEK handles, `handle_age_s` their age.
    `fleet_timeout_s` bounds what the river asks of the fleet's keys: a second, as DELIVERY D4 has it for any item.
    SOFTHSM2_CONF and KRYOPTIC_CONF are the process's own affair.
    """

    module: Path
    fleet: str
    pin: Pin
    label: str = ""
    serial: str = ""
    sessions: int = 2
    handles: int = 4096
    handle_age_s: float = 600.0
    fleet_timeout_s: float = 1.0
    start_timeout_s: float = 15.0

    def __post_init__(self) -> None:
        """Raises `ValueError` naming the setting that is wrong."""
        if not (self.label or self.serial):
            raise ValueError("hsm label or serial: name the token")
        if not 1 <= self.sessions <= MAX_SESSIONS:
            raise ValueError(f"hsm sessions: from 1 to {MAX_SESSIONS}")
        if self.handles < MIN_HANDLES:
            raise ValueError(f"hsm handles: at least {MIN_HANDLES}")
        if min(self.handle_age_s, self.fleet_timeout_s, self.start_timeout_s) <= 0:
            raise ValueError("hsm handle_age_s, fleet_timeout_s and start_timeout_s: above zero seconds")


class TokenState(StrEnum):
    """What the edge thinks of its token."""

    READY = "ready"
    HEALING = "healing"
    """Away or suspected; calls wait within their timeout."""
    PIN_REFUSED = "pin-refused"
    """An alarm: no login is tried again before a restart with the right PIN."""
    CLOSED = "closed"


class Observer(Protocol):
    """Told what happens, from any thread; it must be quick and must not raise."""

    def done(self, operation: str, count: int, seconds: float, fault: Fault | None) -> None:
        """`count` operations of one kind ended alike; `seconds` is what their whole group took."""

    def sessions(self, in_use: int) -> None:
        """How many sessions work at this moment."""

    def token(self, state: TokenState, detail: str) -> None:
        """The token's state changed; `detail` holds no secret."""


class Unobserved:
    """An observer that keeps nothing."""

    def done(self, operation: str, count: int, seconds: float, fault: Fault | None) -> None:
        """See `Observer.done`."""

    def sessions(self, in_use: int) -> None:
        """See `Observer.sessions`."""

    def token(self, state: TokenState, detail: str) -> None:
        """See `Observer.token`."""
