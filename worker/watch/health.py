"""Whether a worker lives and is ready. Nothing here asks a broker: what is known already is told (FACTS 3)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One dependency: what it is, and why it can't serve ("" when it can)."""

    name: str
    fault: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.fault or 'ok'}"


@dataclass(frozen=True, slots=True)
class Pulse:
    """A loop that must turn. `last_turn` and the clock are seconds of one clock; older than `bound_s` is dead."""

    name: str
    last_turn: Callable[[], float]
    bound_s: float = 30.0

    def check(self, now: float) -> Check:
        """Whether it turned lately."""
        age = now - self.last_turn()
        return Check(self.name, "" if age <= self.bound_s else f"has not turned for {age:.0f} s")


@dataclass(frozen=True, slots=True)
class Health:
    """`live`: this process itself, which a restart mends. `ready`: also what it depends on, which one does not."""

    pulses: Sequence[Pulse]
    checks: Callable[[], Sequence[Check]]
    clock: Callable[[], float]

    def live(self) -> Sequence[Check]:
        """One check per loop."""
        now = self.clock()
        return [pulse.check(now) for pulse in self.pulses]

    def ready(self) -> Sequence[Check]:
        """The loops and the dependencies; a worker whose loop is dead takes nothing either."""
        return [*self.live(), *self.checks()]
