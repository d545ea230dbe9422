"""Named points between the stages at which a test makes the process die, freeze or fail (D11).

    KEYRIVER_FAILPOINTS = point *( "," point )
    point               = name "=" action [ "@" hit ]   ; action: kill | freeze | error; at the hit-th pass, default 1

Read once at start; `settings` refuses it outside development fleets. Without it a point costs one dictionary look-up.
"""

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass

VARIABLE = "KEYRIVER_FAILPOINTS"
NAMES = ("caught", "opened", "known", "decided", "executed", "settled", "answered", "published", "committed")
OF_CAMPAIGNS = ("leased", "rewrapped", "sliced")
"""Between the steps of a slice."""

DUE_NAMES = ("due-known", "due-executed", "due-settled")
"""Of what falls due by itself; `due-executed` only where a token object is destroyed."""


OF_KEYSTORES = ("outside-made", "outside-sealed", "outside-brought")
"""Of what is prepared with a keystore: before it is asked, after it wrapped a key, after it gave one back."""


class FailpointError(Exception):
    """The error that a failpoint was told to raise."""


@dataclass(slots=True)
class Failpoint:
    """One armed point: what happens at which pass."""

    action: str
    left: int


def parse(text: str) -> dict[str, Failpoint]:
    """Read the variable. Raises `ValueError` naming what is wrong."""
    points: dict[str, Failpoint] = {}
    known = NAMES + DUE_NAMES + OF_CAMPAIGNS + OF_KEYSTORES
    for part in filter(None, text.split(",")):
        name, _, rest = part.partition("=")
        action, _, hit = rest.partition("@")
        if name not in known or action not in {"kill", "freeze", "error"} or not (hit or "1").isdigit():
            raise ValueError(
                f"{VARIABLE}: {part!r} is not name=kill|freeze|error[@hit] with a name of {', '.join(known)}"
            )
        points[name] = Failpoint(action, int(hit or "1"))
    return points


class Failpoints:
    """The armed points of this process."""

    def __init__(self, points: Mapping[str, Failpoint]) -> None:
        self._points = points

    def reach(self, name: str) -> None:
        """Pass the point, or don't."""
        point = self._points.get(name)
        if point is None:
            return
        point.left -= 1
        if point.left != 0:
            return
        if point.action == "error":
            raise FailpointError(name)
        os.kill(os.getpid(), signal.SIGKILL if point.action == "kill" else signal.SIGSTOP)


NONE = Failpoints({})
