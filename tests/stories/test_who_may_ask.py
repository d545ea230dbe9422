"""Who is answered: registered clients, with their present key, until they are revoked."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.fleet import Fleet, House
from tests.scribe import Draft, Scribe
from tests.unheard import is_dead_lettered
from worker.client import KeyriverClient
from worker.client.errors import NoAnswer
from worker.client.results import ItemError, WrappedDek
from worker.model.bodies import ClientRevokeBody, ClientRotateBody, WrapBody, WrapItem
from worker.model.operations import Operation, Permission
from worker.model.rows import Algorithm
from worker.seal.identity import generate_private_key_pem


@pytest.fixture
async def scribe(fleet: Fleet, house: House) -> AsyncIterator[Scribe]:
    async with Scribe(fleet, house.identity) as opened:
        yield opened


async def test_a_revoked_client_is_refused_from_then_on(fleet: Fleet, house: House, scribe: Scribe) -> None:
    # Given a client that is served
    assert await _is_served(house.client, house.key)
    # When one officer revokes it, and has read the answer
    officer = await fleet.officer()
    await officer.command(Operation.CLIENT_REVOKE, ClientRevokeBody(tenant=house.tenant, client=house.identity.client))
    # Then what it sends is dead-lettered, and not answered
    await is_dead_lettered(fleet, scribe, _honest(scribe, house).record(), "UNAUTHENTICATED")
    # And revoking again is no error
    await officer.command(Operation.CLIENT_REVOKE, ClientRevokeBody(tenant=house.tenant, client=house.identity.client))


@pytest.mark.parametrize("algorithm", list(Algorithm))
async def test_a_client_with_a_new_key(fleet: Fleet, house: House, scribe: Scribe, algorithm: Algorithm) -> None:
    # Given a client whose signing key is rotated, perhaps to another algorithm
    assert await _is_served(house.client, house.key)
    renewed = replace(house.identity, algorithm=algorithm, private_key=generate_private_key_pem(algorithm))
    body = ClientRotateBody(
        tenant=house.tenant,
        client=house.identity.client,
        algorithm=algorithm,
        public_key=renewed.signer().public_key,
    )
    await fleet.command(Operation.CLIENT_ROTATE, body)
    # When it signs with the new key it is served, and with the old one it is not
    assert await _is_served(await fleet.client(renewed), house.key)
    await is_dead_lettered(fleet, scribe, _honest(scribe, house).record(), "UNAUTHENTICATED")


async def test_permissions_and_patterns(fleet: Fleet, house: House) -> None:
    # Given a client that may only unwrap, and one that may do everything, elsewhere
    reader = await fleet.client(await fleet.service(house.tenant, permissions=[Permission.UNWRAP]))
    elsewhere = await fleet.client(await fleet.service(house.tenant, pattern=f"{house.tenant}/us/*"))
    # When they wrap, Then the key is not found: a refusal does not say what is there
    for client in (reader, elsewhere):
        (refused,) = await client.generate(house.key)
        assert isinstance(refused, ItemError)
        assert refused.code == "NOT_FOUND"


async def test_an_unregistered_client_hears_nothing(fleet: Fleet, house: House) -> None:
    # Given an identity that nobody registered
    unknown = replace(house.identity, client="nobody")
    client = await fleet.client(unknown, timeout_s=1.5)
    # When it asks, Then no answer comes, for what it sends is dead-lettered
    with pytest.raises(NoAnswer):
        await client.generate(house.key)
    async with Scribe(fleet, unknown) as scribe:
        await is_dead_lettered(fleet, scribe, _honest(scribe, house).record(), "UNAUTHENTICATED")


def _honest(scribe: Scribe, house: House) -> Draft:
    return scribe.draft(Operation.WRAP, WrapBody(key=house.key, items=[WrapItem()]).model_dump_json().encode())


async def _is_served(client: KeyriverClient, key: str) -> bool:
    (made,) = await client.generate(key)
    return isinstance(made, WrappedDek)
