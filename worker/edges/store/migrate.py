"""Migrations: plain SQL files, readable by dbmate too. Only `keyriver init` applies them; workers only look.

A worker needs every migration it knows; more than that is no harm, since old and new releases run side by side
(functions carry a version in their names).
"""

import re
from dataclasses import dataclass
from importlib.resources import files

import asyncpg

from worker.edges.store.pool import Connection, Pool, SchemaMismatch

_PARTS = re.compile(r"^-- migrate:up\n(?P<up>.*?)^-- migrate:down\n(?P<down>.*)\Z", re.MULTILINE | re.DOTALL)
_LOCK = 0x6B657972  # "keyr": two inits at once wait for each other
_TABLE = """
CREATE SCHEMA IF NOT EXISTS keyriver;
CREATE TABLE IF NOT EXISTS keyriver.schema_migrations (version varchar(128) PRIMARY KEY);
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its version is the number before the first underscore."""

    version: str
    name: str
    up: str
    down: str


def _load() -> tuple[Migration, ...]:
    found = []
    for file in files(__package__).joinpath("migrations").iterdir():
        parts = _PARTS.search(file.read_text())
        if file.name.endswith(".sql") and parts:
            version, _, name = file.name.removesuffix(".sql").partition("_")
            found.append(Migration(version, name, parts["up"], parts["down"]))
    return tuple(sorted(found, key=lambda migration: migration.version))


MIGRATIONS = _load()
"""Those of this release, oldest first."""


async def migrate(pool: Pool) -> list[str]:
    """Apply what is missing, all in one transaction; the versions applied. A second run applies nothing."""
    return await pool.run(_apply)


async def check_schema(pool: Pool) -> None:
    """Raise SchemaMismatch when the database lacks a migration of this release."""
    missing = [m.version for m in MIGRATIONS if m.version not in await applied(pool)]
    if missing:
        raise SchemaMismatch(f"the database lacks schema versions {', '.join(missing)}: run `keyriver init`")


async def applied(pool: Pool) -> frozenset[str]:
    """The versions that the database has; none when it was never initialised."""
    return await pool.run(_applied)


async def _applied(connection: Connection) -> frozenset[str]:
    try:
        rows = await connection.fetch("SELECT version FROM keyriver.schema_migrations")
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return frozenset()
    return frozenset(row["version"] for row in rows)


async def _apply(connection: Connection) -> list[str]:
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(_TABLE)
        present = await _applied(connection)
        wanted = [migration for migration in MIGRATIONS if migration.version not in present]
        for migration in wanted:
            await connection.execute(migration.up)
            await connection.execute("INSERT INTO keyriver.schema_migrations VALUES ($1)", migration.version)
    return [migration.version for migration in wanted]
