"""How `keyriver campaign` shows what it was told: one campaign, a bar while it runs, ids in a file."""

import asyncio
import json as json_
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from worker.cli.officer import Officer
from worker.cli.output import say, show, show_json
from worker.model.campaign_bodies import FULL_SHARE, CampaignShowBody
from worker.model.campaign_replies import CampaignResult, CampaignView
from worker.model.campaigns import CampaignState
from worker.model.operations import Operation

LOOK_S = 1.0
OVER = (CampaignState.DONE, CampaignState.FAILED, CampaignState.CANCELLED)


def write(out: Path | None, ids: list[UUID]) -> None:
    """One id a line, into the file or on stdout."""
    text = "".join(f"{one}\n" for one in ids)
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text)
        say(f"{len(ids)} ids in {out}")


async def views(officer: Officer, tenant: str, id_: UUID) -> AsyncIterator[CampaignView]:
    """How it stands, once a second until it is over."""
    asked = CampaignShowBody(tenant=tenant, campaign=id_)
    while True:
        view = (await officer.ask(Operation.CAMPAIGN_SHOW, asked, CampaignResult)).campaign
        yield view
        if view.state in OVER:
            return
        await asyncio.sleep(LOOK_S)


def bar_of() -> Progress:
    """An empty bar on stderr."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))


def draw(bar: Progress | None, view: CampaignView) -> None:
    """How far it is: on the bar, or a line where there is no terminal."""
    told = f"{view.alias or view.key} {view.state}: {view.remaining} left, {view.failed} failed, {view.rate:.0f}/s"
    if view.pace < 1:
        told += f", backing off: at {view.pace:.0%} of full speed, for interactive answers are slow"
    total = max(view.items, view.remaining, 1)
    if bar is None:
        say(told)
        return
    if not bar.tasks:
        bar.add_task(told, total=total)
    bar.update(TaskID(0), description=told, total=total, completed=total - view.remaining)


def show_campaign(view: CampaignView, *, json: bool) -> None:
    """One campaign, for people or for programs."""
    if json:
        show_json(view)
        return
    show(f"{view.id}  {view.alias or view.key}  version {view.from_version} to {view.to_version}, {view.kind}")
    speed = f", {view.items_s} items/s at most" if view.items_s else ""
    share = f", {view.hsm_share} % of the token" if view.hsm_share < FULL_SHARE else ""
    show(f"{view.state}: {view.moved} moved, {view.remaining} left, {view.failed} failed{speed}{share}")
    if view.destroy_after_s:
        show(f"once it is done the old version is destroyed after {view.destroy_after_s / 86400:.3g} days of grace")
    if view.failed:
        show(f"see `keyriver campaign failures {view.id} --tenant {view.tenant}`")
    if view.issued_outside:
        show(f"{view.issued_outside} blobs left the database: they are not moved, nothing is destroyed for them")
    if view.certificate:
        show(json_.dumps(json_.loads(view.certificate), indent=2))


def moment(at_ms: int) -> str:
    """A time for people."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
