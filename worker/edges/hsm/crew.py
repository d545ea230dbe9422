"""One pool thread's share of the token: its session, and the judgement of an operation that failed (SECURITY S9)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from time import sleep

from worker.edges.hsm.binding import Attribute
from worker.edges.hsm.ck import CKR_SESSION_COUNT, Blame, CkError
from worker.edges.hsm.device import Away, Device
from worker.edges.hsm.session import Session
from worker.model.hsm import Fault, HsmFault, HsmResult

_SESSION_PAUSE_S = 0.05
_FINAL = {Blame.BYTES: Fault.BAD_CIPHERTEXT, Blame.ABILITY: Fault.UNSUPPORTED}


class Crew:
    """Belongs to one thread; `board` comes first in every stay inside the gate."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.session: Session
        self._epoch = -1

    def board(self, epoch: int) -> None:
        """Have a session of this login epoch. Raises `Away`."""
        if epoch != self._epoch:
            self._renew()
            self._epoch = epoch

    def _renew(self) -> None:
        try:
            self.session = self.device.open_session()
        except CkError as error:
            self._epoch = -1
            if error.code == CKR_SESSION_COUNT:
                # Other processes hold the token's last sessions: nothing is broken, and a login would not help.
                sleep(_SESSION_PAUSE_S)
            else:
                self.device.distrust(str(error))
            raise Away(str(error)) from error

    def confirm(self, error: CkError) -> None:
        """Find the fault behind an unsure code: afterwards the device is well and the session is fresh, or `Away`.

        The session is replaced, because the failed call may have left it lost or in the middle of an operation.
        """
        with suppress(AttributeError):
            self.session.close()
        self._renew()
        self._check(str(error))

    def _check(self, cause: str) -> None:
        try:
            self.device.canary(self.session)
        except CkError as dead:
            self.device.distrust(f"{cause}, canary {dead}")
            raise Away(cause) from dead

    def find(self, wanted: Iterable[Attribute]) -> list[int]:
        """Handles of objects that match. Raises `CkError`, or `Away`.

        That there is none is believed only when the canary sings: to a session that was logged out while it was opened
        every private object is missing.
        """
        found = self.session.find(wanted)
        if not found:
            self._check("nothing found")
        return found

    def again(self, error: CkError, blamed: Fault, call: Callable[[], HsmResult]) -> HsmResult:
        """Judge a failed operation; an unsure one is tried once more after the canary, then `blamed`. Raises `Away`."""
        if error.blame in _FINAL:
            return HsmFault(_FINAL[error.blame], str(error))
        self.confirm(error)
        try:
            return call()
        except CkError as second:
            return HsmFault(_FINAL.get(second.blame, blamed), str(second))
