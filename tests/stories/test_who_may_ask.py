"""Who is answered: registered clients, with their present key, until they are revoked."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.fleet import Fleet, House
from tests.scribe import Draft, Scribe
from worker.client import KeyriverClient
from worker.client.errors import NoAnswer
from worker.client.results import ItemError, WrappedDek
from worker.model.bodies import ClientRevokeBody, ClientRotateBody, WrapBody, WrapItem
from worker.model.operations import Operation, Permission
from worker.model.records import Entry, Outgoing
from worker.model.rows import Algorithm
from worker.model.topics import dead_letter_topic
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
    await _is_dead_lettered(fleet, scribe, _honest(scribe, house).record(), "UNAUTHENTICATED")
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
    await _is_dead_lettered(fleet, scribe, _honest(scribe, house).record(), "UNAUTHENTICATED")


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
    # When it asks, Then no answer comes
    with pytest.raises(NoAnswer):
        await client.generate(house.key)


def _honest(scribe: Scribe, house: House) -> Draft:
    return scribe.draft(Operation.WRAP, WrapBody(key=house.key, items=[WrapItem()]).model_dump_json().encode())


async def _is_served(client: KeyriverClient, key: str) -> bool:
    (made,) = await client.generate(key)
    return isinstance(made, WrappedDek)


async def _is_dead_lettered(fleet: Fleet, scribe: Scribe, record: Outgoing, code: str) -> None:
    """The record goes to its dead-letter topic with its bytes, its headers and this code; its id is never answered."""
    partition, offset = await fleet.send(record)

    def origin(entry: Entry) -> tuple[bytes, bytes]:
        headers = dict(entry.headers)
        return headers["keyriver-dlq-origin-partition"], headers["keyriver-dlq-origin-offset"]

    place = (str(partition).encode(), str(offset).encode())
    async with fleet.tap(dead_letter_topic(record.topic)) as graves:
        entries = await graves.until(lambda read: place in map(origin, read), f"{record.topic}: a dead letter")
    (letter,) = [entry for entry in entries if origin(entry) == place]
    assert dict(letter.headers)["keyriver-dlq-code"] == code.encode()
    assert letter.headers[: len(record.headers)] == record.headers
    assert (letter.key, letter.value) == (record.key, record.value or b"")
    await fleet.caught_up()
    asked = dict(record.headers).get("ce_id", b"").decode()
    assert not await scribe.so_far(asked)
