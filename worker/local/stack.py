"""The stack as a whole: up, down and status, for one data directory, from any process."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from worker.local import kryoptic, softhsm
from worker.local.kafka import Kafka
from worker.local.parts import Say, silent
from worker.local.postgres import Postgres
from worker.local.token import Token


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One line of `status`: the part, whether it serves, where it is (no secrets)."""

    name: str
    ready: bool
    where: str


@dataclass(frozen=True, slots=True)
class Stack:
    """The parts under `folder`; making this value starts nothing."""

    folder: Path
    say: Say = silent

    @classmethod
    def up(cls, folder: Path | None = None, say: Say = silent) -> "Stack":
        """Bring everything up that is not up; safe to call again and from several processes at once.

        If a part is missing or fails (or Ctrl-C comes), what this call started is stopped again.
        """
        stack = cls((folder or default_folder()).resolve(), say)
        with stack._locked(), ExitStack() as undo:
            for part in (stack.kafka, stack.postgres):
                if part.process.pid() is None:
                    undo.callback(part.stop)
                part.start()
            softhsm.token(stack.token_folder)
            undo.pop_all()
        say(f"token: ready in {stack.token_folder}")
        return stack

    def down(self) -> None:
        """Stop everything, whoever started it; the data stays."""
        if not self.folder.exists():
            return
        with self._locked():
            self.say("stopping Kafka and Postgres")
            self.kafka.stop()
            self.postgres.stop()

    def wipe(self) -> None:
        """Stop everything and remove the data, for good."""
        self.down()
        self.postgres.wipe()
        shutil.rmtree(self.folder, ignore_errors=True)

    def status(self) -> tuple[PartStatus, ...]:
        """What is up. Starts and makes nothing."""
        if not self.folder.exists():
            return tuple(PartStatus(name, False, "never started here") for name in ("Kafka", "Postgres", "token"))
        return (
            PartStatus("Kafka", self.kafka.serving(), self.kafka.bootstrap),
            PartStatus("Postgres", self.postgres.serving(), self.postgres.address()),
            PartStatus("token", self.token.exists(), str(self.token_folder)),
            PartStatus("kryoptic", self.kryoptic is not None, str(self.kryoptic or kryoptic.CURE)),
        )

    def ready(self) -> bool:
        """Whether Kafka, Postgres and the token all serve."""
        return self.folder.exists() and self.kafka.serving() and self.postgres.serving() and self.token.exists()

    @property
    def kafka(self) -> Kafka:
        """The broker: `bootstrap`, and `start`, `stop`, `kill` for fault tests."""
        return Kafka(self.folder / "kafka", self.say)

    @property
    def postgres(self) -> Postgres:
        """The server: `dsn(database)`, `create_database`, and `start`, `stop`, `kill` for fault tests."""
        return Postgres(self.folder / "postgres", self.say)

    @property
    def token_folder(self) -> Path:
        """Where the SoftHSM2 token is."""
        return self.folder / "token"

    @property
    def token(self) -> Token:
        """The SoftHSM2 token: module, environment, label, PIN file."""
        return softhsm.described(self.token_folder)

    @property
    def kryoptic(self) -> Path | None:
        """The module of the second token, or None when this machine has none."""
        return kryoptic.module()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One command at a time on this data directory."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def default_folder() -> Path:
    """KEYRIVER_LOCAL, or `.keyriver` in the current folder."""
    return Path(os.environ.get("KEYRIVER_LOCAL") or ".keyriver").resolve()
