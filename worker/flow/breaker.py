"""A circuit breaker as a value: closed, open, half-open. Pure; the clock is passed in (monotonic seconds).

Closed: everything may pass. After `failures` in a row it opens: nothing passes for a while. Then one call may try
(half-open): if it succeeds the breaker closes, if it fails the breaker opens for twice as long as before, at most for
`longest_s`.
"""

from dataclasses import dataclass, replace
from enum import StrEnum


class Circuit(StrEnum):
    """What a breaker does with the next call."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When to open and for how long: `cool_s` seconds at first, `longest_s` at most."""

    failures: int = 5
    cool_s: float = 1.0
    longest_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """`failed` counts failures in a row; `opened` how often in a row it opened; `trying`: one call is out."""

    rules: BreakerRules = BreakerRules()
    failed: int = 0
    opened: int = 0
    until_s: float = 0.0
    trying: bool = False

    def circuit(self, now_s: float) -> Circuit:
        """What it is at this moment."""
        if not self.opened:
            return Circuit.CLOSED
        return Circuit.OPEN if self.trying or now_s < self.until_s else Circuit.HALF_OPEN

    def admit(self, now_s: float) -> "Breaker | None":
        """The breaker with one more call out, which ends in one of the three below; None: it may not pass.

        The call is the trial if `trying` is set in what is returned.
        """
        match self.circuit(now_s):
            case Circuit.CLOSED:
                return self
            case Circuit.HALF_OPEN:
                return replace(self, trying=True)
            case Circuit.OPEN:
                return None

    def succeeded(self) -> "Breaker":
        """The call was answered: closed, whatever was before."""
        return Breaker(self.rules)

    def given_up(self, *, trial: bool) -> "Breaker":
        """Whoever called stopped waiting: nothing is known. After a trial the next may try."""
        return replace(self, trying=False) if trial else self

    def failed_at(self, now_s: float, *, trial: bool) -> "Breaker":
        """The call was not answered. Calls that were out when the breaker opened do not open it again."""
        if self.opened and not trial:
            return self
        failed = self.failed + 1
        if not self.opened and failed < self.rules.failures:
            return replace(self, failed=failed)
        cool_s = min(self.rules.cool_s * 2.0 ** min(self.opened, 30), self.rules.longest_s)
        return Breaker(self.rules, failed, self.opened + 1, now_s + cool_s)
