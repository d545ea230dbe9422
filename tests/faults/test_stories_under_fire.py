"""The stories of a key's life, told again while workers die at failpoints and at random: each ends as in peace."""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.faults.fire import Fire, on_fire
from tests.fleet import Fleet, House
from tests.stack import Services
from tests.stories import test_a_country_retreats as retreat
from tests.stories import test_a_customer_brings_a_key as byok
from tests.stories import test_a_key_is_compromised_and_destroyed as compromise
from tests.stories import test_an_officer_presses_the_red_button as button
from tests.stories import test_fleet_keys_rotate as rotations
from tests.stories.bank import SAFE, Bank
from worker.local import Token

Story = Callable[[Fleet, House], Awaitable[None]]
PATIENCE_S = 120.0
SETTINGS = {"destroy_grace_s": 0, "recoverable_days": 30, "worker_session_s": 2}


def alone(story: Callable[[Fleet], Awaitable[None]]) -> Story:
    """A story that makes its own tenant."""
    return lambda fleet, _: story(fleet)


async def brings(fleet: Fleet) -> None:
    """A customer's BYOK life; his desk is a folder of his own."""
    desk = Path(tempfile.mkdtemp(prefix="desk", dir=fleet.folder.parent))
    await byok.life(Bank(fleet, desk, SAFE), lasts_ms=40_000)


STORIES: dict[str, Story] = {
    "a country retreats": retreat.test_one_region_is_switched_off_and_the_others_go_on,
    "red button at layer 2": button.test_red_button_at_layer_2,
    "red button at layer 1": button.test_a_layer_1_key_needs_two_even_to_stop_and_a_second_stop_voids_the_enable,
    "compromise of a layer 3": alone(compromise.test_a_compromise_is_refused_at_once_and_the_key_goes_on),
    "destruction of two officers": alone(compromise.test_a_destruction_of_two_officers),
    "a customer brings a key": alone(brings),
    "the fleet's own keys rotate": rotations.every_kind,
    "a layer 1 version goes": alone(compromise.test_a_layer_1_version_goes_from_the_token),
}


@pytest.fixture(scope="module")
async def fire(stack: Services, kryoptic: Token, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fire]:
    """A fleet that burns."""
    folder = tmp_path_factory.mktemp("fire")
    async with Fleet.founded(stack, folder, kryoptic, **SETTINGS) as fleet, on_fire(fleet) as burning:
        fleet.patience_s = PATIENCE_S
        yield burning


@pytest.mark.timeout(0)
@pytest.mark.parametrize("story", STORIES)
async def test_it_ends_as_in_peace(fire: Fire, story: str) -> None:
    house = await fire.fleet.tenant()
    fire.strike()
    await STORIES[story](fire.fleet, house)
