"""`keyriver local`: the one-machine stack, and the settings file with which every other command finds it."""

import os
import random
import socket
import tomllib
from contextlib import ExitStack, suppress
from dataclasses import asdict
from json import dumps
from pathlib import Path

from cyclopts import App

from worker.cli.officer import Json
from worker.cli.output import say, show_json, show_table, working
from worker.local import Stack, default_folder
from worker.settings import LOCAL_CONFIG

PROCESSES = 8
local = App(
    name="local",
    help="""A real Kafka, Postgres and PKCS#11 token on this machine, without Docker; for development and the demo.

    They live in `.keyriver` of the current folder (or KEYRIVER_LOCAL), on ports of their own.""",
    help_format="markdown",
)


@local.command
def up() -> None:
    """Start what is not running and write the settings file; safe to run again.

    ```
    keyriver local up && keyriver init ann bob && keyriver run
    ```
    """
    stack = Stack.up(default_folder(), say)
    path = write_config(stack)
    say(f"settings: {path}")
    if path != LOCAL_CONFIG.resolve():
        say(f"  → export KEYRIVER_CONFIG={path}")


@local.command
def down() -> None:
    """Stop everything; the data stays."""
    with working("stopping"):
        Stack(default_folder(), say).down()


@local.command
def status(*, json: Json = False) -> int:
    """Show what is running; exit code 1 if something is not."""
    stack = Stack(default_folder())
    parts = stack.status()
    if json:
        show_json([asdict(part) for part in parts])
    else:
        heads = ("PART", "STATE", "WHERE")
        show_table(heads, [(part.name, "ready" if part.ready else "not up", part.where) for part in parts])
    return 0 if stack.ready() else 1


def write_config(stack: Stack, fleet: str = "dev-local") -> Path:
    """Write the TOML file for this stack; its path. The DSN goes to a file of its own, of mode 0400."""
    path = stack.folder / LOCAL_CONFIG.name
    dsn = stack.folder / "dsn"
    _write(dsn, stack.postgres.dsn(), 0o400)
    token = stack.token
    told = {
        "fleet": fleet,
        "kafka_bootstrap": stack.kafka.bootstrap,
        "postgres_dsn_file": str(dsn),
        "hsm_module": str(token.module),
        "hsm_label": token.label,
        "hsm_pin_file": str(token.pin_file),
        "identities": str(stack.folder / "identities"),
        "http_port": _http_port(path),
    }
    text = "".join(f"{name} = {dumps(value)}\n" for name, value in told.items())
    text += "\n[hsm_env]\n" + "".join(f"{name} = {dumps(value)}\n" for name, value in token.env.items())
    _write(path, f"# Written by `keyriver local up`.\n{text}", 0o600)
    return path


def adjacent(count: int) -> int:
    """The first of so many free ports in a row, below the range from which the system takes ports for connections."""
    while True:
        base = random.randrange(20_000, 30_000)  # noqa: S311 - any will do
        with ExitStack() as held, suppress(OSError):
            for port in range(base, base + count):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return base


def _http_port(path: Path) -> int:
    """The one that was chosen before, or a new one, with room for some processes."""
    if path.exists():
        port = tomllib.loads(path.read_text()).get("http_port")
        if isinstance(port, int):
            return port
    return adjacent(PROCESSES)


def _write(path: Path, text: str, mode: int) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "w") as file:
        file.write(text)
    part.replace(path)
