"""HYOK while workers die at failpoints, those around a keystore among them, and at random: it ends as in peace."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.faults.fire import Fire, on_fire
from tests.stack import Services
from tests.stories import test_a_customer_keeps_the_key as keeps
from tests.stories import test_a_tenant_moves_to_its_customers_key as moves
from tests.stories.customers import Customers, founded, linked, reads, stored
from worker.flow.failpoints import DUE_NAMES, NAMES, OF_KEYSTORES
from worker.local import Token
from worker.model.keystores import Provider

PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Scene:
    """Customers whose fleet burns."""

    customers: Customers
    fire: Fire


@pytest.fixture(scope="module")
async def scene(
    stack: Services, kryoptic: Token, softhsm: Token, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    folder, points = tmp_path_factory.mktemp("fire"), NAMES + DUE_NAMES + OF_KEYSTORES * 3
    async with founded(stack, folder, softhsm, kryoptic, worker_session_s=2) as customers:
        customers.fleet.patience_s = PATIENCE_S
        async with on_fire(customers.fleet, points) as burning:
            yield Scene(customers, burning)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("provider", [Provider.XKS, Provider.TRANSIT])
async def test_a_customer_switches_off_and_on_and_leaves(scene: Scene, provider: Provider) -> None:
    scene.fire.strike()
    await keeps.test_a_customer_links_switches_off_and_on_and_leaves(scene.customers, provider)


@pytest.mark.timeout(0)
async def test_a_tenant_moves_out_and_back(scene: Scene) -> None:
    scene.fire.strike()
    await moves.moves(scene.customers, Provider.TRANSIT)


@pytest.mark.timeout(0)
async def test_somebody_dies_around_a_keystore(scene: Scene) -> None:
    """The point comes to whoever is armed with it sooner or later; until then customers go on coming."""
    async with asyncio.timeout(600):
        while not any(scene.fire.deaths[point] for point in OF_KEYSTORES):
            house = await linked(scene.customers, Provider.XKS, f"kek-{uuid.uuid4().hex[:8]}", layers=2)
            assert await reads(house, *await stored(house))
