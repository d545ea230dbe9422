"""A country retreats: what is bound to one region stops, the others go on; a region is only where its token is."""

from dataclasses import dataclass

import pytest

from tests.fleet import Fleet, House
from tests.stories.test_an_officer_presses_the_red_button import told_leaves
from worker.cli.pages import R
from worker.cli.retreat import retreat, together
from worker.client import ItemError, RequestRefused, Unwrapped, WrappedDek
from worker.model.bodies import CommandBody, DekItem, KeyCreateBody
from worker.model.control import KeyEnableBody
from worker.model.operations import Operation
from worker.model.regional import RegionListBody, RegionListResult, RegionSetBody
from worker.model.replies import DisableResult


@dataclass(frozen=True, slots=True)
class Desk:
    """The officer at the command line."""

    fleet: Fleet

    async def ask(self, operation: Operation, body: CommandBody, kind: type[R]) -> R:
        result = await self.fleet.command(operation, body)
        assert isinstance(result, kind)
        return result


async def serial_of(fleet: Fleet) -> str:
    """Of the token in which the fleet's master keys are."""
    return str(await fleet.pool.fetchval("SELECT serial FROM keyriver.versions WHERE serial <> '' LIMIT 1"))


async def registered(fleet: Fleet, house: House, name: str, *serials: str) -> str:
    """A region of this test's own."""
    region = f"{name}-{house.tenant[1:8]}"
    await fleet.command(Operation.REGION_SET, RegionSetBody(region=region, serials=list(serials)))
    return region


async def country(fleet: Fleet, house: House, region: str, deks: int) -> list[DekItem]:
    """An L2 that is bound to the region, an L3 under it, and DEKs."""
    upper, key = f"{house.tenant}/{region}", f"{house.tenant}/{region}/ledger"
    bound = KeyCreateBody(tenant=house.tenant, parent=house.tenant, alias=upper, region=region)
    await fleet.command(Operation.KEY_CREATE, bound)
    await fleet.command(Operation.KEY_CREATE, KeyCreateBody(tenant=house.tenant, parent=upper, alias=key))
    made = await house.client.generate(key, deks)
    return [DekItem(id=one.id) for one in made if isinstance(one, WrappedDek)]


async def codes(house: House, items: list[DekItem]) -> list[str]:
    found = await house.client.unwrap(items)
    return [one.code if isinstance(one, ItemError) else "" for one in found]


async def test_one_region_is_switched_off_and_the_others_go_on(fleet: Fleet, house: House) -> None:
    # Given a tenant with keys in two countries, and one that is bound to none
    here = await serial_of(fleet)
    eu, us = [await registered(fleet, house, name, here) for name in ("eu", "us")]
    in_eu, in_us = await country(fleet, house, eu, 3), await country(fleet, house, us, 2)
    anywhere = [DekItem(id=one.id) for one in await house.client.generate(house.key, 2) if isinstance(one, WrappedDek)]
    desk = Desk(fleet)
    # When the officer rehearses the retreat
    rehearsed = await retreat(desk, house.tenant, us, dry_run=True, why="")
    report = together([one.blast for one in rehearsed], house.tenant)
    # Then he is told what would stop in that region, and nothing has changed
    assert [(one.layer, one.region, one.keys, one.deks) for one in report.layers] == [(2, us, 1, 0), (3, us, 1, 2)]
    assert await codes(house, in_us) == [""] * 2
    # When he presses it
    pressed = await retreat(desk, house.tenant, us, dry_run=False, why="a court order")
    # Then that region's keys are refused, all else goes on, and the report is that of the rehearsal
    assert await codes(house, in_us) == ["KEY_DISABLED"] * 2
    assert await codes(house, [*in_eu, *anywhere]) == [""] * 5
    assert together([one.blast for one in pressed], house.tenant) == report
    told = await told_leaves(fleet, house.tenant, "keyriver.key.disable.v1")
    assert [(leaf["now"], leaf["why"], leaf["blast"]) for leaf in told] == [
        ("disabled", "a court order", one.blast.model_dump(mode="json")) for one in pressed
    ]
    assert await retreat(desk, house.tenant, us, dry_run=False, why="") == [], "it is off"
    # And two officers bring it back
    for one in pressed:
        assert isinstance(one, DisableResult)
        revision = one.key.disabled_revision or 0
        await fleet.command(
            Operation.KEY_ENABLE, KeyEnableBody(tenant=house.tenant, key=str(one.key.id), revision=revision)
        )
    assert await codes(house, in_us) == [""] * 2


async def test_a_region_is_where_its_token_is(fleet: Fleet, house: House) -> None:
    """S19."""
    here = await serial_of(fleet)
    eu = await registered(fleet, house, "eu", here)
    abroad = await registered(fleet, house, "jp", "another-token")
    listed = await fleet.command(Operation.REGION_LIST, RegionListBody())
    assert isinstance(listed, RegionListResult)
    assert {eu: [here], abroad: ["another-token"]}.items() <= {
        one.region: one.serials for one in listed.regions
    }.items()
    # Given a key in the region of this token; one of another token's, or of nobody's, can't be made here
    items = await country(fleet, house, eu, 2)
    for region in (abroad, "nowhere"):
        create = KeyCreateBody(tenant=house.tenant, parent=house.tenant, alias=f"{house.tenant}/x", region=region)
        with pytest.raises(RequestRefused, match="WRONG_REGION"):
            await fleet.command(Operation.KEY_CREATE, create)
    # When the region becomes another token, then its keys open nothing here from the officers' answer on
    await fleet.command(Operation.REGION_SET, RegionSetBody(region=eu, serials=["another-token"], why="they moved"))
    assert await codes(house, items) == ["WRONG_REGION"] * 2
    # When both are of the region, as while keys move, then they do
    await fleet.command(Operation.REGION_SET, RegionSetBody(region=eu, serials=["another-token", here]))
    assert all(isinstance(one, Unwrapped) for one in await house.client.unwrap(items))
