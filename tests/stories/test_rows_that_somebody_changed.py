"""Who can write the database can't make the fleet do what no officer ordered (S7): changed rows are refused."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

import pytest

from tests.fleet import Fleet, House
from tests.scribe import Scribe
from tests.unheard import is_dead_lettered
from worker.client import KeyriverClient
from worker.client.errors import RequestRefused
from worker.client.results import ItemError, Unwrapped, WrappedDek
from worker.model.bodies import DekItem, KeyCreateBody, KeyRotateBody, RewrapItem, WrapBody, WrapItem
from worker.model.operations import Operation
from worker.seal.identity import Identity, generate_private_key_pem

REFUSED = {"INTEGRITY", "UNWRAP_FAILED", "NOT_FOUND"}
TABLES = ("tenants", "keys", "versions", "aliases", "clients", "intake_keys", "deks")


@dataclass(frozen=True, slots=True)
class Scene:
    """A tenant with two service keys, the first rotated once, and a DEK under each, made before."""

    fleet: Fleet
    house: House
    second: str
    deks: tuple[WrappedDek, WrappedDek]

    @property
    def keys(self) -> tuple[UUID, UUID]:
        return self.deks[0].key, self.deks[1].key


@pytest.fixture(scope="module")
async def neighbour(fleet: Fleet) -> House:
    """Another tenant, whose rows nobody touches."""
    return await fleet.tenant()


@pytest.fixture(scope="module")
async def scene(fleet: Fleet) -> Scene:
    """One for all attacks: after each the rows are as they were."""
    house = await fleet.tenant()
    officer = await fleet.officer()
    second = f"{house.upper}/second"
    body = KeyCreateBody(tenant=house.tenant, parent=house.upper, alias=second)
    await officer.command(Operation.KEY_CREATE, body)
    made = [(await house.client.generate(key))[0] for key in (house.key, second)]
    await officer.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.key))
    first_dek, second_dek = (one for one in made if isinstance(one, WrappedDek))
    return Scene(fleet, house, second, (first_dek, second_dek))


ATTACKS = {
    "keys: the old version is active again": "UPDATE keyriver.keys SET active_version = 1 WHERE id = $1",
    "keys: moved to another tenant": "UPDATE keyriver.keys SET tenant = 'acme' WHERE id = $1",
    "keys: another purpose": "UPDATE keyriver.keys SET purpose = 'wraps-keys' WHERE id = $1",
    "keys: another parent": "UPDATE keyriver.keys SET parent = $2 WHERE id = $1",
    "keys: another revision": "UPDATE keyriver.keys SET revision = revision + 1 WHERE id = $1",
    "keys: a purpose that nobody knows": "UPDATE keyriver.keys SET purpose = 'anything' WHERE id = $1",
    "keys: the content of another row": """
        UPDATE keyriver.keys AS k SET active_version = o.active_version, latest_version = o.latest_version,
            revision = o.revision, mac_version = o.mac_version, mac = o.mac
        FROM keyriver.keys AS o WHERE k.id = $1 AND o.id = $2""",
    "versions: the retired one in place of the active one": """
        UPDATE keyriver.versions AS v SET wrapped = o.wrapped, state = o.state, revision = o.revision,
            parent_version = o.parent_version, created_ms = o.created_ms, mac_version = o.mac_version, mac = o.mac
        FROM keyriver.versions AS o WHERE v.key = $1 AND v.number = 2 AND o.key = $1 AND o.number = 1""",
    "versions: another key's material": """
        UPDATE keyriver.versions AS v SET wrapped = o.wrapped
        FROM keyriver.versions AS o WHERE v.key = $1 AND o.key = $2""",
    "versions: exchanged with another key's": """
        UPDATE keyriver.versions AS v SET key = CASE v.key WHEN $1 THEN $2 ELSE $1::uuid END, number = v.number + 10
        WHERE v.key IN ($1, $2)""",
    "versions: one bit": "UPDATE keyriver.versions SET wrapped = set_bit(wrapped, 9, 1 - get_bit(wrapped, 9)) "
    "WHERE key = $1",
    "versions: no MAC": "UPDATE keyriver.versions SET mac = '' WHERE key = $1",
    "versions: a MAC of a key that is none": "UPDATE keyriver.versions SET mac_version = 99 WHERE key = $1",
    "versions: a state that nobody knows": "UPDATE keyriver.versions SET state = 'anything' WHERE key = $1",
    "aliases: to another key": "UPDATE keyriver.aliases SET key = $2 WHERE key = $1",
    "aliases: exchanged": """
        UPDATE keyriver.aliases AS a SET key = o.key, revision = o.revision, mac_version = o.mac_version, mac = o.mac
        FROM keyriver.aliases AS o WHERE a.key = $1 AND o.key = $2""",
    "tenants: fewer layers": """
        UPDATE keyriver.tenants SET layers = 2 WHERE id = (SELECT tenant FROM keyriver.keys WHERE id = $1)""",
    "tenants: a suite that nobody knows": """
        UPDATE keyriver.tenants SET minimum_suite = 'none'
        WHERE id = (SELECT tenant FROM keyriver.keys WHERE id = $1)""",
    "clients: a wider pattern": """
        UPDATE keyriver.clients SET pattern = '*' WHERE tenant = (SELECT tenant FROM keyriver.keys WHERE id = $1)""",
    "clients: more time": """
        UPDATE keyriver.clients SET not_after_ms = not_after_ms + 1
        WHERE tenant = (SELECT tenant FROM keyriver.keys WHERE id = $1)""",
}


@pytest.mark.parametrize("what", ATTACKS)
async def test_a_changed_row_is_refused(scene: Scene, neighbour: House, what: str) -> None:
    # Given a row that somebody changed in the database
    async with _changed(scene, ATTACKS[what]):
        # When what rests on it is asked for, Then it is refused, and other tenants are served
        assert await _code(scene.house.client, scene.house.key) == "INTEGRITY"
        assert await _code(neighbour.client, neighbour.key) == ""
    # And when the row is as it was, it serves again
    assert await _code(scene.house.client, scene.house.key) == ""
    assert await _code(scene.house.client, scene.second) == ""


COPIES = {
    "a key": """
        INSERT INTO keyriver.keys SELECT (jsonb_populate_record(k, jsonb_build_object('id', $3::text))).*
        FROM keyriver.keys AS k WHERE id IN ($1, $2) LIMIT 1""",
    "an alias": """
        INSERT INTO keyriver.aliases SELECT (jsonb_populate_record(a, jsonb_build_object('name', $3::text))).*
        FROM keyriver.aliases AS a WHERE key IN ($1, $2) LIMIT 1""",
}


@pytest.mark.parametrize("what", COPIES)
async def test_a_copied_row_names_nothing(scene: Scene, what: str) -> None:
    # Given a row that was copied under another name
    name = str(uuid4())
    async with _changed(scene, COPIES[what], name):
        # When that name is used, Then it is refused
        assert await _code(scene.house.client, name) in {"INTEGRITY", "NOT_FOUND"}


async def test_a_client_that_nobody_enrolled_is_not_heard(scene: Scene) -> None:
    # Given a row of a client that is a copy of another's, and one that has another's signing key
    honest = scene.house.identity
    mallory = replace(honest, client=f"m{uuid4().hex[:10]}")
    copied = """INSERT INTO keyriver.clients SELECT (jsonb_populate_record(c, jsonb_build_object('id', $3::text))).*
                FROM keyriver.clients AS c, keyriver.keys AS k WHERE k.id = $1 AND k.id <> $2 AND c.tenant = k.tenant"""
    async with _changed(scene, copied, mallory.client):
        await _is_not_heard(scene, mallory)
    stolen = replace(honest, private_key=generate_private_key_pem(honest.algorithm))
    key = stolen.signer().public_key.hex()
    swapped = f"UPDATE keyriver.clients SET public_key = decode('{key}', 'hex') WHERE id = '{honest.client}'"  # noqa: S608
    async with _changed(scene, swapped):
        # When they ask, Then they hear nothing
        await _is_not_heard(scene, stolen)
    assert await _code(scene.house.client, scene.house.key) == ""


DEKS = {
    "exchanged blobs": """
        UPDATE keyriver.deks AS d SET blob = o.blob FROM keyriver.deks AS o
        WHERE d.id IN ($1, $2) AND o.id IN ($1, $2) AND o.id <> d.id""",
    "exchanged rows": """
        UPDATE keyriver.deks AS d SET blob = o.blob, key = o.key, version = o.version FROM keyriver.deks AS o
        WHERE d.id IN ($1, $2) AND o.id IN ($1, $2) AND o.id <> d.id""",
    "a blob made to fit": """
        UPDATE keyriver.deks AS d SET blob = overlay(o.blob PLACING uuid_send(d.id) FROM 25), key = o.key,
            version = o.version
        FROM keyriver.deks AS o WHERE d.id IN ($1, $2) AND o.id IN ($1, $2) AND o.id <> d.id""",
    "another version": "UPDATE keyriver.deks SET version = version + 1 WHERE id IN ($1, $2)",
    "one bit": "UPDATE keyriver.deks SET blob = set_bit(blob, 500, 1 - get_bit(blob, 500)) WHERE id IN ($1, $2)",
    "cut short": "UPDATE keyriver.deks SET blob = substring(blob FROM 1 FOR 60) WHERE id IN ($1, $2)",
    "no blob": "UPDATE keyriver.deks SET blob = '' WHERE id IN ($1, $2)",
}


@pytest.mark.parametrize("what", DEKS)
async def test_a_changed_dek_is_refused(scene: Scene, what: str) -> None:
    # Given DEK rows that were changed: they carry no MAC, their blob's AAD binds them
    client, ids = scene.house.client, [one.id for one in scene.deks]
    async with _changed(scene, DEKS[what], ids=ids):
        # When they are unwrapped, Then each is refused
        back = await client.unwrap([DekItem(id=one) for one in ids])
        assert [isinstance(one, ItemError) and one.code in REFUSED for one in back] == [True, True], back
        # And moved is none of them; what seems to be current is not looked at
        moved = await client.rewrap([RewrapItem(id=one) for one in ids], to=scene.second)
        assert all(isinstance(one, ItemError) or one.unchanged for one in moved), moved
    # And as they were, they come back
    back = await client.unwrap([DekItem(id=one) for one in ids])
    assert [one.dek for one in back if isinstance(one, Unwrapped)] == [one.dek for one in scene.deks]


async def test_an_intake_key_that_was_changed_opens_nothing(scene: Scene) -> None:
    # Given intake keys whose time somebody prolonged
    prolonged = "UPDATE keyriver.intake_keys SET not_after_ms = not_after_ms + 1"
    async with Scribe(scene.fleet, scene.house.identity) as scribe, _changed(scene, prolonged):
        # When DEKs come that are sealed to them, Then they are refused
        assert (await scribe.ask(scribe.wrapping(scene.house.key, [b"k" * 32]))).code == "INTAKE_KEY_UNKNOWN"
    assert not isinstance((await scene.house.client.wrap(scene.house.key, [b"k" * 32]))[0], ItemError)


@asynccontextmanager
async def _changed(
    scene: Scene, statement: str, name: str | None = None, ids: list[UUID | None] | None = None
) -> AsyncIterator[None]:
    """The database with this change; afterwards all rows are as they were."""
    arguments: list[object] = [*(ids or scene.keys)]
    used = [argument for number, argument in enumerate([*arguments, name], 1) if f"${number}" in statement]
    async with scene.fleet.pool.acquire() as connection:
        for table in TABLES:
            await connection.execute(f"CREATE TEMP TABLE was_{table} AS TABLE keyriver.{table}")
        done = await connection.execute(statement, *used)
        assert not done.endswith(" 0"), done
        try:
            yield
        finally:
            async with connection.transaction():
                for table in TABLES:
                    await connection.execute(f"DELETE FROM keyriver.{table}")  # noqa: S608
                    await connection.execute(f"INSERT INTO keyriver.{table} TABLE was_{table}")
                    await connection.execute(f"DROP TABLE was_{table}")


async def _code(client: KeyriverClient, key: str) -> str:
    """Why a DEK under this key is refused, or nothing."""
    try:
        (made,) = await client.generate(key)
    except RequestRefused as refused:
        return refused.code
    return made.code if isinstance(made, ItemError) else ""


async def _is_not_heard(scene: Scene, who: Identity) -> None:
    async with Scribe(scene.fleet, who) as scribe:
        body = WrapBody(key=scene.house.key, items=[WrapItem()]).model_dump_json().encode()
        await is_dead_lettered(scene.fleet, scribe, scribe.draft(Operation.WRAP, body).record(), "UNAUTHENTICATED")
