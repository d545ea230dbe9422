"""What a campaign's settlements rest on: taken away one by one, these let a slice or an end slip past a change."""

from dataclasses import replace
from uuid import uuid4

from tests.unit.campaigns.test_layers import Table
from tests.unit.campaigns.test_slices import Desk
from worker.chain.campaign_end import completed
from worker.chain.campaign_parts import parts_of
from worker.chain.resolve import Chains
from worker.chain.slices import decide, ends, resting
from worker.model.campaigns import LAST_ID, CampaignKind, CampaignState, Slice
from worker.model.codes import Code
from worker.model.effects import Seen
from worker.model.ids import NO_ID


async def test_a_part_rests_on_the_campaign_above_it() -> None:
    """Else a slice of it would settle after the deep campaign was paused."""
    desk = await Desk.laid()
    parent = replace(desk.campaign, id=uuid4(), revision=41)
    held = Slice(desk.campaign.id, 1, 0, NO_ID, LAST_ID, 1)
    seen = decide(held, desk.campaign, desk.at, desk.rows, parent).seen
    assert {Seen(desk.campaign.ref, desk.campaign.revision), Seen(parent.ref, 41)} <= set(seen)
    assert resting(desk.campaign, None) == (Seen(desk.campaign.ref, desk.campaign.revision),)


async def test_an_end_rests_on_the_version_that_it_retires() -> None:
    """Else a version that was scheduled for destruction or compromised meanwhile would be put back as it was."""
    desk = await Desk.laid()
    verifying = replace(desk.campaign, state=CampaignState.VERIFYING)
    version = replace(desk.facts.versions[verifying.key, 1], revision=9)
    done = completed(verifying, None, desk.facts, version, b"{}")
    assert done is not None
    assert Seen(version.ref, 9) in done.seen


async def test_a_key_that_was_rotated_again_has_another_end() -> None:
    desk = await Desk.laid()
    key = desk.facts.keys[desk.campaign.key]
    again = replace(desk.facts, keys={**desk.facts.keys, key.id: replace(key, active_version=3, latest_version=3)})
    assert ends(desk.campaign, again, Chains(again)) is Code.CAMPAIGN_STATE


async def test_what_stands_under_another_version_by_now_is_no_part() -> None:
    """A place is a hint; the verified row says under which version it stands."""
    table = await Table.laid(CampaignKind.DEEP)
    moved = replace(table.facts, versions=table.with_version(parent_version=2))
    found = parts_of(table.campaign, moved, [(table.payments, 1)], ())
    assert (found.left.rows, found.planned, found.waiting, found.done) == (0, (), 0, ())
