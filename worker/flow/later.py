"""What failed is tried again later and later, so that what can't be done holds up nothing that can."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field

from worker.flow.clock import boottime

SOONEST_S = 1.0
LATEST_S = 60.0
MOST = 10_000
"""Names that are remembered; the oldest go first, and are then tried at once."""


@dataclass(slots=True)
class Later:
    """Of this process only: another one that takes over tries everything once, which is no harm."""

    clock: Callable[[], float] = boottime
    _until: dict[Hashable, tuple[float, float]] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many may have to be passed over; what nobody asked for any more is forgotten."""
        now = self.clock()
        self._until = {name: (at, pause) for name, (at, pause) in self._until.items() if now < at + LATEST_S}
        return len(self._until)

    def waits(self, name: Hashable) -> bool:
        """Whether it is too soon to try this again."""
        until, _ = self._until.get(name, (0.0, 0.0))
        return self.clock() < until

    def tried(self, names: Iterable[Hashable], done: Iterable[Hashable]) -> None:
        """All that was tried, and what of it succeeded."""
        succeeded = set(done)
        for name in names:
            _, pause = self._until.pop(name, (0.0, SOONEST_S / 2))
            if name not in succeeded:
                pause = min(2 * pause, LATEST_S)
                self._until[name] = (self.clock() + pause, pause)
        while len(self._until) > MOST:
            del self._until[next(iter(self._until))]
