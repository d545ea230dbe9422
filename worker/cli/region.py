"""`keyriver region`: which tokens a region is (S19)."""

from typing import Annotated

from cyclopts import App, Parameter

from worker.cli.body import body
from worker.cli.officer import As, Json, Officer, ask
from worker.cli.output import show, show_json, show_table
from worker.cli.pages import every
from worker.model.operations import Operation
from worker.model.regional import RegionListBody, RegionListResult, RegionResult, RegionSetBody

region = App(
    name="region",
    help="""Regions are tokens: a key that is bound to one works only under a master key in one of its tokens.
    Workers on another token serve topics of their own (`topic_prefix`).""",
    help_format="markdown",
)


@region.command(name="set")
async def set_region(
    name: str,
    /,
    *,
    serial: Annotated[list[str], Parameter(name="--serial", negative="")],
    why: Annotated[str, Parameter(name="--why", help="The reason, for the event and the audit trail.")] = "",
    signs: As = None,
    json: Json = False,
) -> None:
    """Say which token a region is, by its serial (`keyriver doctor` shows it). A second officer has to approve it.

    ```
    keyriver region set eu --serial 4b1f00d2c0ffee11
    keyriver region set eu --serial OLD --serial NEW     # while keys move from one token to another
    ```

    Args:
        name: The region, as in `keyriver key create --region`.
        serial: The token's serial; more than once for several tokens.
    """
    asked = body(RegionSetBody, region=name, serials=serial, why=why)
    done = await ask(signs, Operation.REGION_SET, asked, RegionResult)
    if json:
        show_json(done)
    else:
        show(f"region {done.set_region.region}: {', '.join(done.set_region.serials)}")


@region.command(name="list")
async def list_regions(*, signs: As = None, json: Json = False) -> None:
    """List the fleet's regions and their tokens.

    ```
    keyriver region list
    ```
    """
    async with Officer(signs) as asking:
        found = await every(
            asking,
            Operation.REGION_LIST,
            body(RegionListBody),
            RegionListResult,
            lambda page: page.regions,
            lambda page: page.regions[-1].region if page.more and page.regions else None,
        )
    if json:
        show_json(found)
    else:
        show_table(("REGION", "TOKENS"), [(one.region, ", ".join(one.serials)) for one in found])
