"""`keyriver init`: the one command that writes to the store itself, because nobody is there yet who could sign."""

import time
from pathlib import Path

from cyclopts import App

from worker.app import found, note_backup
from worker.cli import identities
from worker.cli.config import load
from worker.cli.errors import Usage
from worker.cli.output import say, working
from worker.seal.identity import Identity
from worker.settings import Settings

OFFICERS = 2
init = App(name="init", help_format="markdown")


@init.default
async def begin(*officers: str, backup_recorded: bool = False) -> None:
    """Make a fleet: schema, topics, the fleet's keys in the token, and at least two officers by name.

    Safe to run again: what is there stays as it is, what is missing is made; a new release's schema is applied.

    ```
    keyriver init ann bob
    keyriver init --backup-recorded     # after the backup that init asks for
    ```

    Args:
        officers: Names of the first officers; two or more. Each gets an identity file of mode 0600.
        backup_recorded: Note that the token's fleet keys and the database were backed up just now.
    """
    settings = load(Settings)
    if backup_recorded:
        await note_backup(settings)
        say("noted: the fleet keys were backed up now")
        return
    if len(set(officers)) < OFFICERS:
        raise Usage("name at least two officers, as in `keyriver init ann bob`: many commands need a second one")
    kept: list[Path] = []

    def keep(identity: Identity) -> None:
        path = identities.path_of(settings.identities, identity.client)
        _move_aside(path)
        identities.write(path, identity)
        kept.append(path)

    with working("making schema, fleet keys, topics and officers"):
        await found(settings, officers, keep)
    _tell(settings, kept)


def _move_aside(path: Path) -> None:
    """A file of this name belongs to an init that did not come to its end, or to another fleet: keep it, elsewhere."""
    if path.exists():
        aside = path.with_name(f"{path.name}.{time.time_ns() // 1_000_000_000}")
        path.rename(aside)
        say(f"{path} was there already; it is {aside} now")


def _tell(settings: Settings, kept: list[Path]) -> None:
    say(f"fleet {settings.fleet}: schema, topics and fleet keys are there")
    for path in kept:
        say(f"officer's identity: {path}")
    if not kept:
        say("these officers were registered before; nothing new was written")
        return
    say(
        f"""
Back up now, before anything is encrypted:
  1. The token {settings.hsm_label or settings.hsm_serial}: objects keyriver/{settings.fleet}/* and all master keys,
     with the vendor's cloning or key ceremony (SoftHSM2: its token folder). Without the row MAC key no row is believed.
  2. The database: every key below a master key stands there, wrapped.
  3. The identity files above: give each to its officer, off this machine; nobody holds two.
Then say so: keyriver init --backup-recorded"""
    )
