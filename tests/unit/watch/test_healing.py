"""What heals by itself wakes nobody; what does not heal is heard."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from aiokafka.errors import GroupAuthorizationFailedError, GroupCoordinatorNotAvailableError, KafkaError

from worker.watch import set_up_logs
from worker.watch.healing import PATIENCE_S, CoordinatorSoon

COORDINATOR = logging.getLogger("aiokafka.consumer.group_coordinator")
POOL = logging.getLogger("asyncpg.pool")
ASKED = "Group Coordinator Request failed: %s"


class Out:
    """The log, line by line."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def lines(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def out() -> Iterator[Out]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    made = Out()
    set_up_logs("info", made.stream, pretty=False)
    yield made
    for log in (COORDINATOR, POOL):
        log.filters.clear()
    root.handlers[:], level = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def test_a_coordinator_that_is_soon_there_is_no_error(out: Out) -> None:
    COORDINATOR.error(ASKED, GroupCoordinatorNotAvailableError())
    (line,) = out.lines()
    assert line["level"] == "info"
    assert "GroupCoordinatorNotAvailableError" in line["message"]


def test_who_hears_only_warnings_does_not_hear_it(out: Out) -> None:
    set_up_logs("warning", out.stream, pretty=False)
    COORDINATOR.error(ASKED, GroupCoordinatorNotAvailableError())
    assert out.lines() == []


@pytest.mark.parametrize("error", [GroupAuthorizationFailedError("g"), KafkaError("no leader")])
def test_any_other_answer_stays_an_error(out: Out, error: KafkaError) -> None:
    COORDINATOR.error(ASKED, error)
    COORDINATOR.error("Heartbeat failed: %r", GroupCoordinatorNotAvailableError())
    COORDINATOR.error("plain")
    assert [line["level"] for line in out.lines()] == ["error"] * 3


def test_a_coordinator_that_stays_away_is_an_error(out: Out) -> None:
    now = [0.0]
    COORDINATOR.filters[:] = [CoordinatorSoon(lambda: now[0])]
    for moment in (0.0, PATIENCE_S - 0.1, PATIENCE_S, PATIENCE_S + 50, PATIENCE_S + 500):
        now[0] = moment
        COORDINATOR.error(ASKED, GroupCoordinatorNotAvailableError())
    assert [line["level"] for line in out.lines()] == ["info", "info", "error", "error", "info"]


def test_a_pool_that_tries_again_says_so_in_one_line_each_time(out: Out) -> None:
    for _ in range(2):
        error = ConnectionRefusedError(111, "refused")
        POOL.warning("Failed to restore the pool connection floor; retrying", exc_info=error)
    first, second = out.lines()
    assert first["message"] == "Failed to restore the pool connection floor; retrying: ConnectionRefusedError"
    assert first["level"] == second["level"] == "warning"
    assert "exception" not in first


def test_a_failure_of_the_pool_itself_keeps_its_trace(out: Out) -> None:
    POOL.error("broken", exc_info=RuntimeError("defect"))
    (line,) = out.lines()
    assert line["exception"] == "RuntimeError: defect"
