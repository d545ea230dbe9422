"""The demo's campaign: everything under the old version moves to the new one while reads go on, with a certificate."""

import json
from uuid import UUID

from worker.cli.campaign_show import views
from worker.cli.demo_orders import order, printed, refused
from worker.cli.demo_story import Story
from worker.cli.officer import Officer
from worker.model.campaign_replies import CampaignView
from worker.model.campaigns import CampaignState

SHOWN = ("key", "from_version", "to_version")
SPEED = 500
"""Items a second: slow enough to be watched."""


async def campaign(story: Story, tenant: str) -> CampaignView:
    """Follow the bar of the campaign that the event started, to its end."""
    (begun,) = json.loads(await printed(f"campaign list {tenant} --json"))
    story.typed(f"keyriver campaign watch {begun['id']} --tenant {tenant}")
    with story.bar("moved", begun["items"]) as reach:
        async with Officer(None) as officer:
            async for view in views(officer, tenant, UUID(begun["id"])):
                reach(view.items - view.remaining)
    return view


def certified(story: Story, view: CampaignView) -> bool:
    """Show what the fleet signed; whether it says that nothing is left."""
    if view.state is not CampaignState.DONE or view.certificate is None:
        story.tell(f"the campaign is {view.state}", "bold red")
        return False
    told = json.loads(view.certificate)
    story.tell("certificate, signed with the fleet key: " + ", ".join(f"{name} {told[name]}" for name in SHOWN))
    return view.remaining == 0


async def only_when_empty(story: Story, key: str, *, empty: bool) -> bool:
    """Version 1 is destroyed only when nothing needs it, and by two officers."""
    line = f"key destroy {key} --version 1"
    if not empty:
        return await refused(story, line) == "STILL_NEEDED"
    await order(story, line)
    shown = json.loads(await printed(f"key show {key} --json"))
    return any(version["state"] == "destroy-scheduled" for version in shown["versions"])
