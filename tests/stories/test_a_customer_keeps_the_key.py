"""HYOK (SECURITY S13): a customer keeps his master key, cuts it off whenever he likes, and leaves for good."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace

import pytest

from tests.fleet import House
from tests.keystores.https_server import Asked, Hang, Told
from tests.stack import Services
from tests.stories.customers import Customers, codes, founded, linked, reads, stored, told, until
from worker.client import NoAnswer, Pending, RequestRefused
from worker.local import Token
from worker.model.bodies import DekItem, KeyRotateBody
from worker.model.keystores import Provider
from worker.model.linked import LinkReport, LinkResult, UnlinkResult
from worker.model.linking import (
    LinkCreateBody,
    LinkCutBody,
    LinkRestoreBody,
    LinkShowBody,
    LinkUnlinkBody,
)
from worker.model.operations import Operation
from worker.model.rows import State
from worker.model.words import LinkState


@pytest.fixture(scope="module")
async def customers(
    stack: Services, kryoptic: Token, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Customers]:
    async with founded(stack, tmp_path_factory.mktemp("hyok"), kryoptic) as made:
        made.fleet.start()
        await made.fleet.at_work(1)
        yield made


@pytest.fixture(params=Provider)
def provider(request: pytest.FixtureRequest) -> Provider:
    return Provider(request.param)


async def test_a_customer_links_switches_off_and_on_and_leaves(customers: Customers, provider: Provider) -> None:
    fleet, key = customers.fleet, f"kek-{uuid.uuid4().hex[:8]}"
    # Given a tenant whose L1 stays with the customer
    house = await linked(customers, provider, key)
    items, deks = await stored(house)
    assert await reads(house, items, deks)
    # When the customer switches his key off, asking nobody
    customers.rig(provider).switch(key, on=False)

    async def refused() -> bool:
        return await codes(house, items) == {"KEYSTORE_FORBIDDEN"}

    # Then everything under it is refused, new keys included
    await until(refused, "a key that is off was still used")
    with pytest.raises(RequestRefused, match="KEYSTORE_FORBIDDEN"):
        await fleet.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.upper))
    # until he switches it on again
    customers.rig(provider).switch(key, on=True)

    async def answered() -> bool:
        return await reads(house, items, deks)

    await until(answered, "a key that is on again was refused")
    # When an officer cuts the link, at once and alone
    cut = await fleet.command(Operation.LINK_CUT, LinkCutBody(tenant=house.tenant, key=house.tenant, why="rehearsal"))
    assert isinstance(cut, LinkResult)
    assert cut.link.cut_revision is not None
    assert await codes(house, items) == {"LINK_CUT"}
    # Then two have to restore it
    restore = LinkRestoreBody(tenant=house.tenant, key=house.tenant, revision=cut.link.cut_revision)
    with pytest.raises(Pending) as waiting:
        await (await fleet.officer()).command(Operation.LINK_RESTORE, restore)
    assert await codes(house, items) == {"LINK_CUT"}
    await fleet.approve(waiting.value.approval)
    await until(answered, "a link that is restored was refused")  # by another worker, that had not asked him since
    await _leaves_for_good(customers, house, items)


async def _leaves_for_good(customers: Customers, house: House, items: Sequence[DekItem]) -> None:
    fleet = customers.fleet
    # When they part for good, the end is refused while keys stand under the link, save by name and by two
    end = LinkUnlinkBody(tenant=house.tenant, key=house.tenant, version=1, why="they leave")
    with pytest.raises(RequestRefused, match="STILL_NEEDED"):
        await fleet.command(Operation.LINK_UNLINK, end)
    ended = await fleet.command(Operation.LINK_UNLINK, end.model_copy(update={"force": house.tenant}))
    assert isinstance(ended, UnlinkResult)
    assert (ended.link.state, ended.end.forced, ended.end.children) == (LinkState.UNLINKED, True, 1)
    # Then nothing opens any more, though the customer's key is still on
    assert await codes(house, items) == {"KEY_STATE"}

    # and the link's inner key is destroyed in our token
    async def destroyed() -> bool:
        shown = await fleet.command(Operation.LINK_SHOW, LinkShowBody(tenant=house.tenant, key=house.tenant, version=1))
        assert isinstance(shown, LinkReport)
        is_gone = shown.versions[0].state is State.DESTROYED
        return is_gone and await told(customers, house.tenant, "keyriver.key.destroyed.v1")

    await until(destroyed, "the inner key was not destroyed")


async def test_a_customer_rotates_his_key_outside(customers: Customers) -> None:
    fleet, key = customers.fleet, f"kek-{uuid.uuid4().hex[:8]}"
    house = await linked(customers, Provider.TRANSIT, key)
    items, deks = await stored(house)
    # When he rotates his key, telling nobody
    customers.transit.rotate(key)

    # Then his keystore tells, and it is written down once
    async def noticed() -> bool:
        shown = await fleet.command(Operation.LINK_SHOW, LinkShowBody(tenant=house.tenant, key=house.tenant))
        assert isinstance(shown, LinkReport)
        return shown.link.external_version == "2"

    await until(noticed, "the new version was not noticed")
    assert await told(customers, house.tenant, "keyriver.link.rotated.v1")
    # and everything goes on, also for a worker that opens what the old version wrapped
    assert await reads(house, items, deks)
    [old] = [member for member in fleet.members if member.is_running]
    fleet.start()
    await fleet.at_work(2)
    old.kill()
    assert await reads(house, items, deks)


async def test_a_customer_who_cannot_be_reached_is_refused_after_the_limit_and_no_sooner(customers: Customers) -> None:
    key = f"kek-{uuid.uuid4().hex[:8]}"
    house = await linked(customers, Provider.XKS, key)
    other = await linked(customers, Provider.TRANSIT, key)
    items, deks = await stored(house)
    mine, others = await stored(other)
    hasty = replace(house, client=await customers.fleet.client(house.identity, 2.0))
    # When the customer's proxy answers nobody
    customers.xks.proxy.mood = _silent
    try:

        async def refused() -> bool:
            with suppress(NoAnswer):  # the fleet may be slower than a hasty client
                return await codes(hasty, items) == {"KEYSTORE_UNREACHABLE"}
            return False

        # Then his keys are refused once the limit is over, and nobody else's are
        await until(refused, "without contact his keys were still used")
        assert await reads(other, mine, others)
    finally:
        customers.xks.proxy.mood = None

    async def answered() -> bool:
        return await reads(house, items, deks)

    await until(answered, "he answers again and was refused")


def _silent(_asked: Asked, _told: Told) -> Hang:
    return Hang()


async def test_a_key_that_will_not_do_is_not_linked(customers: Customers, provider: Provider) -> None:
    rig, key = customers.rig(provider), f"kek-{uuid.uuid4().hex[:8]}"
    target = customers.target(provider, key)
    rig.switch(key, on=False)
    name = f"t{uuid.uuid4().hex[:10]}"
    for bad, code in (
        (target, "KEYSTORE_FORBIDDEN"),
        (target.model_copy(update={"key": "kek-none"}), "KEYSTORE_FORBIDDEN"),
        (target.model_copy(update={"credential": "nobody"}), "KEYSTORE_UNFIT"),
        (target.model_copy(update={"endpoint": "https://elsewhere.example"}), "KEYSTORE_UNFIT"),
    ):
        with pytest.raises(RequestRefused, match=code):
            await customers.fleet.command(Operation.LINK_CREATE, LinkCreateBody(tenant=name, keystore=bad))
    # and a refusal left nothing behind
    rig.switch(key, on=True)
    made = await customers.fleet.command(Operation.LINK_CREATE, LinkCreateBody(tenant=name, keystore=target))
    assert isinstance(made, LinkResult)
