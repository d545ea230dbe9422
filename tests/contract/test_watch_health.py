"""/livez and /readyz of a real worker while its services go and come back: unready, alive, and healed by itself."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.place import DEADLINE_S, Place, placed
from worker.local import Stack, Token


@pytest.fixture
def place(own_stack: Stack, softhsm: Token, tmp_path: Path) -> Place:
    return placed(tmp_path, own_stack.kafka.bootstrap, own_stack.postgres.create_database("watched"), softhsm, "w")


def unready(place: Place, because: str) -> None:
    """Until /readyz says why; the process itself is well all the while."""
    until = time.monotonic() + DEADLINE_S
    while True:
        status, said = place.fetch("/readyz")
        if status == 503 and because in said:
            break
        assert time.monotonic() < until, f"{said}{place.log()}"
        time.sleep(0.05)
    status, said = place.fetch("/livez")
    assert status == 200, f"a restart would not mend it: {said}"


def test_a_worker_tells_what_it_misses(place: Place, own_stack: Stack) -> None:
    place.keyriver("init ann bob")
    worker = place.start("run", "--lanes", "control,interactive")
    outages: list[tuple[str, Callable[[], None], Callable[[], None]]] = [
        ("store: ", own_stack.postgres.kill, own_stack.postgres.start),
        ("lane interactive: waits for its group's partitions", own_stack.kafka.kill, own_stack.kafka.start),
    ]
    try:
        place.until_ready(1)
        for because, away, back in outages:
            away()
            unready(place, because)
            back()
            place.until_ready(1)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(DEADLINE_S) == 0, place.log()
    finally:
        worker.kill()
        worker.wait()
