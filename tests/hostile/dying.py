"""Workers with a defect that a record can trigger: the process ends at once, as by a crash in a native library."""

import os
import signal
from collections.abc import Mapping
from typing import Any

from tests import member
from worker.flow import events, river
from worker.flow.events import Event
from worker.model.records import Record

MARK = "x-kills"
READING, DECIDING = b"reading", b"deciding"


def born(env: Mapping[str, str], log_file: str, words: list[str]) -> None:
    """A worker's life, until it reads or decides a marked record."""
    read, decide = events.decode, vars(river)["decide"]

    def decode(record: Record) -> Event:
        _die_of(record, READING)
        return read(record)

    def decided(request: Any, *more: Any) -> Any:  # noqa: ANN401 - passed on as it came
        _die_of(request.record, DECIDING)
        return decide(request, *more)

    vars(events)["decode"], vars(river)["decide"] = decode, decided
    member.born(env, log_file, words)


def _die_of(record: Record, when: bytes) -> None:
    if (MARK, when) in record.headers:
        os.kill(os.getpid(), signal.SIGKILL)
