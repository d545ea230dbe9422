"""Triggers, rules, quotas and the red button of a service key, while workers die at failpoints and at random."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.faults.fire import Fire, on_fire
from tests.fleet import Fleet, House
from tests.stack import Services
from tests.stories import test_an_event_starts_a_campaign as triggers
from tests.stories import test_policy_decides as policy
from tests.stories import test_the_red_button_at_each_layer as button
from tests.stories.test_an_officer_presses_the_red_button import told_leaves
from tests.stories.test_quotas_are_fair import made, quota
from worker.flow.failpoints import DUE_NAMES, NAMES, OF_CAMPAIGNS
from worker.local import Token
from worker.model.operations import Operation
from worker.model.policies import QuotaListResult, TenantQuotasBody

PATIENCE_S = 120.0
PER_S, BURST, CALLERS, EACH = 50, 50, 30, 10


async def red_button_at_layer_3(fleet: Fleet, house: House) -> None:
    estate = await button.an_estate(fleet, house)
    await button.test_the_report_is_the_rehearsals(fleet, estate, 3, ("eu/cards",), [(3, 1, 2, 1)])


async def the_quota(fleet: Fleet, house: House) -> tuple[int | None, int | None]:
    listed = await fleet.command(Operation.TENANT_QUOTAS, TenantQuotasBody(tenant=house.tenant))
    assert isinstance(listed, QuotaListResult)
    (one,) = listed.quotas
    return one.per_second, one.burst


async def a_quota_holds(fleet: Fleet, house: House) -> None:
    """What a dead worker had leased is lost; nobody gets more because somebody died."""
    before = len(fleet.members)
    await quota(fleet, house, per_second=PER_S, burst=BURST)
    begun = time.monotonic()
    got = await asyncio.gather(*(made(house.client, house.key, EACH) for _ in range(CALLERS)))
    took = time.monotonic() - begun
    assert sum(got) == CALLERS * EACH
    workers = len(fleet.members) - before + 2
    assert took >= (CALLERS * EACH - BURST - EACH * workers) / PER_S - 0.5
    assert await the_quota(fleet, house) == (PER_S, BURST)
    await quota(fleet, house)
    assert await the_quota(fleet, house) == (None, None)
    assert len(await told_leaves(fleet, house.tenant, "keyriver.tenant.quota.v1")) == 2, "each command counts once"


async def a_hundred_reports(fleet: Fleet, house: House) -> None:
    assert await triggers.a_hundred_reports(fleet, house) > 0


STORIES: dict[str, Callable[[Fleet, House], Awaitable[None]]] = {
    "a hundred reports": a_hundred_reports,
    "who left had all below": triggers.test_who_left_had_the_key_and_all_below_it,
    "news of a compromise": triggers.test_news_of_a_compromise_comes_after_a_rotation,
    "the parent rotated": triggers.test_what_stands_under_a_rotated_parent_is_moved_by_itself,
    "a rule of two officers": policy.test_a_rule_needs_two_officers_and_one_takes_it_back,
    "patterns and contexts": policy.test_patterns_and_contexts,
    "rules at both ends": policy.test_s11_a_rewrap_to_another_key_needs_a_rule_at_both_ends,
    "a quota": a_quota_holds,
    "red button at layer 3": red_button_at_layer_3,
}


@pytest.fixture(scope="module")
async def fire(stack: Services, kryoptic: Token, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fire]:
    """A fleet that burns, between the steps of slices, too."""
    folder, points = tmp_path_factory.mktemp("policy"), NAMES + DUE_NAMES + OF_CAMPAIGNS
    async with Fleet.founded(stack, folder, kryoptic) as fleet, on_fire(fleet, points) as burning:
        fleet.patience_s = PATIENCE_S
        yield burning


@pytest.mark.timeout(0)
@pytest.mark.parametrize("story", STORIES)
async def test_it_ends_as_in_peace(fire: Fire, story: str) -> None:
    house = await fire.fleet.tenant()
    fire.strike()
    await STORIES[story](fire.fleet, house)
