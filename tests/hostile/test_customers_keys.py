"""Attacks on HYOK (SECURITY S13): changed links and digests, a lying keystore, and the search for inner blobs."""

import base64
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import pytest

from tests.fleet import House
from tests.hostile.searching import everything, search
from tests.keystores.https_server import Asked, Told
from tests.stack import Services
from tests.stories.customers import Customers, codes, founded, linked, reads, stored, until
from worker.chain.outside import bound_to
from worker.client import RequestRefused
from worker.local import Token
from worker.model.bodies import DekItem, KeyRotateBody
from worker.model.keystores import Provider
from worker.model.linking import LinkShowBody
from worker.model.operations import Operation


@dataclass(frozen=True)
class Scene:
    """Two customers at one proxy, each with three DEKs."""

    customers: Customers
    mine: House
    items: Sequence[DekItem]
    deks: Sequence[bytes | None]
    other: House


@pytest.fixture(scope="module")
async def scene(stack: Services, kryoptic: Token, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with founded(stack, tmp_path_factory.mktemp("hostile"), kryoptic) as customers:
        customers.fleet.start()
        await customers.fleet.at_work(1)
        mine = await linked(customers, Provider.XKS, "kek-mine")
        other = await linked(customers, Provider.XKS, "kek-other")
        items, deks = await stored(mine)
        yield Scene(customers, mine, items, deks, other)


ATTACKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "links: another keystore": ("UPDATE keyriver.links SET endpoint = 'https://evil.example' WHERE key = $1", ("l1",)),
    "links: another key there": ("UPDATE keyriver.links SET external_key = 'kek-other' WHERE key = $1", ("l1",)),
    "links: another credential": ("UPDATE keyriver.links SET credential = 'transit' WHERE key = $1", ("l1",)),
    "links: another inner key": ('UPDATE keyriver.links SET "inner" = gen_random_uuid() WHERE key = $1', ("l1",)),
    "links: sovereign no more": ("UPDATE keyriver.links SET sovereign = false WHERE key = $1", ("l1",)),
    "links: another tenant's": ("UPDATE keyriver.links SET tenant = $2 WHERE key = $1", ("l1", "tenant")),
    "links: gone": ("DELETE FROM keyriver.links WHERE key = $1", ("l1",)),
    "links: the content of another's": (
        """UPDATE keyriver.links AS l SET external_key = o.external_key, mac = o.mac, mac_version = o.mac_version
        FROM keyriver.links AS o WHERE l.key = $1 AND o.tenant = $2""",
        ("l1", "tenant"),
    ),
    "versions: names no link": ("UPDATE keyriver.versions SET link = NULL WHERE key = $1", ("l1",)),
    "versions: the inner key as a plain L1": (
        "UPDATE keyriver.versions SET link = NULL, wrapping = 'token' WHERE key = $1",
        ("l1",),
    ),
    "versions: names another link": (
        "UPDATE keyriver.versions SET link = (SELECT id FROM keyriver.links WHERE tenant = $2) WHERE key = $1",
        ("l1", "tenant"),
    ),
    "versions: another digest": ("UPDATE keyriver.versions SET digest = sha256('x') WHERE key = $1", ("l2",)),
    "versions: no digest": ("UPDATE keyriver.versions SET digest = NULL WHERE key = $1", ("l2",)),
    "versions: another's digest and bytes": (
        """UPDATE keyriver.versions AS v SET digest = o.digest, wrapped = o.wrapped
        FROM keyriver.versions AS o WHERE v.key = $1 AND o.key = $2""",
        ("l2", "their l2"),
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_changed_link_or_digest_is_refused(scene: Scene, attack: str) -> None:
    fleet, mine = scene.customers.fleet, scene.mine
    assert await reads(mine, scene.items, scene.deks)
    sql, names = ATTACKS[attack]
    found = {
        "l1": await _key(scene, mine.tenant),
        "l2": await _key(scene, mine.upper),
        "their l2": await _key(scene, scene.other.upper),
        "tenant": scene.other.tenant,
    }
    async with fleet.pool.acquire() as connection, connection.transaction():
        await connection.execute("CREATE TEMP TABLE links_kept ON COMMIT DROP AS TABLE keyriver.links")
        await connection.execute("CREATE TEMP TABLE versions_kept ON COMMIT DROP AS TABLE keyriver.versions")
        await fleet.pool.execute(sql, *(found[name] for name in names))
        try:
            assert await codes(mine, scene.items) == {"INTEGRITY"}
            with pytest.raises(RequestRefused, match="INTEGRITY"):
                await fleet.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=mine.tenant, key=mine.upper))
            if attack.startswith("links"):
                with pytest.raises(RequestRefused, match="INTEGRITY"):
                    await fleet.command(Operation.LINK_SHOW, LinkShowBody(tenant=mine.tenant, key=mine.tenant))
        finally:
            await connection.execute("DELETE FROM keyriver.links")
            await connection.execute("INSERT INTO keyriver.links SELECT * FROM links_kept")
            await connection.execute("DELETE FROM keyriver.versions")
            await connection.execute("INSERT INTO keyriver.versions SELECT * FROM versions_kept")
    assert await reads(mine, scene.items, scene.deks)


async def _key(scene: Scene, alias: str) -> object:
    return await scene.customers.fleet.pool.fetchval("SELECT key FROM keyriver.aliases WHERE name = $1", alias)


async def test_a_keystore_that_gives_back_another_blob_opens_nothing(scene: Scene) -> None:
    """The customer's proxy, or whoever sits in it, hands out an inner blob that is not the row's."""
    customers, mine = scene.customers, scene.mine
    other = await _inner(scene, scene.other)

    def lying(asked: Asked, told: Told) -> Told:
        if not asked.path.endswith("/kek-mine/decrypt") or b"plaintext" not in told.body:
            return told
        said = json.loads(told.body) | {"plaintext": base64.b64encode(other).decode()}
        return Told(told.status, json.dumps(said).encode())

    customers.xks.proxy.mood = lying
    try:
        await _cold(scene)

        async def refused() -> bool:
            return await codes(mine, scene.items) <= {"INTEGRITY"}

        await until(refused, "another blob was not refused")
        assert not await reads(mine, scene.items, scene.deks)
    finally:
        customers.xks.proxy.mood = None

    async def well() -> bool:
        return await reads(mine, scene.items, scene.deks)

    await until(well, "it was not read again")


async def _cold(scene: Scene) -> None:
    """Another worker in the place of the one that holds handles."""
    fleet = scene.customers.fleet
    olds = [member for member in fleet.members if member.is_running]
    fleet.start()
    await fleet.at_work(len(olds) + 1)
    for old in olds:
        old.kill()


async def _inner(scene: Scene, house: House) -> bytes:
    """The inner blob of a tenant's L2, with the customer's own key."""
    row = await scene.customers.fleet.pool.fetchrow(
        "SELECT v.* FROM keyriver.versions AS v JOIN keyriver.aliases AS a ON a.key = v.key WHERE a.name = $1",
        house.upper,
    )
    assert row is not None
    key = "kek-mine" if house is scene.mine else "kek-other"
    store = scene.customers.xks.keystore(key)
    try:
        inner = await store.decrypt(row["wrapped"], bound_to(house.tenant, row["key"], row["number"]))
    finally:
        await store.close()
    assert sha256(inner).digest() == row["digest"]
    return inner


async def test_no_inner_blob_is_in_a_table_a_topic_a_file_or_a_log(scene: Scene) -> None:
    assert await reads(scene.mine, scene.items, scene.deks)
    secrets = {"mine": await _inner(scene, scene.mine), "other's": await _inner(scene, scene.other)}
    media = await everything(scene.customers.fleet)
    assert search(media, secrets) == set()
    planted = {"planted": media["tables"] + secrets["mine"]}
    assert search(planted, secrets) == {("planted", "mine")}
