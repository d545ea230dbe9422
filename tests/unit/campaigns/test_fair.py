"""Fairness, purely: the pace of bulk work on every history of slow and fast answers, and whose turn it is."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.chain import fair
from worker.chain.fair import FULL, HOLD, SLOWEST, STEP, Pace

LIMIT = 50
LOOKS = st.lists(st.integers(0, 10 * LIMIT), max_size=200)
AT_WORK = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 30).map(lambda n: UUID(int=n))), unique=True)


def followed(looks: list[int], pace: Pace | None = None) -> list[Pace]:
    found = [pace or Pace()]
    for p99 in looks:
        found.append(fair.after(found[-1], p99, LIMIT))
    return found


def test_slow_answers_halve_it_and_it_recovers_step_by_step() -> None:
    slow = followed([LIMIT + 1])[-1]
    assert slow == Pace(0.5, HOLD)
    assert [one.share for one in followed([LIMIT] * 9, slow)] == [0.5 + n * STEP for n in range(9)] + [FULL]


def test_one_slow_spell_is_answered_once() -> None:
    assert [one.share for one in followed([LIMIT + 1] * 5)] == [1, 0.5, 0.5, 0.5, 0.5, 0.25]


def test_without_a_limit_or_an_answer_nothing_slows_it_down() -> None:
    assert fair.after(Pace(), 10**6, 0) == Pace()
    assert fair.after(Pace(), 0, LIMIT) == Pace()


@given(LOOKS)
def test_it_stays_between_its_bounds_and_never_falls_by_more_than_half(looks: list[int]) -> None:
    found = followed(looks)
    for before, now, p99 in zip(found, found[1:], looks, strict=False):
        assert SLOWEST <= now.share <= FULL
        assert now.share >= before.share / 2
        assert (now.share >= before.share) if p99 <= LIMIT else (now.share <= before.share)


@given(LOOKS)
def test_whatever_was_it_recovers_and_it_does_back_off(looks: list[int]) -> None:
    last = followed(looks)[-1]
    assert followed([1] * 16, last)[-1].share == FULL
    assert followed([LIMIT + 1] * (HOLD + 1) * 6, last)[-1].share == SLOWEST


@given(st.integers(1, 100), st.integers(0, 8), st.floats(SLOWEST, FULL))
def test_all_processes_together_keep_to_the_share(share: int, processes: int, pace: float) -> None:
    one = fair.part(Pace(pace), share, processes)
    if share < 100:
        assert max(1, processes) * one <= share / 100 + 1e-9
    else:
        assert one == pace  # each as fast as it can


@given(st.floats(0.001, 10), st.floats(0, 20), st.floats(0.001, 0.999), st.integers(1, 5))
def test_all_lanes_together_keep_to_their_part(spent: float, elapsed: float, of_token: float, lanes: int) -> None:
    whole = max(elapsed, spent) + fair.rest_s(spent, max(elapsed, spent), of_token, lanes)
    assert whole >= lanes * spent / of_token - 1e-9
    assert fair.rest_s(spent, elapsed, FULL, lanes) == 0


@given(AT_WORK)
def test_every_tenant_has_one_turn_and_every_campaign_its_turn(at_work: list[tuple[str, UUID]]) -> None:
    served: dict[str, UUID] = {}
    seen: set[tuple[str, UUID]] = set()
    for _ in range(fair.rounds(at_work)):
        turn = fair.turns(at_work, served)
        assert [tenant for tenant, _ in turn] == sorted({tenant for tenant, _ in at_work})
        seen.update(turn)
        served.update(turn)
    assert seen == set(at_work)


@pytest.mark.parametrize("others", [1, 100])
def test_a_tenant_with_many_campaigns_has_no_more_turns(others: int) -> None:
    at_work = [("big", UUID(int=number)) for number in range(1, others + 1)] + [("small", UUID(int=1000))]
    assert [tenant for tenant, _ in fair.turns(at_work, {})] == ["big", "small"]
    assert fair.rounds(at_work) == others
    assert fair.rounds([]) == 0
