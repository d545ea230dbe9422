"""The breaker as a value: a table of its life, and what holds for every history (hypothesis)."""

from hypothesis import given
from hypothesis import strategies as st

from worker.flow.breaker import Breaker, BreakerRules, Circuit

RULES = BreakerRules(failures=3, cool_s=1.0, longest_s=5.0)


def failed(times: int, at_s: float = 0.0) -> Breaker:
    breaker = Breaker(RULES)
    for _ in range(times):
        breaker = breaker.failed_at(at_s, trial=False)
    return breaker


def test_it_opens_after_failures_in_a_row() -> None:
    assert failed(2).circuit(0.0) is Circuit.CLOSED
    assert failed(3).circuit(0.0) is Circuit.OPEN
    assert failed(3).admit(0.99) is None


def test_a_success_in_between_counts_from_the_start() -> None:
    assert failed(2).succeeded().failed_at(0.0, trial=False).circuit(0.0) is Circuit.CLOSED


def test_half_open_lets_one_try() -> None:
    half = failed(3)
    assert half.circuit(1.0) is Circuit.HALF_OPEN
    trying = half.admit(1.0)
    assert trying is not None
    assert trying.trying
    assert trying.admit(1.0) is None


def test_a_trial_decides() -> None:
    trying = failed(3).admit(1.0)
    assert trying is not None
    assert trying.succeeded().circuit(1.0) is Circuit.CLOSED
    again = trying.failed_at(1.0, trial=True)
    assert (again.circuit(2.99), again.circuit(3.0)) == (Circuit.OPEN, Circuit.HALF_OPEN)
    assert trying.given_up(trial=True).admit(1.0) is not None
    assert trying.given_up(trial=False) == trying


def test_it_cools_twice_as_long_up_to_a_bound() -> None:
    breaker, now_s, pauses = failed(3), 0.0, []
    for _ in range(5):
        pauses.append(breaker.until_s - now_s)
        now_s = breaker.until_s
        trying = breaker.admit(now_s)
        assert trying is not None
        breaker = trying.failed_at(now_s, trial=True)
    assert pauses == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_stragglers_do_not_open_it_again() -> None:
    opened = failed(3)
    assert opened.failed_at(0.9, trial=False) == opened


Step = tuple[str, float]
STEPS = st.lists(st.tuples(st.sampled_from(["call", "ok", "fail", "give up"]), st.floats(0, 3)), max_size=60)


@given(STEPS)
def test_for_every_history(steps: list[Step]) -> None:
    """At most one trial is out; nothing passes while it is open; it always lets a call pass again in time."""
    breaker, now_s, out = Breaker(RULES), 0.0, list[bool]()
    for do, seconds in steps:
        now_s += seconds
        circuit = breaker.circuit(now_s)
        if do == "call":
            admitted = breaker.admit(now_s)
            assert (admitted is None) is (circuit is Circuit.OPEN)
            if admitted is not None:
                assert admitted.trying is (circuit is Circuit.HALF_OPEN)
                breaker = admitted
                out.append(admitted.trying)
        elif out:
            trial = out.pop()
            match do:
                case "ok":
                    breaker = breaker.succeeded()
                    assert breaker.circuit(now_s) is Circuit.CLOSED
                case "fail":
                    breaker = breaker.failed_at(now_s, trial=trial)
                case _:
                    breaker = breaker.given_up(trial=trial)
        assert breaker.until_s <= now_s + RULES.longest_s
        assert breaker.trying <= (True in out)
    while out:
        breaker = breaker.given_up(trial=out.pop())
    assert breaker.admit(now_s + RULES.longest_s) is not None
