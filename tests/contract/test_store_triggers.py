"""Where occasions are found in Postgres: only what a rule in force waits for, page by page, by indexes."""

from dataclasses import replace
from uuid import UUID

import pytest

from tests.unit.store import fixtures
from tests.unit.store.builders import Chain, bumped, command, fresh_id, version_row
from tests.unit.store.rooms import Room
from worker.edges.store.pool import Pool
from worker.edges.store.queries import SQL
from worker.edges.store.triggers import PostgresOccasions
from worker.model.campaigns import LAST_ID
from worker.model.effects import Settled
from worker.model.facts import Question, RowPage
from worker.model.ids import NO_ID
from worker.model.keystores import Provider
from worker.model.rows import Alias, Link, Row, Table
from worker.model.triggers import Found, Occasion, TriggerAction, TriggerRule
from worker.model.words import LinkState

founded = fixtures.founded
pool = fixtures.pool
real = fixtures.real
acme = fixtures.acme
room = fixtures.room
fake = fixtures.fake


def rule(of: Chain, event: Occasion, pattern: str = "*", **more: object) -> TriggerRule:
    row = TriggerRule(
        id=f"{of.tenant.id}/{event}",
        tenant=of.tenant.id,
        event=event,
        pattern=pattern,
        action=TriggerAction.ROTATE,
        period_s=60 if event is Occasion.KEY_AGE else 0,
        items_s=0,
        hsm_share=100,
        why="",
        enrolled_by="ann+ben",
        created_ms=1,
        revoked=False,
        revision=1,
    )
    return replace(row, **more)  # type: ignore[arg-type]


async def put(room: Room, *rows: Row) -> None:
    assert await room.store.settle([command(*rows)]) == [Settled()]


async def found(pool: Pool, of: Chain) -> list[Found]:
    """Everything that is found for this tenant; other tests' tenants stand in the same tables."""
    everything, last = await PostgresOccasions(pool).page(NO_ID, 1_000_000)
    assert last is None
    return [one for one in everything if one.tenant == of.tenant.id]


async def test_rules_come_back_as_they_were_put_and_in_the_order_of_names(room: Room, founded: Chain) -> None:
    rows = [rule(founded, Occasion.KEY_AGE), rule(founded, Occasion.USE_COUNT, "a/b_?*", revoked=True)]
    await put(room, *rows)
    page = RowPage(Table.TRIGGER_RULES, founded.tenant.id, "", 10)
    answer = await room.store.know(Question(pages=frozenset({page})))
    assert answer.pages == {page: (rows[0].ref, rows[1].ref)}
    assert {stored.row for stored in answer.rows} == set(rows)


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("*", True),
        ("NAME", True),
        ("NAME?", False),
        ("NAM?", True),
        ("N*E", True),
        ("NA", False),
        ("NAM_", False),
    ],
)
async def test_a_pattern_means_what_it_means_elsewhere(
    real: Room, pool: Pool, acme: Chain, pattern: str, fits: bool
) -> None:
    name = f"n{fresh_id().hex}e"
    await put(real, Alias(name, acme.tenant.id, acme.kek.id, 1))
    told = pattern.replace("NAME", name).replace("NAM", name[:-1]).replace("NA", name[:-2])
    told = told.replace("N", "n").replace("E", "e")
    await put(real, rule(acme, Occasion.KEY_AGE, told))
    assert (Found(Occasion.KEY_AGE, acme.tenant.id, acme.kek.id, 1) in await found(pool, acme)) is fits


async def test_age_counts_for_the_active_version_alone(real: Room, pool: Pool, acme: Chain) -> None:
    one = Found(Occasion.KEY_AGE, acme.tenant.id, acme.kek.id, 1)
    assert one not in await found(pool, acme)
    await put(real, rule(acme, Occasion.KEY_AGE, acme.alias.name))
    assert one in await found(pool, acme)
    young = replace(version_row(bumped(acme.kek), 2), created_ms=2**42)
    await put(real, bumped(acme.kek), young)
    assert await found(pool, acme) == []


async def test_a_key_whose_name_went_to_another_is_still_found_by_the_rule_for_all(
    real: Room, pool: Pool, acme: Chain
) -> None:
    await put(real, rule(acme, Occasion.KEY_AGE))
    aged = {one.key for one in await found(pool, acme)}
    await pool.run(lambda connection: connection.execute("DELETE FROM keyriver.aliases WHERE key = $1", acme.kek.id))
    assert {one.key for one in await found(pool, acme)} == aged
    assert acme.kek.id in aged


async def test_a_removed_rule_waits_for_nothing(real: Room, pool: Pool, acme: Chain) -> None:
    await put(real, rule(acme, Occasion.KEY_AGE))
    assert await found(pool, acme)
    assert await PostgresOccasions(pool).watched()
    await put(real, rule(acme, Occasion.KEY_AGE, revoked=True, revision=2))
    assert await found(pool, acme) == []


async def test_use_counts_from_the_bound_on(real: Room, pool: Pool, acme: Chain) -> None:
    await put(real, rule(acme, Occasion.USE_COUNT))
    statement = "INSERT INTO keyriver.uses (key, version, leased) VALUES ($1, 1, $2)"
    await pool.run(lambda connection: connection.execute(statement, acme.kek.id, 2**31 - 1))
    assert await found(pool, acme) == []
    await pool.run(
        lambda connection: connection.execute(
            "UPDATE keyriver.uses SET leased = leased + 1 WHERE key = $1", acme.kek.id
        )
    )
    assert await found(pool, acme) == [Found(Occasion.USE_COUNT, acme.tenant.id, acme.kek.id, 1)]


async def test_what_stands_under_an_older_version_of_a_parent_is_told_with_that(
    real: Room, pool: Pool, acme: Chain
) -> None:
    upper = acme.keys[1]
    await put(real, Alias(f"{acme.tenant.id}/upper", acme.tenant.id, upper.id, 1))
    await put(real, rule(acme, Occasion.PARENT_ROTATED, f"{acme.tenant.id}/upper", action=TriggerAction.MOVE))
    assert await found(pool, acme) == []
    await put(real, bumped(upper), version_row(bumped(upper), 2))
    assert await found(pool, acme) == [Found(Occasion.PARENT_ROTATED, acme.tenant.id, upper.id, 1)]
    child = acme.versions[2]
    await put(real, replace(child, retired_ms=7, revision=2))
    assert await found(pool, acme) == []


async def test_a_customers_rotation_is_younger_than_what_it_wraps(real: Room, pool: Pool, acme: Chain) -> None:
    root, upper = acme.keys[0], acme.keys[1]
    await put(real, Alias(f"{acme.tenant.id}/upper", acme.tenant.id, upper.id, 1))
    await put(real, rule(acme, Occasion.PROVIDER_VERSION))
    link = Link(
        id=fresh_id(),
        tenant=acme.tenant.id,
        key=root.id,
        version=1,
        provider=Provider.XKS,
        endpoint="https://k.example",
        external_key="k",
        credential="c",
        state=LinkState.LINKED,
        inner=fresh_id(),
        serial="s",
        external_version="1",
        sovereign=True,
        created_ms=1,
        revision=1,
    )
    await put(real, link)
    assert await found(pool, acme) == []
    await put(real, replace(link, external_version="2", rotated_ms=acme.versions[1].created_ms + 1, revision=2))
    assert await found(pool, acme) == [Found(Occasion.PROVIDER_VERSION, acme.tenant.id, upper.id, 1)]


async def test_keys_are_walked_page_by_page(real: Room, pool: Pool, acme: Chain) -> None:
    await put(real, rule(acme, Occasion.KEY_AGE))
    occasions, after, told = PostgresOccasions(pool), NO_ID, []
    last: UUID | None = NO_ID
    while last is not None:
        some, last = await occasions.page(after, 2)
        told += [one for one in some if one.tenant == acme.tenant.id]
        assert last is None or last > after
        after = last or LAST_ID
    assert told == await found(pool, acme)


async def test_a_page_is_found_by_indexes(pool: Pool) -> None:
    """However many keys there are, one page costs what stands in it."""

    async def plan(connection: object) -> str:
        async with connection.transaction():  # type: ignore[attr-defined]
            await connection.execute("SET LOCAL enable_seqscan = off")  # type: ignore[attr-defined]
            rows = await connection.fetch("EXPLAIN " + SQL["occasions"], NO_ID, LAST_ID, 1)  # type: ignore[attr-defined]
        return "\n".join(row[0] for row in rows)

    told = await pool.run(plan)
    assert "Seq Scan on keys" not in told, told
    assert "Seq Scan on versions" not in told, told
    assert "Seq Scan on aliases" not in told, told
