"""What a program may choose about its client."""

from dataclasses import dataclass, field

from worker.client.calls import Pace

LONGEST_S = 600.0
"""The contract's longest deadline."""


@dataclass(frozen=True, slots=True)
class Options:
    """Seconds and counts. `window_s`: how long a single item waits for others to share its request; 0 sends at once.

    `patience_s`: how long to wait for a certificate or an intake key that is not known yet.
    """

    prefix: str = "keyriver"
    timeout_s: float = 30.0
    window_s: float = 0.001
    most_items: int = 1000
    at_once: int = 8
    patience_s: float = 5.0
    pace: Pace = field(default_factory=Pace)


DEFAULTS = Options()
