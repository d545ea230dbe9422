"""The red button at L1, L2 and L3: the rehearsal tells what the press then stops, and two officers bring it back."""

import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.fleet import Fleet, House
from tests.stack import Services
from tests.stories.test_an_officer_presses_the_red_button import disabled, told_leaves
from worker.client import ItemError, WrappedDek
from worker.local import softhsm
from worker.model.bodies import DekItem, KeyCreateBody, KeyShowBody
from worker.model.control import KeyEnableBody
from worker.model.operations import Operation
from worker.model.replies import KeyResult

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Estate:
    """A tenant with two countries and three services; DEKs of each, of `outside` one blob more that is not stored."""

    house: House
    deks: dict[str, list[DekItem]]

    async def codes(self) -> dict[str, str]:
        """What becomes of an unwrap under each service key; empty: it works."""
        found: dict[str, str] = {}
        for key, items in self.deks.items():
            done = await self.house.client.unwrap(items)
            (found[key],) = {one.code if isinstance(one, ItemError) else "" for one in done}
        return found


@pytest.fixture
async def estate(fleet: Fleet, house: House) -> Estate:
    return await an_estate(fleet, house)


async def an_estate(fleet: Fleet, house: House) -> Estate:
    """The house with more keys, and DEKs under each of its services."""
    tenant = house.tenant
    keys = [f"{tenant}/eu/payments", f"{tenant}/eu/cards", f"{tenant}/us/payments"]
    for parent, alias in ((tenant, f"{tenant}/us"), (f"{tenant}/eu", keys[1]), (f"{tenant}/us", keys[2])):
        await fleet.command(Operation.KEY_CREATE, KeyCreateBody(tenant=tenant, parent=parent, alias=alias))
    deks: dict[str, list[DekItem]] = {}
    for count, key in enumerate(keys, start=1):
        stored = await house.client.generate(key, count)
        outside = await house.client.generate(key, 1, store=False)
        deks[key] = [DekItem(id=one.id) for one in stored if isinstance(one, WrappedDek)]
        deks[key] += [DekItem(blob=one.blob) for one in outside if isinstance(one, WrappedDek)]
    return Estate(house, deks)


@pytest.mark.parametrize(
    ("layer", "below", "report"),
    [
        (1, ("eu/payments", "eu/cards", "us/payments"), [(1, 1, 0, 0), (2, 2, 0, 0), (3, 3, 6, 3)]),
        (2, ("eu/payments", "eu/cards"), [(2, 1, 0, 0), (3, 2, 3, 2)]),
        (3, ("eu/cards",), [(3, 1, 2, 1)]),
    ],
    ids=["L1", "L2", "L3"],
)
async def test_the_report_is_the_rehearsals(
    fleet: Fleet, estate: Estate, layer: int, below: tuple[str, ...], report: list[tuple[int, ...]]
) -> None:
    house = estate.house
    key = {1: house.tenant, 2: house.upper, 3: f"{house.tenant}/eu/cards"}[layer]
    everything = dict.fromkeys(estate.deks, "")
    stopped = {f"{house.tenant}/{name}": "KEY_DISABLED" for name in below}
    # When the officer rehearses, then he is told what would stop, and nothing has changed
    rehearsed = await disabled(fleet, house, key, dry_run=True)
    assert [(one.layer, one.keys, one.deks, one.issued_outside) for one in rehearsed.blast.layers] == report
    assert {one.alias for one in rehearsed.blast.services} == stopped.keys()
    assert rehearsed.press == f"keyriver key disable {key} --tenant {house.tenant}"
    assert await estate.codes() == everything
    # When he presses it (at L1 with a second officer), then that and nothing else stops, and the report is the same
    pressed = await disabled(fleet, house, key)
    assert (pressed.key.enabled, pressed.blast) == (False, rehearsed.blast)
    assert await estate.codes() == everything | stopped
    assert await report_on_the_trail(fleet, house) == pressed.blast.model_dump(mode="json")
    # When two officers lift it, then everything works again
    revision = pressed.key.disabled_revision or 0
    lifted = await fleet.command(
        Operation.KEY_ENABLE, KeyEnableBody(tenant=house.tenant, key=key, revision=revision, why="a drill")
    )
    assert isinstance(lifted, KeyResult)
    assert lifted.key.enabled
    assert await estate.codes() == everything


async def report_on_the_trail(fleet: Fleet, house: House) -> object:
    """In the leaf of the disable, or of the approval that carried it out."""
    kinds = ("keyriver.key.disable.v1", "keyriver.approval.approve.v1")
    leaves = [leaf for kind in kinds for leaf in await told_leaves(fleet, house.tenant, kind)]
    (blast,) = [leaf["blast"] for leaf in leaves if leaf.get("now") == "disabled"]
    return blast


@pytest.fixture
async def million(stack: Services, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Fleet, House]]:
    """A fleet of its own, with a million stored DEKs under one service key; the deltas of the census not yet folded."""
    folder = tmp_path_factory.mktemp("million")
    async with Fleet.founded(stack, folder, softhsm.token(folder / "token")) as fleet:
        fleet.start()
        house = await fleet.tenant()
        shown = await fleet.command(Operation.KEY_SHOW, KeyShowBody(tenant=house.tenant, key=house.key))
        assert isinstance(shown, KeyResult)
        await fleet.pool.execute(
            """INSERT INTO keyriver.deks (id, key, version, blob)
               SELECT md5(n::text)::uuid, $1, 1, '\\x00' FROM generate_series(1, $2::int) AS n""",
            shown.key.id,
            MILLION,
            timeout=300,
        )
        await fleet.pool.execute(
            """INSERT INTO keyriver.census (key, version, stored, issued_outside)
               SELECT $1, 1, 100, 0 FROM generate_series(1, $2::int / 100)""",
            shown.key.id,
            MILLION,
        )
        yield fleet, house


async def test_a_rehearsal_over_a_million_deks(million: tuple[Fleet, House]) -> None:
    fleet, house = million
    begun = time.monotonic()
    rehearsed = await disabled(fleet, house, house.tenant, dry_run=True)
    sys.stdout.write(f"\nthe rehearsal over {MILLION} DEKs took {time.monotonic() - begun:.2f} s\n")
    assert [(one.layer, one.deks) for one in rehearsed.blast.layers] == [(1, 0), (2, 0), (3, MILLION)]
    assert [(one.alias, one.deks) for one in rehearsed.blast.services] == [(house.key, MILLION)]
    stored = "SELECT count(*) FROM keyriver.deks WHERE key = (SELECT key FROM keyriver.aliases WHERE name = $1)"
    assert await fleet.pool.fetchval(stored, house.key, timeout=120) == MILLION
    pressed = await disabled(fleet, house, house.tenant)
    assert pressed.blast == rehearsed.blast
