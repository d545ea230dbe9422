"""The SQL files say what they must, and nothing secret shows in settings or rows."""

import re
from importlib.resources import files

import pytest

from worker.edges.store import queries
from worker.edges.store.migrate import MIGRATIONS
from worker.edges.store.pool import PostgresSettings, StoreRefused, connected


def test_every_statement_is_named_once() -> None:
    texts = [file.read_text() for file in files(queries.__package__ or "").joinpath("sql").iterdir()]
    names = re.findall(r"^-- name: (\w+)$", "\n".join(texts), re.MULTILINE)
    assert sorted(names) == sorted(queries.SQL)


def test_migrations_are_dbmates_with_a_way_back() -> None:
    found = MIGRATIONS
    assert found
    for migration in found:
        assert re.fullmatch(r"\d{14}", migration.version)
        assert migration.up.strip()
        assert migration.down.strip()
    assert [migration.version for migration in found] == sorted({migration.version for migration in found})


def test_state_changing_functions_carry_a_version() -> None:
    """Old and new workers run side by side: a function is never changed, its successor gets a new number."""
    text = "\n".join(migration.up for migration in MIGRATIONS)
    functions = re.findall(r"CREATE (?:OR REPLACE )?FUNCTION (\S+?)\(", text)
    assert functions
    assert all(re.search(r"_v\d+$", name) for name in functions)


async def test_a_malformed_address_is_refused_at_once_and_not_repeated() -> None:
    with pytest.raises(StoreRefused) as caught:
        async with connected(PostgresSettings("postgres//keyriver:hunter2@nowhere")):
            pass
    assert "hunter2" not in repr(caught.value)
    assert caught.value.__cause__ is None
