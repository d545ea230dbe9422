"""A data team moves wrapped DEKs: to the new version of their key, or to another key (S11)."""

import pytest

from tests.fleet import Fleet, House
from worker.client import KeyriverClient
from worker.client.results import ItemError, Rewrapped, Unwrapped, WrappedDek
from worker.model.bodies import DekItem, KeyCreateBody, KeyRotateBody, RewrapItem
from worker.model.operations import Operation, Permission
from worker.model.replies import KeyResult

CONTEXTS = [{"row": str(number)} for number in range(3)]


async def test_stored_deks_move_to_the_new_version(fleet: Fleet, house: House) -> None:
    # Given stored DEKs under a key that was rotated since
    made = await _made(house)
    await _rotate(fleet, house)
    # When they are rewrapped by id
    moved = await house.client.rewrap([RewrapItem(id=one.id) for one in made])
    # Then the same ids stand under the new version, and unwrap to the same DEKs, each in its context
    assert [(one.id, one.version, one.unchanged) for one in moved if isinstance(one, Rewrapped)] == [
        (one.id, 2, False) for one in made
    ]
    assert await _deks(house.client, [DekItem(id=one.id) for one in made]) == [one.dek for one in made]


async def test_blobs_move_without_their_context_being_told(fleet: Fleet, house: House) -> None:
    # Given blobs that the team keeps itself
    made = await _made(house, store=False)
    await _rotate(fleet, house)
    # When they are rewrapped
    moved = await house.client.rewrap([RewrapItem(blob=one.blob) for one in made])
    blobs = [one.blob for one in moved if isinstance(one, Rewrapped)]
    # Then the new blobs, and the old ones still, unwrap in the context that nobody told, and in no other
    deks = [one.dek for one in made]
    assert await _deks(house.client, [DekItem(blob=blob) for blob in blobs]) == deks
    assert await _deks(house.client, [DekItem(blob=one.blob) for one in made]) == deks
    (wrong,) = await house.client.unwrap([DekItem(blob=blobs[0], context=CONTEXTS[1])])
    assert isinstance(wrong, ItemError)
    assert wrong.code == "UNWRAP_FAILED"


@pytest.mark.parametrize("store", [True, False])
async def test_what_is_current_is_unchanged_and_costs_no_hsm_operation(fleet: Fleet, house: House, store: bool) -> None:
    # Given current DEKs, and a worker that has answered everything
    made = await _made(house, store=store, return_blob=True)
    await fleet.caught_up()
    before = await _operations(fleet)
    assert before > 0
    # When they are rewrapped
    items = [RewrapItem(id=one.id) if store else RewrapItem(blob=one.blob) for one in made]
    moved = await house.client.rewrap(items, return_blob=True)
    # Then they come back byte for byte, and the HSM was not asked
    told = [one for one in moved if isinstance(one, Rewrapped)]
    assert [one.blob for one in told] == [one.blob for one in made]
    assert all(one.unchanged for one in told)
    assert await _operations(fleet) == before


async def test_to_another_key_of_the_tenant(fleet: Fleet, house: House) -> None:
    # Given a second key
    archive = await _second_key(fleet, house)
    made = await _made(house)
    # When DEKs are rewrapped to it
    moved = await house.client.rewrap([RewrapItem(id=one.id) for one in made], to=archive)
    # Then they are under it, and are the same DEKs in the same contexts
    (key,) = {one.key for one in moved if isinstance(one, Rewrapped)}
    assert key != made[0].key
    assert await _deks(house.client, [DekItem(id=one.id) for one in made]) == [one.dek for one in made]
    under = "SELECT count(*) FROM keyriver.deks WHERE key = $1"
    assert await fleet.pool.fetchval(under, key) == len(made)


@pytest.mark.parametrize("missing", [Permission.REWRAP_FROM, Permission.REWRAP_TO])
async def test_rewrap_is_not_a_ladder(fleet: Fleet, house: House, missing: Permission) -> None:
    # Given a client that lacks one of the two permissions
    archive = await _second_key(fleet, house)
    made = await _made(house)
    allowed = [permission for permission in Permission if permission is not missing]
    client = await fleet.client(await fleet.service(house.tenant, permissions=allowed))
    # When it rewraps to another key, Then it is refused, and nothing has moved
    await _is_refused(client, made, archive)
    assert await _deks(house.client, [DekItem(id=one.id) for one in made]) == [one.dek for one in made]
    assert {one.version for one in made} == {1}


async def test_a_pattern_bounds_where_deks_may_go(fleet: Fleet, house: House) -> None:
    # Given a client that may use the first key and no other
    archive = await _second_key(fleet, house)
    made = await _made(house)
    client = await fleet.client(await fleet.service(house.tenant, pattern=house.key))
    # When it rewraps to the second, Then it is refused
    await _is_refused(client, made, archive)


async def test_another_tenants_deks_and_keys_are_not_found(fleet: Fleet, house: House) -> None:
    # Given another tenant's DEKs, stored and as blobs
    other = await fleet.tenant()
    theirs = await _made(other)
    blobs = await _made(other, store=False)
    mine = await _made(house)
    # When they are rewrapped or unwrapped by us, or ours to their key, Then nothing of it is found
    await _is_refused(house.client, theirs, None)
    await _is_refused(house.client, theirs, house.key)
    await _is_refused(house.client, mine, other.key)
    for item in [DekItem(id=theirs[0].id, context=CONTEXTS[0]), DekItem(blob=blobs[0].blob, context=CONTEXTS[0])]:
        (back,) = await house.client.unwrap([item])
        assert isinstance(back, ItemError)
        assert back.code == "NOT_FOUND"


async def _made(house: House, *, store: bool = True, return_blob: bool = False) -> list[WrappedDek]:
    made = await house.client.generate(house.key, contexts=CONTEXTS, store=store, return_blob=return_blob)
    return [one for one in made if isinstance(one, WrappedDek)]


async def _rotate(fleet: Fleet, house: House) -> None:
    officer = await fleet.officer()
    await officer.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.key))


async def _second_key(fleet: Fleet, house: House) -> str:
    officer = await fleet.officer()
    alias = f"{house.upper}/archive"
    body = KeyCreateBody(tenant=house.tenant, parent=house.upper, alias=alias)
    assert isinstance(await officer.command(Operation.KEY_CREATE, body), KeyResult)
    return alias


async def _deks(client: KeyriverClient, items: list[DekItem]) -> list[bytes]:
    """The DEKs of these items, the n-th in the n-th context."""
    bound = [item.model_copy(update={"context": context}) for item, context in zip(items, CONTEXTS, strict=True)]
    return [one.dek for one in await client.unwrap(bound) if isinstance(one, Unwrapped)]


async def _is_refused(client: KeyriverClient, deks: list[WrappedDek], to: str | None) -> None:
    answers = await client.rewrap([RewrapItem(id=one.id) for one in deks], to=to)
    assert [one.code for one in answers if isinstance(one, ItemError)] == ["NOT_FOUND"] * len(deks)


async def _operations(fleet: Fleet) -> float:
    """HSM operations of the river so far, over all workers."""
    return sum([await member.total("keyriver_hsm_operations_total") for member in fleet.members])
