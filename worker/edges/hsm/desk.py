"""One thread at one customer's token; and the customer's module, loaded once for all its tokens.

Nobody waits for the thread for long: a call that never returns takes nothing with it but this desk. One session holds
the login, as in `device`; another works, and is replaced whenever it may be spoilt.
"""

from __future__ import annotations

import asyncio
from _thread import start_new_thread
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any, Final, TypeVar

from worker.edges.hsm.binding import Library, TokenInfo
from worker.edges.hsm.ck import (
    CKF_USER_PIN_COUNT_LOW,
    CKF_USER_PIN_FINAL_TRY,
    CKF_USER_PIN_LOCKED,
    CKR_TOKEN_NOT_PRESENT,
    CKR_USER_ALREADY_LOGGED_IN,
    Blame,
    CkError,
)
from worker.edges.hsm.config import Pin
from worker.edges.hsm.locks import module_lock
from worker.edges.hsm.session import Session
from worker.model.keystores import KeystoreForbidden, KeystoreUnreachable

T = TypeVar("T")
_PIN_FLAGS: Final = CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED
_PATIENCE_S: Final = 2.0
_SOUND: Final = frozenset({Blame.BYTES, Blame.ABILITY})


class CustomerModule:
    """A PKCS#11 module that is not the worker's own. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self._library: Library | None = None
        self._desks = 0

    def enter(self) -> Library:
        """Load it and initialise it for the first desk. Raises `OSError` or `CkError`."""
        with self._lock:
            if self._library is None:
                self._library = Library(self.path)
            self._library.initialize()
            self._desks += 1
            return self._library

    def leave(self) -> None:
        """The last desk finalises."""
        with self._lock:
            self._desks -= 1
            if self._desks == 0 and self._library is not None:
                with suppress(CkError):
                    self._library.finalize()

    def renew(self) -> None:
        """Finalise and initialise, if no other desk's call could be inside (modules crash there). Raises `CkError`."""
        with self._lock:
            if self._desks == 1 and self._library is not None:
                with suppress(CkError):
                    self._library.finalize()
                self._library.initialize()


class Desk:
    """Logs in when it is first needed. A PIN that was refused is not given again before a restart (S9)."""

    def __init__(self, module: CustomerModule, label: str, pin: Pin) -> None:
        self._module, self._label, self._pin = module, label, pin
        self._jobs: SimpleQueue[tuple[Callable[[Session], Any], Future[Any]] | None] = SimpleQueue()
        self._left: Future[None] | None = None
        self._library: Library | None = None
        self._anchor: Session | None = None
        self._session: Session | None = None
        self._refused = ""

    async def run(self, call: Callable[[Session], T]) -> T:
        """Run it at the desk, after what was asked before. Raises `KeystoreFault`, `CkError`, or its own error."""
        future: Future[T] = Future()
        self._jobs.put((call, future))
        if self._left is None:
            self._left = Future()
            start_new_thread(self._serve, (self._left,))
        return await asyncio.wrap_future(future)

    def stop(self) -> None:
        """Log out and leave, after what is under way. A thread that hangs is left alone. Blocks."""
        if self._left is not None:
            self._jobs.put(None)
            with suppress(TimeoutError):
                self._left.result(_PATIENCE_S)

    def _serve(self, left: Future[None]) -> None:
        while (job := self._jobs.get()) is not None:
            call, future = job
            if not future.set_running_or_notify_cancel():
                continue  # whoever asked has stopped waiting
            try:
                future.set_result(self._do(call))
            except Exception as error:  # noqa: BLE001 - carried to whoever asked
                future.set_exception(error)
        self._rise(logged_in=False)
        if self._library is not None:
            self._module.leave()
        left.set_result(None)

    def _do(self, call: Callable[[Session], T]) -> T:
        if self._refused:
            raise KeystoreForbidden(self._refused)
        try:
            if self._session is None:
                self._session = self._sit()
            return call(self._session)
        except CkError as error:
            if error.blame not in _SOUND:
                # The session may be lost, or in the middle of an operation; the login may be lost, too.
                self._rise(logged_in=self._is_logged_in())
            raise

    def _is_logged_in(self) -> bool:
        try:
            return self._anchor is not None and self._anchor.logged_in()
        except CkError:
            return False

    def _rise(self, *, logged_in: bool) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
        if self._anchor is not None and not logged_in:
            self._anchor.close()
            self._anchor = None

    def _sit(self) -> Session:
        if self._library is None:
            try:
                self._library = self._module.enter()
            except OSError as error:
                raise KeystoreUnreachable(f"the module can't be loaded: {error}") from None
        if self._anchor is None:
            with module_lock(self._module.path):
                try:
                    self._anchor = self._logged_in(self._library)
                except CkError:
                    self._module.renew()
                    self._anchor = self._logged_in(self._library)
        return Session(self._library, self._anchor.slot)

    def _logged_in(self, library: Library) -> Session:
        info = self._find(library)
        if info.flags & _PIN_FLAGS:
            raise KeystoreForbidden("a wrong PIN was given to this token: log in once by hand")
        anchor = Session(library, info.slot)
        try:
            anchor.login(self._pin.reveal())
        except CkError as error:
            if error.code == CKR_USER_ALREADY_LOGGED_IN:
                return anchor
            anchor.close()
            if error.blame is Blame.PIN:
                self._refused = f"{error}; it is not given again before a restart"
                raise KeystoreForbidden(self._refused) from None
            raise
        return anchor

    def _find(self, library: Library) -> TokenInfo:
        for token in library.tokens():
            if token.label == self._label:
                return token
        raise CkError(f"no token with label {self._label!r}", CKR_TOKEN_NOT_PRESENT)
