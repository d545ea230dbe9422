"""The token as one patient: its login, its epoch, the gate that every batch passes, and the healer.

The anchor session holds the login for life (closing a session that logged in logs everybody out); the keeper session
owns all session keys. When a canary finds the device at fault the gate closes, the batches inside drain, and the healer
logs in again on fresh sessions. Only when that does not help, and nobody is inside, does it finalise and initialise:
with calls in flight SoftHSM2 crashes there (FACTS section 2).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Condition, Thread
from time import monotonic, sleep

from worker.edges.hsm import templates
from worker.edges.hsm.aside import Aside
from worker.edges.hsm.binding import Library, TokenInfo
from worker.edges.hsm.ck import (
    CKF_USER_PIN_COUNT_LOW,
    CKF_USER_PIN_FINAL_TRY,
    CKF_USER_PIN_LOCKED,
    CKM_AES_KEY_GEN,
    CKR_TOKEN_NOT_PRESENT,
    CKR_USER_ALREADY_LOGGED_IN,
    Blame,
    CkError,
)
from worker.edges.hsm.config import HsmConfig, Observer, TokenState
from worker.edges.hsm.locks import module_lock
from worker.edges.hsm.probe import Abilities, TokenLacks, probe
from worker.edges.hsm.session import Session
from worker.model.hsm import Purpose
from worker.ports import TokenUnavailable

_PIN_FLAGS = CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED
_PATIENCE_S = 5.0
_OWN_SESSIONS = 2
"""The anchor and the keeper."""
_CANARY_ID = bytes(templates.KEY_ID_BYTES)
_CANARY_NONCE, _CANARY_TEXT = bytes(12), b"keyriver canary"


class PinRefused(TokenUnavailable):
    """The PIN is wrong, locked, or somebody has just given a wrong one; no login is tried again."""


class Away(Exception):
    """The device is at fault; what is undone may be tried again when the gate opens."""


class Device:
    """One token in one module. Thread-safe; `start` first, `stop` last."""

    def __init__(self, config: HsmConfig, library: Library, observer: Observer) -> None:
        self._config, self._library, self._observer = config, library, observer
        self.fleet = config.fleet
        self._gate = Condition()
        self._inside = 0
        self._state = TokenState.HEALING
        self._healer = Thread(target=self._heal_for_ever, name="hsm-healer", daemon=True)
        self.epoch = 0
        """Grows with every login; handles of another epoch are never used, nor destroyed."""
        self.aside = Aside()
        """For what takes the token seconds."""
        self.info: TokenInfo
        self.keeper: Session
        self.abilities: Abilities
        self._anchor: Session
        self._canary: int

    # The gate.

    @property
    def state(self) -> TokenState:
        """What is thought of the token just now."""
        return self._state

    @contextmanager
    def inside(self, deadline: float) -> Iterator[int | None]:
        """Pass the gate and stay inside: the epoch, or None when it did not open before `deadline` (monotonic)."""
        with self._gate:
            self._gate.wait_for(lambda: self._state is TokenState.READY, max(0.0, deadline - monotonic()))
            passed = self._state is TokenState.READY
            self._inside += passed
            self._observer.sessions(self._inside)
        try:
            yield self.epoch if passed else None
        finally:
            with self._gate:
                self._inside -= passed
                self._observer.sessions(self._inside)
                self._gate.notify_all()

    def distrust(self, detail: str) -> None:
        """Close the gate and wake the healer; of many callers the first counts."""
        with self._gate:
            if self._state is TokenState.READY:
                self._turn(TokenState.HEALING, detail)

    def _turn(self, state: TokenState, detail: str) -> None:
        self._state = state
        self._observer.token(state, detail)
        self._gate.notify_all()

    # What a thread inside may ask.

    @property
    def module(self) -> Path:
        """The module's file, which is also the lock of all processes here that use it."""
        return self._config.module

    def open_session(self) -> Session:
        """A new session of the logged-in application."""
        return Session(self._library, self.info.slot)

    def canary(self, session: Session) -> None:
        """Encrypt with a key that can't be at fault. Raises `CkError` when the device is."""
        session.encrypt(self._canary, _CANARY_NONCE, b"", _CANARY_TEXT)

    # Life.

    def start(self) -> None:
        """Initialise and log in, again and again until `start_timeout_s`: SoftHSM2 fails when many start at once.

        Raises `PinRefused`, `TokenUnavailable`, or `TokenLacks` naming the mechanism.
        """
        until = monotonic() + self._config.start_timeout_s
        while True:
            try:
                with module_lock(self._config.module):
                    self._library.initialize()
                    self._connect()
                break
            except (PinRefused, TokenLacks):
                self._library.finalize()
                raise
            except CkError as error:
                with suppress(CkError):
                    self._library.finalize()
                if monotonic() > until:
                    raise TokenUnavailable(str(error)) from error
                # Not a secret: it spreads the starts of several processes.
                sleep(random.uniform(0.05, 0.3))  # noqa: S311
        with self._gate:
            self._turn(TokenState.READY, "started")
        self._healer.start()

    def stop(self) -> None:
        """Close every session and finalise. The caller has stopped its threads; with a hung one nothing is touched."""
        with self._gate:
            self._turn(TokenState.CLOSED, "closed")
        self._healer.join(timeout=_PATIENCE_S)
        if self._inside:
            return
        with suppress(CkError):
            self._library.call("C_CloseAllSessions", self.info.slot)
        with suppress(CkError):
            self._library.finalize()

    def _connect(self) -> None:
        self.info = self._find()
        if self.info.flags & _PIN_FLAGS:
            raise PinRefused("a wrong PIN was given to this token: log in once by hand, then restart")
        if 0 < self.info.max_sessions < self._config.sessions + _OWN_SESSIONS:
            raise TokenLacks(
                f"hsm sessions: the token allows {self.info.max_sessions}, of which {_OWN_SESSIONS} are kept"
            )
        anchor = self.open_session()
        try:
            anchor.login(self._config.pin.reveal())
        except CkError as error:
            if error.blame is Blame.PIN:
                raise PinRefused(str(error)) from None
            if error.code != CKR_USER_ALREADY_LOGGED_IN:
                raise
        self._anchor, self.keeper = anchor, self.open_session()
        self.epoch += 1
        self.abilities = probe(self._library, self.info.slot, self.keeper)
        template = templates.kek(Purpose.WRAPS_DEKS, _CANARY_ID, self.abilities.mechanisms(Purpose.WRAPS_DEKS))
        self._canary = self.keeper.generate(CKM_AES_KEY_GEN, template)
        self.canary(self.keeper)

    def _find(self) -> TokenInfo:
        wanted = self._config
        for token in self._library.tokens():
            if wanted.label in ("", token.label) and wanted.serial in ("", token.serial):
                return token
        raise CkError(f"no token with label {wanted.label!r} serial {wanted.serial!r}", CKR_TOKEN_NOT_PRESENT)

    # The healer.

    def _heal_for_ever(self) -> None:
        while True:
            with self._gate:
                self._gate.wait_for(lambda: self._state is not TokenState.READY and not self._inside)
                if self._state is not TokenState.HEALING:
                    return
            self._heal()

    def _heal(self) -> None:
        pause = 0.02
        while self._state is TokenState.HEALING:
            try:
                self._revive()
            except PinRefused as refused:
                with self._gate:
                    self._turn(TokenState.PIN_REFUSED, str(refused))
            except Exception as error:  # noqa: BLE001 - whatever it is, the gate stays shut and the healer alive
                self._observer.token(TokenState.HEALING, str(error))
                sleep(pause)
                pause = min(2.0, pause * 2)
            else:
                with self._gate:
                    if self._state is TokenState.HEALING:
                        self._turn(TokenState.READY, f"healed, epoch {self.epoch}")

    def _revive(self) -> None:
        with suppress(CkError):
            self._library.call("C_CloseAllSessions", self.info.slot)
        with module_lock(self._config.module):
            try:
                self._connect()
            except CkError:
                with suppress(CkError):
                    self._library.finalize()
                self._library.initialize()
                self._connect()
