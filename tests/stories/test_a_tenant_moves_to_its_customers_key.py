"""Provider move (SECURITY S13): out of our token into the customer's keystore, to another vendor's, and back."""

import uuid
from collections.abc import AsyncIterator, Sequence

import pytest

from tests.fleet import Fleet, House
from tests.scribe import Scribe
from tests.stack import Services
from tests.stories.customers import Customers, codes, founded, linked, reads, stored, told, until
from worker.client import ItemError, RequestRefused
from worker.local import Token
from worker.model.bodies import (
    DekItem,
    KeyCreateBody,
    KeyRotateBody,
    KeyShowBody,
    RewrapItem,
    TenantCreateBody,
    UnwrapBody,
)
from worker.model.control import KeyDestroyBody
from worker.model.keystores import Provider
from worker.model.linked import LinkReport, LinkResult, MoveResult
from worker.model.linking import (
    KeystoreTarget,
    LinkDeclareBody,
    LinkShowBody,
    LinkUnlinkBody,
    TenantMoveBody,
)
from worker.model.operations import Operation
from worker.model.replies import KeyResult, KeyView
from worker.model.rows import Origin, State


@pytest.fixture(scope="module")
async def customers(
    stack: Services, kryoptic: Token, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Customers]:
    async with founded(stack, tmp_path_factory.mktemp("moves"), kryoptic) as made:
        made.fleet.start()
        await made.fleet.at_work(1)
        yield made


async def two_layers(fleet: Fleet) -> House:
    """A tenant of two layers whose L1 is in our token."""
    name = f"t{uuid.uuid4().hex[:10]}"
    await fleet.command(Operation.TENANT_CREATE, TenantCreateBody(tenant=name, layers=2))
    key = f"{name}/data"
    await fleet.command(Operation.KEY_CREATE, KeyCreateBody(tenant=name, parent=name, alias=key))
    identity = await fleet.service(name)
    return House(name, name, key, identity, await fleet.client(identity))


async def shown(fleet: Fleet, house: House, key: str) -> KeyView:
    result = await fleet.command(Operation.KEY_SHOW, KeyShowBody(tenant=house.tenant, key=key))
    assert isinstance(result, KeyResult)
    return result.key


async def moved(fleet: Fleet, house: House, to: KeystoreTarget | None) -> MoveResult:
    body = TenantMoveBody(tenant=house.tenant, key=house.tenant, keystore=to)
    result = await fleet.command(Operation.TENANT_MOVE, body)
    assert isinstance(result, MoveResult)
    return result


async def carried_along(fleet: Fleet, house: House, items: Sequence[DekItem]) -> None:
    """A new L2 version under the L1's present one, the DEKs moved to it, and the old L2 version destroyed."""
    await fleet.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.key))
    done = await house.client.rewrap([RewrapItem(id=one.id) for one in items])
    assert not any(isinstance(one, ItemError) for one in done), done
    old = (await shown(fleet, house, house.key)).active_version - 1
    await destroyed(fleet, house, house.key, old)


async def destroyed(fleet: Fleet, house: House, key: str, version: int) -> None:
    await fleet.command(Operation.KEY_DESTROY, KeyDestroyBody(tenant=house.tenant, key=key, version=version))
    await gone(fleet, house, key, version)


async def gone(fleet: Fleet, house: House, key: str, version: int) -> None:
    async def is_gone() -> bool:
        return (await shown(fleet, house, key)).versions[version - 1].state is State.DESTROYED

    await until(is_gone, f"{key} version {version} was not destroyed")


async def test_out_of_our_token_to_the_customer_and_to_another_vendor_and_back(customers: Customers) -> None:
    await moves(customers, Provider.PKCS11)


async def moves(customers: Customers, vendor: Provider) -> None:
    """The whole story; `vendor` is where it goes from the proxy."""
    fleet = customers.fleet
    # Given a tenant with an L1 in our token and DEKs below it
    house = await two_layers(fleet)
    items, deks = await stored(house)
    # When two officers move its L1 to the customer's keystore
    key = f"kek-{uuid.uuid4().hex[:8]}"
    done = await moved(fleet, house, customers.target(Provider.XKS, key))
    # Then they are told what is left under the old version, and everything goes on
    assert [(one.version, one.state, one.children) for one in done.versions] == [
        (1, State.DEACTIVATED, 1),
        (2, State.ACTIVE, 0),
    ]
    assert (await shown(fleet, house, house.tenant)).origin is Origin.EXTERNAL
    assert await reads(house, items, deks)
    # but it is not sovereign: what is under the old L1 opens without the customer
    declare = LinkDeclareBody(tenant=house.tenant, key=house.tenant)
    with pytest.raises(RequestRefused, match="STILL_NEEDED"):
        await fleet.command(Operation.LINK_DECLARE, declare)
    await carried_along(fleet, house, items)
    assert await reads(house, items, deks)
    with pytest.raises(RequestRefused, match="STILL_NEEDED"):
        await fleet.command(Operation.LINK_DECLARE, declare)
    # Only once the old L2 version and the old L1 are destroyed
    await destroyed(fleet, house, house.tenant, 1)
    declared = await fleet.command(Operation.LINK_DECLARE, declare)
    assert isinstance(declared, LinkResult)
    assert declared.link.sovereign
    assert await told(customers, house.tenant, "keyriver.link.declare.v1")
    assert await reads(house, items, deks)
    await _to_another_vendor(customers, house, vendor, items, deks)
    await _and_back(customers, house, items, deks)


async def _to_another_vendor(
    customers: Customers, house: House, vendor: Provider, items: Sequence[DekItem], deks: Sequence[bytes | None]
) -> None:
    fleet = customers.fleet
    await moved(fleet, house, customers.target(vendor, f"kek-{uuid.uuid4().hex[:8]}"))
    before = await fleet.command(Operation.LINK_SHOW, LinkShowBody(tenant=house.tenant, key=house.tenant, version=2))
    assert isinstance(before, LinkReport)
    assert not before.link.sovereign, "there is a key elsewhere now"
    await carried_along(fleet, house, items)
    # The old link has nothing left under it and ends without force
    end = LinkUnlinkBody(tenant=house.tenant, key=house.tenant, version=2)
    await fleet.command(Operation.LINK_UNLINK, end)
    await gone(fleet, house, house.tenant, 2)
    assert await reads(house, items, deks)
    report = await fleet.command(Operation.LINK_SHOW, LinkShowBody(tenant=house.tenant, key=house.tenant))
    assert isinstance(report, LinkReport)
    assert (report.link.provider, report.could_be_sovereign) == (vendor, True)


async def _and_back(customers: Customers, house: House, items: Sequence[DekItem], deks: Sequence[bytes | None]) -> None:
    fleet = customers.fleet
    await moved(fleet, house, None)
    await carried_along(fleet, house, items)
    await fleet.command(Operation.LINK_UNLINK, LinkUnlinkBody(tenant=house.tenant, key=house.tenant, version=3))
    await gone(fleet, house, house.tenant, 3)
    assert (await shown(fleet, house, house.tenant)).origin is Origin.GENERATED
    assert await reads(house, items, deks)


async def test_one_dead_keystore_slows_none_of_twenty_living_ones(customers: Customers) -> None:
    fleet, dead = customers.fleet, f"kek-{uuid.uuid4().hex[:8]}"
    houses = [await linked(customers, Provider.XKS, dead, layers=2)]
    houses += [await linked(customers, Provider.XKS, f"kek-{uuid.uuid4().hex[:8]}", layers=2) for _ in range(20)]
    kept = [await stored(house) for house in houses]
    # Given one customer whose keystore takes every call and answers none
    customers.hang(dead)
    try:
        # When a worker starts anew, with every key cold
        [old] = [member for member in fleet.members if member.is_running]
        fleet.start()
        await fleet.at_work(2)
        old.kill()
        # Then all the others are read, though the dead one is asked for again and again
        for house, (items, deks) in list(zip(houses, kept, strict=True))[1:]:
            assert await reads(house, items, deks), f"{house.tenant} was slowed by another's keystore"
        async with Scribe(fleet, houses[0].identity) as scribe:
            asked = UnwrapBody(items=list(kept[0][0])).model_dump_json(exclude_none=True).encode()
            answer = await scribe.ask(scribe.draft(Operation.UNWRAP, asked, plaintext=True))
        assert set(answer.codes) <= {"KEK_OPENING", "KEYSTORE_UNREACHABLE"}
        assert len(answer.codes) == 3
    finally:
        customers.hang("")

    async def is_read() -> bool:
        return await codes(houses[0], kept[0][0]) == {"OK"}

    await until(is_read, "the dead one woke and was not read")
