"""The table at the end of the demo: what the workers themselves counted in /metrics."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from worker.cli.demo_fleet import Fleet

_REQUESTS = "keyriver_batch_records_sum interactive"
_BATCHES = "keyriver_batch_records_count interactive"
_ITEMS = "keyriver_stage_items_total execute"
_HSM = "keyriver_hsm_operations_total"


@dataclass(frozen=True, slots=True)
class Figures:
    """One phase: records, seconds, and what the workers counted meanwhile."""

    name: str
    records: int
    seconds: float
    counted: Counter[str]

    def column(self) -> list[str]:
        """The cells below its name."""
        requests, batches, items = (self.counted[name] for name in (_REQUESTS, _BATCHES, _ITEMS))
        operations = sum(count for name, count in self.counted.items() if name.startswith(_HSM))
        return [
            f"{self.records:,}",
            f"{requests:,}",
            f"{items / max(requests, 1):.1f}",
            f"{batches:,}",
            f"{items / max(batches, 1):.1f}",
            f"{operations:,}",
            f"{self.seconds:.1f}",
        ]


class Clock:
    """Begins to count when it is made."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._begun = monotonic()
        self._before = fleet.counted()

    def figures(self, name: str, records: int) -> Figures:
        """The phase that ends now."""
        seconds = monotonic() - self._begun
        return Figures(name, records, seconds, self._fleet.counted() - self._before)


HEADS = (
    "records",
    "requests through Kafka",
    "records a request, on average",
    "batches in the workers",
    "records a batch, on average",
    "HSM operations",
    "seconds",
)


def table(phases: Sequence[Figures]) -> list[tuple[str, ...]]:
    """One row per figure, one column per phase."""
    return list(zip(HEADS, *[phase.column() for phase in phases], strict=True))
