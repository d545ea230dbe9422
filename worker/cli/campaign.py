"""`keyriver campaign`: move everything under an old key version to the active one, and prove that nothing is left."""

import sys
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from cyclopts import App, Parameter

from worker.cli.body import body
from worker.cli.campaign_show import bar_of, draw, moment, show_campaign, views, write
from worker.cli.key import TenantOf, tenant_of
from worker.cli.officer import As, Json, Officer, ask
from worker.cli.output import show, show_json, show_table
from worker.cli.pages import every
from worker.model.campaign_bodies import (
    FULL_SHARE,
    CampaignCancelBody,
    CampaignExposedBody,
    CampaignFailuresBody,
    CampaignListBody,
    CampaignPauseBody,
    CampaignPlanBody,
    CampaignReplayBody,
    CampaignResumeBody,
    CampaignShowBody,
    CampaignStartBody,
    CampaignThrottleBody,
)
from worker.model.campaign_replies import (
    CampaignExposedResult,
    CampaignFailuresResult,
    CampaignListResult,
    CampaignPlanResult,
    CampaignResult,
)
from worker.model.campaigns import CampaignKind, CampaignState
from worker.model.operations import Operation

campaign = App(
    name="campaign",
    help="""Move everything under an old version of a key to its active one, while everything keeps serving.

    ```
    keyriver key rotate acme/eu/payments
    keyriver campaign plan acme/eu/payments      # how much, how long?
    keyriver campaign start acme/eu/payments
    keyriver campaign watch ID --tenant acme
    ```""",
    help_format="markdown",
)
Of = Annotated[str, Parameter(name="--tenant", help="Its tenant.")]
From = Annotated[int | None, Parameter(name="--from", help="Which version; else the newest that is not active.")]
Deep = Annotated[
    bool, Parameter(name="--deep", negative="", help="New versions of all keys below too, and then their DEKs.")
]
Speed = Annotated[int, Parameter(name="--items-per-second", help="Of all processes together; 0: no limit.")]
Share = Annotated[int, Parameter(name="--hsm-share", help="Percent of the token's time, of all processes together.")]
After = Annotated[
    float,
    Parameter(name="--destroy-after", help="Days of grace before the emptied version goes; 0: it is kept."),
]
Why = Annotated[str, Parameter(name="--why", help="The reason, for the event and the audit trail.")]
DAY_S = 24 * 3600
_Changing = CampaignPauseBody | CampaignResumeBody | CampaignCancelBody | CampaignReplayBody
_Change = Callable[..., Coroutine[Any, Any, None]]


@campaign.command
async def plan(
    name: str,
    /,
    *,
    from_version: From = None,
    deep: Deep = False,
    tenant: TenantOf = None,
    signs: As = None,
    json: Json = False,
) -> None:
    """Tell what a campaign would move, in how many HSM operations, and how long it would take. Changes nothing.

    ```
    keyriver campaign plan acme/eu/payments
    keyriver campaign plan acme/eu --from 1 --deep
    ```

    Args:
        name: The key's alias or id.
    """
    words = {"key": name, "from_version": from_version, "kind": _kind_of(deep=deep)}
    asked = body(CampaignPlanBody, tenant=tenant_of(name, tenant), **words)
    done = await ask(signs, Operation.CAMPAIGN_PLAN, asked, CampaignPlanResult)
    if json:
        show_json(done)
        return
    show(f"{done.alias or done.key}  version {done.from_version} to {done.to_version}, {done.kind}")
    rows = [(layer.layer, layer.items, layer.hsm_operations) for layer in done.layers]
    show_table(("LAYER", "ITEMS", "HSM OPERATIONS"), rows)
    how = "measured" if done.measured else "assumed: nothing was measured yet"
    show(f"about {done.seconds:.0f} s with one process at {done.rate:.0f} items/s ({how})")
    if done.issued_outside:
        show(f"{done.issued_outside} blobs left the database and are not moved: see `keyriver rewrap`")


@campaign.command
async def start(
    name: str,
    /,
    *,
    from_version: From = None,
    deep: Deep = False,
    items_per_second: Speed = 0,
    hsm_share: Share = FULL_SHARE,
    destroy_after: After = 0,
    why: Why = "",
    tenant: TenantOf = None,
    signs: As = None,
    json: Json = False,
) -> None:
    """Start a campaign, or one that was cancelled again. Starting it twice starts nothing new.

    ```
    keyriver campaign start acme/eu/payments --items-per-second 5000
    keyriver campaign start acme/eu --deep --why 'version 1 was compromised'
    keyriver campaign start acme/eu/payments --destroy-after 7      # a second officer approves
    ```

    With `--destroy-after` the old version is scheduled for destruction once nothing is left under it, unless blobs left
    the database; until its time comes `keyriver key cancel-destroy` calls that off.

    Args:
        name: The key's alias or id.
    """
    words = {"key": name, "from_version": from_version, "kind": _kind_of(deep=deep), "why": why}
    words |= {"items_s": items_per_second, "hsm_share": hsm_share, "destroy_after_s": round(destroy_after * DAY_S)}
    asked = body(CampaignStartBody, tenant=tenant_of(name, tenant), **words)
    show_campaign((await ask(signs, Operation.CAMPAIGN_START, asked, CampaignResult)).campaign, json=json)


@campaign.command
async def watch(id: UUID, /, *, tenant: Of, signs: As = None, json: Json = False) -> int:  # noqa: A002 - the user's word
    """Follow a campaign until it is over: a bar with rate and remaining time; exit code 0 if it is done.

    ```
    keyriver campaign watch 01936120-0000-7000-8000-00000000ca01 --tenant acme
    ```

    Args:
        id: The campaign.
    """
    async with Officer(signs) as officer:
        with ExitStack() as stack:
            bar = stack.enter_context(bar_of()) if sys.stderr.isatty() else None
            async for view in views(officer, tenant, id):
                draw(bar, view)
    show_campaign(view, json=json)
    return 0 if view.state is CampaignState.DONE else 1


@campaign.command(name="show")
async def show_one(id: UUID, /, *, tenant: Of, signs: As = None, json: Json = False) -> None:  # noqa: A002
    """Show one campaign, with its certificate once it is done.

    ```
    keyriver campaign show ID --tenant acme --json | jq -r .certificate
    ```

    Args:
        id: The campaign.
    """
    asked = body(CampaignShowBody, tenant=tenant, campaign=id)
    show_campaign((await ask(signs, Operation.CAMPAIGN_SHOW, asked, CampaignResult)).campaign, json=json)


def _change(operation: Operation, kind: type[_Changing], text: str) -> _Change:
    async def change(id: UUID, /, *, tenant: Of, why: Why = "", signs: As = None, json: Json = False) -> None:  # noqa: A002
        asked = body(kind, tenant=tenant, campaign=id, why=why)
        show_campaign((await ask(signs, operation, asked, CampaignResult)).campaign, json=json)

    change.__doc__ = f"{text}\n\nArgs:\n    id: The campaign."
    return change


for _word, _operation, _kind, _text in (
    (
        "pause",
        Operation.CAMPAIGN_PAUSE,
        CampaignPauseBody,
        "Stop a campaign until it is resumed; slices at work leave nothing.",
    ),
    ("resume", Operation.CAMPAIGN_RESUME, CampaignResumeBody, "Go on with a paused campaign."),
    ("cancel", Operation.CAMPAIGN_CANCEL, CampaignCancelBody, "End a campaign; what was moved stays moved."),
    ("replay", Operation.CAMPAIGN_REPLAY, CampaignReplayBody, "Try again what failed, once its cause was mended."),
):
    campaign.command(_change(_operation, _kind, _text), name=_word)


@campaign.command
async def throttle(
    id: UUID,  # noqa: A002
    /,
    *,
    tenant: Of,
    items_per_second: Speed = 0,
    hsm_share: Share = FULL_SHARE,
    signs: As = None,
    json: Json = False,
) -> None:
    """Change a campaign's speed at once.

    ```
    keyriver campaign throttle ID --tenant acme --items-per-second 2000 --hsm-share 50
    ```

    Args:
        id: The campaign.
    """
    words = {"items_s": items_per_second, "hsm_share": hsm_share}
    asked = body(CampaignThrottleBody, tenant=tenant, campaign=id, **words)
    show_campaign((await ask(signs, Operation.CAMPAIGN_THROTTLE, asked, CampaignResult)).campaign, json=json)


@campaign.command
async def failures(id: UUID, /, *, tenant: Of, signs: As = None, json: Json = False) -> None:  # noqa: A002
    """List what could not be moved, and why.

    Args:
        id: The campaign.
    """
    async with Officer(signs) as officer:
        found = await every(
            officer,
            Operation.CAMPAIGN_FAILURES,
            body(CampaignFailuresBody, tenant=tenant, campaign=id),
            CampaignFailuresResult,
            lambda page: page.failures,
            lambda page: page.failures[-1].item if page.more and page.failures else None,
        )
    if json:
        show_json(found)
    else:
        show_table(("ITEM", "CODE", "AT"), [(one.item, one.code, moment(one.at_ms)) for one in found])


@campaign.command
async def exposed(id: UUID, /, *, tenant: Of, out: Path | None = None, signs: As = None) -> None:  # noqa: A002
    """Export the ids of the DEKs that a campaign moved away from a version: who had that version had these.

    After a compromise they need re-encryption; a rewrap is none.

    ```
    keyriver campaign exposed ID --tenant acme --out exposed.txt
    ```

    Args:
        id: The campaign.
        out: Where to write them, one a line; else stdout.
    """
    async with Officer(signs) as officer:
        ids = await every(
            officer,
            Operation.CAMPAIGN_EXPOSED,
            body(CampaignExposedBody, tenant=tenant, campaign=id),
            CampaignExposedResult,
            lambda page: page.exposed,
            lambda page: page.place,
        )
    write(out, ids)


@campaign.command(name="list")
async def list_campaigns(tenant: str | None = None, /, *, signs: As = None, json: Json = False) -> None:
    """List campaigns, of one tenant or of all.

    ```
    keyriver campaign list acme
    ```

    Args:
        tenant: The tenant.
    """
    async with Officer(signs) as officer:
        found = await every(
            officer,
            Operation.CAMPAIGN_LIST,
            body(CampaignListBody, tenant=tenant),
            CampaignListResult,
            lambda page: page.campaigns,
            lambda page: page.campaigns[-1].id if page.more and page.campaigns else None,
        )
    if json:
        show_json(found)
        return
    rows = [
        (one.id, one.tenant, one.alias or one.key, f"{one.from_version} to {one.to_version}", one.kind, one.state)
        for one in found
    ]
    show_table(("ID", "TENANT", "KEY", "VERSIONS", "KIND", "STATE"), rows)


def _kind_of(*, deep: bool) -> CampaignKind:
    return CampaignKind.DEEP if deep else CampaignKind.SHALLOW
