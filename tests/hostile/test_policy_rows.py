"""Who can write the database allows himself nothing (S7): policy rows that were changed, copied or moved."""

import asyncio
from dataclasses import dataclass
from uuid import uuid4

import asyncpg
import pytest

from tests.fleet import Fleet, House
from tests.processes import POLL_S
from worker.client import KeyriverClient
from worker.client.errors import RequestRefused
from worker.client.results import ItemError, Unwrapped, WrappedDek
from worker.model.bodies import DekItem, KeyRotateBody
from worker.model.control import KeyCompromiseBody
from worker.model.operations import Operation, Permission
from worker.model.policies import (
    GrantGiveBody,
    PolicyAllowBody,
    PolicyRevokeBody,
    RuleResult,
    TenantQuotaBody,
)

FAR_MS = 4_000_000_000_000
REFUSED = {"INTEGRITY", "NOT_FOUND"}


@dataclass(frozen=True, slots=True)
class Scene:
    """A DEK, a client that a rule lets read it, and one that nothing lets; another tenant with a rule of its own."""

    fleet: Fleet
    house: House
    dek: WrappedDek
    reader: str
    reads: KeyriverClient
    stranger: str
    asks: KeyriverClient
    other: House
    others_reader: str


@pytest.fixture(scope="module")
async def scene(fleet: Fleet) -> Scene:
    """One for all attacks: after each the rows are as they were."""
    house, other = await fleet.tenant(), await fleet.tenant()
    (dek,) = await house.client.generate(house.key)
    assert isinstance(dek, WrappedDek)
    reader = await fleet.service(house.tenant, permissions=())
    stranger = await fleet.service(house.tenant, permissions=())
    theirs = await fleet.service(other.tenant, permissions=())
    await _allow(fleet, house, reader.client, pattern=f"{house.upper}/*")
    await _allow(fleet, house, stranger.client, permissions=[Permission.WRAP], pattern=f"{house.upper}/nothing")
    await _allow(fleet, other, theirs.client)
    reads, asks = await fleet.client(reader), await fleet.client(stranger)
    return Scene(fleet, house, dek, reader.client, reads, stranger.client, asks, other, theirs.client)


async def _allow(fleet: Fleet, house: House, client: str, **words: object) -> RuleResult:
    body: dict[str, object] = {"tenant": house.tenant, "client": client, "permissions": [Permission.UNWRAP]}
    asked = PolicyAllowBody.model_validate(body | {"not_after_ms": FAR_MS} | words)
    told = await fleet.command(Operation.POLICY_ALLOW, asked)
    assert isinstance(told, RuleResult)
    return told


async def _told(client: KeyriverClient, dek: WrappedDek) -> str:
    (got,) = await client.unwrap([DekItem(id=dek.id)])
    assert isinstance(got, Unwrapped | ItemError)
    return got.code if isinstance(got, ItemError) else ""


COPY = """INSERT INTO keyriver.rules SELECT {columns} FROM keyriver.rules AS r WHERE r.client = {of}"""
COLUMNS = (
    "id, tenant, client, permissions, pattern, region, not_after_ms, context_keys, minimum_suite, why, enrolled_by,"
    " created_ms, revoked, revision, mac_version, mac"
)
# $1 the stranger, $2 the reader, $3 the other tenant's reader, $4 a fresh id.
ATTACKS = {
    "the stranger's own rule, widened": """
        UPDATE keyriver.rules SET permissions = '{unwrap,wrap}', pattern = '*' WHERE client = $1""",
    "the reader's rule, given to the stranger": "UPDATE keyriver.rules SET client = $1 WHERE client = $2",
    "a copy of the reader's rule under another id": COPY.format(
        columns=COLUMNS.replace("id,", "$4::uuid,", 1).replace(" client,", " $1::text,"), of="$2"
    ),
    "the content of the reader's rule in the stranger's": """
        UPDATE keyriver.rules AS r SET permissions = o.permissions, pattern = o.pattern, mac_version = o.mac_version,
            mac = o.mac, revision = o.revision
        FROM keyriver.rules AS o WHERE r.client = $1 AND o.client = $2""",
    "another tenant's rule, moved here": """
        UPDATE keyriver.rules AS r SET client = $1, tenant = o.tenant FROM keyriver.rules AS o
        WHERE r.client = $3 AND o.client = $2""",
    "another tenant's rule, for a client of this one": "UPDATE keyriver.rules SET client = $1 WHERE client = $3",
    "no MAC at all": "UPDATE keyriver.rules SET pattern = '*', permissions = '{unwrap}', mac = '' WHERE client = $1",
    "a permission that nobody knows": "UPDATE keyriver.rules SET permissions = '{unwrap,all}' WHERE client = $1",
    "a suite that nobody knows": "UPDATE keyriver.rules SET minimum_suite = 'none' WHERE client = $1",
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_no_row_lets_the_stranger_in(scene: Scene, attack: str) -> None:
    pool, names = scene.fleet.pool, (scene.stranger, scene.reader, scene.others_reader, uuid4())
    sql = ATTACKS[attack]
    kept = await pool.fetch("SELECT * FROM keyriver.rules")
    needed = [value for number, value in enumerate(names, start=1) if f"${number}" in sql]
    for place, number in enumerate([n for n in range(1, 5) if f"${n}" in sql], start=1):
        sql = sql.replace(f"${number}", f"${place}")
    assert await _told(scene.asks, scene.dek) == "NOT_FOUND"
    assert (await pool.execute(sql, *needed)).split()[-1] == "1"
    try:
        assert await _told(scene.asks, scene.dek) in REFUSED
        # And whom nobody touched is served
        (mine,) = await scene.house.client.unwrap([DekItem(id=scene.dek.id)])
        assert isinstance(mine, Unwrapped)
    finally:
        await pool.execute("DELETE FROM keyriver.rules")
        await pool.copy_records_to_table("rules", schema_name="keyriver", records=[tuple(row) for row in kept])
    assert await _told(scene.reads, scene.dek) == ""


async def test_a_rule_that_was_taken_back_is_not_opened_again(fleet: Fleet, house: House) -> None:
    client = await fleet.service(house.tenant, permissions=())
    reads = await fleet.client(client)
    (dek,) = await house.client.generate(house.key)
    assert isinstance(dek, WrappedDek)
    rule = (await _allow(fleet, house, client.client)).rule
    assert await _told(reads, dek) == ""
    await fleet.command(Operation.POLICY_REVOKE, PolicyRevokeBody(tenant=house.tenant, rule=rule.id))
    assert await _told(reads, dek) == "NOT_FOUND"
    await fleet.pool.execute("UPDATE keyriver.rules SET revoked = false WHERE id = $1", rule.id)
    assert await _told(reads, dek) == "INTEGRITY"


async def _put_back(fleet: Fleet, table: str, rows: list[asyncpg.Record]) -> None:
    """What a database's owner does with a dump: the rows as they were, with MACs that hold."""
    await fleet.pool.execute(f"DELETE FROM keyriver.{table} WHERE id = $1", rows[0]["id"])  # noqa: S608 - our own table
    await fleet.pool.copy_records_to_table(table, schema_name="keyriver", records=[tuple(row) for row in rows])


async def test_a_rule_from_a_dump_opens_nothing(fleet: Fleet, house: House) -> None:
    client = await fleet.service(house.tenant, permissions=())
    reads = await fleet.client(client)
    (dek,) = await house.client.generate(house.key)
    assert isinstance(dek, WrappedDek)
    rule = (await _allow(fleet, house, client.client)).rule
    dump = await fleet.pool.fetch("SELECT * FROM keyriver.rules WHERE id = $1", rule.id)
    await fleet.command(Operation.POLICY_REVOKE, PolicyRevokeBody(tenant=house.tenant, rule=rule.id))
    await _put_back(fleet, "rules", dump)
    async with asyncio.timeout(60):  # what the fleet says of a row reaches every worker within a second or so
        while await _told(reads, dek) == "":
            await asyncio.sleep(POLL_S)
    assert await _told(reads, dek) in REFUSED


async def test_a_quota_from_a_dump_or_none_gives_nothing(fleet: Fleet, house: House) -> None:
    await fleet.command(Operation.TENANT_QUOTA, TenantQuotaBody(tenant=house.tenant, per_second=10**6))
    dump = await fleet.pool.fetch("SELECT * FROM keyriver.quotas WHERE id = $1", house.tenant)
    await fleet.command(Operation.TENANT_QUOTA, TenantQuotaBody(tenant=house.tenant, per_second=10**5))
    assert await _refusal(house) == ""
    await _put_back(fleet, "quotas", dump)
    async with asyncio.timeout(60):
        while await _refusal(house) != "INTEGRITY":
            await asyncio.sleep(POLL_S)
    await fleet.pool.execute("DELETE FROM keyriver.quotas WHERE id = $1", house.tenant)
    assert await _refusal(house) == "INTEGRITY"


async def _refusal(house: House) -> str:
    try:
        await house.client.generate(house.key)
    except RequestRefused as refused:
        return refused.code
    return ""


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE keyriver.grants SET client = $2 WHERE client = $1",
        "UPDATE keyriver.grants SET client = $2, version = 0, not_after_ms = not_after_ms + 1 WHERE client = $1",
    ],
)
async def test_a_grant_is_for_whom_it_was_given(fleet: Fleet, house: House, sql: str) -> None:
    other = await fleet.service(house.tenant)
    asks = await fleet.client(other)
    (dek,) = await house.client.generate(house.key)
    assert isinstance(dek, WrappedDek)
    await fleet.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.key))
    await fleet.command(Operation.KEY_COMPROMISE, KeyCompromiseBody(tenant=house.tenant, key=house.key, version=1))
    body = GrantGiveBody(
        tenant=house.tenant,
        client=house.identity.client,
        key=house.key,
        permissions=[Permission.UNWRAP],
        for_s=3600,
        why="an attack",
    )
    await fleet.command(Operation.GRANT_GIVE, body)
    assert await _told(house.client, dek) == ""
    assert (await fleet.pool.execute(sql, house.identity.client, other.client)).split()[-1] == "1"
    assert await _told(asks, dek) == "KEY_STATE"
    assert await _told(house.client, dek) == "KEY_STATE"


async def test_nothing_is_given_out_of_a_quota_that_somebody_raised(fleet: Fleet, house: House) -> None:
    quota = TenantQuotaBody(tenant=house.tenant, per_second=1000, burst=1000)
    await fleet.command(Operation.TENANT_QUOTA, quota)
    (made,) = await house.client.generate(house.key)
    assert isinstance(made, WrappedDek)
    await fleet.pool.execute("UPDATE keyriver.quotas SET per_second = 1000000 WHERE id = $1", house.tenant)
    with pytest.raises(RequestRefused, match="INTEGRITY"):
        await house.client.generate(house.key)
