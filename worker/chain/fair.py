"""Who has the next turn, and how fast bulk work may go: pure, so that fairness can be tried on every history.

Bulk work is slowed down as a network's sender is: too slow interactive answers halve its pace, good ones let it recover
step by step. Tenants of campaigns take turns, whatever the number of their campaigns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from worker.model.campaign_bodies import FULL_SHARE

FULL = 1.0
SLOWEST = 1 / 8
"""Bulk work never stands still: it is owed to somebody, too, and answers may be slow for other reasons."""
STEP = 1 / 16
HOLD = 3
"""Looks after a halving at which slow answers may still be those from before it."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Of full speed; `hold`: at so many looks it is not halved again."""

    share: float = FULL
    hold: int = 0


def after(pace: Pace, p99_ms: int, limit_ms: int) -> Pace:
    """The pace after one look at how long interactive answers take (0: there are none); a limit of 0 is none."""
    hold = max(0, pace.hold - 1)
    if not limit_ms or p99_ms <= limit_ms:
        return Pace(min(FULL, pace.share + STEP), hold)
    if pace.hold:
        return Pace(pace.share, hold)
    return Pace(max(SLOWEST, pace.share / 2), HOLD)


def part(pace: Pace, share: int, processes: int) -> float:
    """Of the token's time, what one of so many bulk processes may take: together they keep to the share (percent).

    At full share the token is nobody's to divide: every process goes as fast as its pace lets it.
    """
    whole = FULL if share >= FULL_SHARE else share / FULL_SHARE / max(1, processes)
    return whole * pace.share


def rest_s(spent_s: float, elapsed_s: float, of_token: float, at_once: int) -> float:
    """How long one of so many lanes rests that was `spent_s` on the token in `elapsed_s`: together they keep to it."""
    return 0.0 if of_token >= FULL else max(0.0, spent_s * at_once / of_token - elapsed_s)


def turns(at_work: Sequence[tuple[str, UUID]], served: Mapping[str, UUID]) -> list[tuple[str, UUID]]:
    """One campaign of each tenant: the one after the tenant's last, around and around. Tenants in their order."""
    of_tenant: dict[str, list[UUID]] = {}
    for tenant, id_ in at_work:
        of_tenant.setdefault(tenant, []).append(id_)
    return [(tenant, _next(sorted(ids), served.get(tenant))) for tenant, ids in sorted(of_tenant.items())]


def rounds(at_work: Sequence[tuple[str, UUID]]) -> int:
    """After so many turns every campaign had one."""
    tenants = [tenant for tenant, _ in at_work]
    return max((tenants.count(tenant) for tenant in set(tenants)), default=0)


def _next(ids: Sequence[UUID], last: UUID | None) -> UUID:
    return next((id_ for id_ in ids if last is not None and id_ > last), ids[0])
