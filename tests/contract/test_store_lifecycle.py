"""What the store promises to the officers' commands, asked of the fake and of Postgres alike."""

import json
from dataclasses import replace

from tests.unit.store import fixtures
from tests.unit.store.builders import MAC, Chain, bumped, command, fresh_id, fresh_name, key_row, version_row, wrap
from tests.unit.store.rooms import Room
from worker.edges.store.dues import PostgresDues
from worker.edges.store.fake import FakeStore
from worker.edges.store.pool import Pool
from worker.edges.store.rows import json_of
from worker.model.effects import Count, Moved, PutRow, Seen, Settled, Settlement
from worker.model.facts import Needs, Question, RowPage
from worker.model.rows import Alias, Approval, ApprovalState, Region, Row, State, Table
from worker.ports import Dues

fake = fixtures.fake
founded = fixtures.founded
pool = fixtures.pool
real = fixtures.real
acme = fixtures.acme
room = fixtures.room


def approval(tenant: str, expires_ms: int = 2_000_000_000_000) -> Approval:
    return Approval(
        id=fresh_id(),
        tenant=tenant,
        operation="key.enable",
        body=b'{"tenant":"x"}',
        asked_by="ann",
        request="r1",
        asked_ms=1,
        expires_ms=expires_ms,
        touched=("keys a 1", "tenants b 2"),
        state=ApprovalState.PENDING,
        decided_by="",
        revision=1,
    )


async def put(room: Room, *rows: Row) -> None:
    assert await room.store.settle([command(*rows)]) == [Settled()]


async def test_approvals_come_back_as_they_were_put_and_page_by_page(room: Room, founded: Chain) -> None:
    rows = sorted((approval(founded.tenant.id) for _ in range(3)), key=lambda row: row.id)
    await put(room, *rows)
    page = RowPage(Table.APPROVALS, founded.tenant.id, "", 2)
    answer = await room.store.know(Question(refs=frozenset({rows[2].ref}), pages=frozenset({page})))
    assert {stored.row for stored in answer.rows} == set(rows)
    assert dict(answer.pages) == {page: (rows[0].ref, rows[1].ref)}
    rest = RowPage(Table.APPROVALS, "", str(rows[1].id), 1000)
    everybodys = (await room.store.know(Question(pages=frozenset({rest})))).pages[rest]
    assert rows[2].ref in everybodys
    assert rows[1].ref not in everybodys
    odd = RowPage(Table.APPROVALS, "", "x", 5)
    assert (await room.store.know(Question(pages=frozenset({odd})))).pages == {odd: ()}


async def test_an_approval_is_decided_once(room: Room, founded: Chain) -> None:
    row = approval(founded.tenant.id)
    await put(room, row)
    done = replace(row, state=ApprovalState.APPROVED, decided_by="ben", revision=2)
    settle = [command(done, seen=(Seen(row.ref, 1),), changes=(row.ref,))]
    assert await room.store.settle(settle) == [Settled()]
    assert await room.store.settle(settle) == [Moved()]
    assert await room.store.settle([Settlement(None, None, (Seen(row.ref, 1),), (), ())]) == [Moved()]
    assert await room.store.settle([Settlement(None, None, (Seen(row.ref, 2),), (), ())]) == [Settled()]


async def test_later_columns_come_back_and_go_back_to_their_defaults(room: Room, founded: Chain) -> None:
    version, key = founded.versions[2], founded.kek
    full = replace(
        version, state=State.DESTROY_SCHEDULED, due_ms=2**40, prior=State.COMPROMISED, forced=True, revision=2
    )
    off = replace(key, enabled=False, disabled_revision=2, revision=2)
    for rows in ((full, off), (replace(version, revision=3), replace(key, revision=3))):
        await put(room, *rows)
        answer = await room.store.know(Question(keys=frozenset({key.id})))
        assert set(rows) <= {stored.row for stored in answer.rows}


async def test_what_hangs_on_a_key_is_counted(room: Room, founded: Chain) -> None:
    upper, kek = founded.keys[1], founded.kek
    other = key_row(founded.tenant.id, 3, upper.id)
    newer = version_row(bumped(kek), 2)
    await put(room, other, version_row(other), bumped(kek), newer, Alias(fresh_name("a"), kek.tenant, kek.id, 1))
    outside = Settlement(None, None, (), (), (Count(kek.id, 2, stored=4, issued_outside=1),))
    assert await room.store.settle([replace(wrap(founded, items=3), seen=()), outside]) == [Settled(), Settled()]
    below = (await room.store.know(Question(below=frozenset({upper.id, fresh_id()})))).below
    found = {one.key: one for one in below[upper.id]}
    assert set(found) == {upper.id, kek.id, other.id}
    assert (found[kek.id].versions, found[kek.id].deks, found[kek.id].issued_outside) == (2, 7, 1)
    assert (found[kek.id].layer, found[kek.id].wraps_deks, found[upper.id].wraps_deks) == (3, True, False)
    assert found[kek.id].alias == min(founded.alias.name, found[kek.id].alias)
    assert (found[other.id].deks, found[other.id].alias) == (0, "")
    assert [found for key, found in below.items() if key != upper.id] == [()]


async def test_what_needs_a_version_is_told(room: Room, founded: Chain) -> None:
    upper, kek = founded.keys[1], founded.kek
    await room.store.settle([wrap(founded, items=2)])
    places = frozenset({(upper.id, 1), (upper.id, 2), (kek.id, 1)})
    needs = (await room.store.know(Question(needs=places))).needs
    assert needs == {(upper.id, 1): Needs(0, 0, 1), (upper.id, 2): Needs(), (kek.id, 1): Needs(2, 0, 0)}
    await put(room, replace(founded.versions[2], state=State.DESTROYED, revision=2))
    assert (await room.store.know(Question(needs=places))).needs[upper.id, 1] == Needs()


async def dues_of(room: Room, pool: Pool) -> Dues:
    return room.store if isinstance(room.store, FakeStore) else PostgresDues(pool)


async def test_one_leads_and_the_others_wait(room: Room, pool: Pool) -> None:
    dues, name = await dues_of(room, pool), fresh_name("duty")
    assert await dues.lead(name, "one", 60)
    assert not await dues.lead(name, "two", 60)
    assert await dues.lead(name, "one", -1)
    assert await dues.lead(name, "two", 60)


async def test_what_is_due_is_found(room: Room, pool: Pool, founded: Chain) -> None:
    dues = await dues_of(room, pool)
    version = replace(founded.versions[2], due_ms=1, revision=2)
    late, early = approval(founded.tenant.id), approval(founded.tenant.id, 1)
    decided = replace(approval(founded.tenant.id, 1), state=ApprovalState.REJECTED)
    await put(room, version, late, early, decided, replace(founded.versions[1], due_ms=2**45, revision=2))
    versions, approvals = await dues.due(1000, "s")
    assert (version.key, 1) in versions
    assert (founded.keys[1].id, 1) not in versions
    assert early.id in approvals
    assert not {late.id, decided.id} & set(approvals)
    assert len((await dues.due(1, "s"))[0]) == 1


async def test_an_older_worker_writes_beside_a_newer_one(real: Room, pool: Pool, acme: Chain) -> None:
    """Its rows lack the columns that came later, and are read with their defaults."""
    row = json_of(PutRow(replace(acme.versions[2], state=State.DEACTIVATED, revision=2), 1, MAC))
    older = {name: value for name, value in row.items() if name not in ("due_ms", "prior", "forced")}
    puts = json.dumps([{"slot": 0, "table": "versions", "row": older}])
    await pool.run(lambda connection: connection.execute("SELECT keyriver.put_rows_v1($1, '{}')", puts))
    answer = await real.store.know(Question(keys=frozenset({acme.kek.id})))
    assert replace(acme.versions[2], state=State.DEACTIVATED, revision=2) in {stored.row for stored in answer.rows}


async def test_a_keys_region_comes_with_it_and_locks(room: Room, founded: Chain) -> None:
    """S19: what a key rests on is known in the same question, and a changed region refuses what was decided before."""
    name = fresh_name("eu")
    region = Region(name, "fleet", ("4b1f", "77"), 1)
    await put(room, region, replace(founded.keys[1], region=name, revision=2))
    answer = await room.store.know(Question(versions=frozenset({(founded.kek.id, 1)})))
    assert region in {stored.row for stored in answer.rows}, "of the key above the one that was asked for"
    page = RowPage(Table.REGIONS, "", name[:-1], 1)
    assert (await room.store.know(Question(pages=frozenset({page})))).pages[page] == (region.ref,)
    moved = replace(region, serials=("77",), revision=2)
    change = command(moved, seen=(Seen(region.ref, 1),), changes=(region.ref,))
    rests = Settlement(None, None, (Seen(region.ref, 1),), (), ())
    assert await room.store.settle([rests]) == [Settled()]
    assert await room.store.settle([change]) == [Settled()]
    assert await room.store.settle([rests]) == [Moved()]
    absent = Settlement(None, None, (Seen(replace(region, id=fresh_name("us")).ref, 0),), (), ())
    assert await room.store.settle([absent]) == [Settled()]
