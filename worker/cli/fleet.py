"""`keyriver fleet`: the fleet's own keys. They never leave the token; every customer's rows rest on them."""

from base64 import b64encode
from datetime import UTC, datetime

from cyclopts import App

from worker.cli.officer import As, Json, ask
from worker.cli.output import say, show, show_json, show_table
from worker.model.fleet import (
    FleetKeyResult,
    FleetKeyView,
    FleetKind,
    FleetRotateBody,
    FleetShowBody,
    FleetShowResult,
)
from worker.model.operations import Operation

fleet = App(name="fleet", help="The fleet's own keys: their versions, and the next one.", help_format="markdown")
_NEXT = {
    FleetKind.ROW_MAC: "rows get a MAC of the new version in the background; `keyriver fleet show` counts those left",
    FleetKind.INTAKE_WRAP: "intake keys made from now on are wrapped by it; older halves die with their day",
    FleetKind.SIGNING: "clients that pinned the old key follow the chain; pin the new one where you pin anew",
}


@fleet.command
async def rotate(kind: FleetKind, /, *, why: str = "", signs: As = None, json: Json = False) -> None:
    """Make the next version of a fleet key in the token. A second officer has to approve it.

    What older versions made stays readable. Back up the token before you record it: `keyriver init --backup-recorded`.
    After a leak a rotation alone is not enough. Rows with a MAC of a leaked version are still read. A leaked signing
    key means nothing any more to those who heard of the rotation; who only pinned it can still be shown another chain,
    until the new key is pinned there by hand.

    ```
    keyriver fleet rotate row-mac --why yearly
    keyriver fleet rotate signing
    ```

    Args:
        kind: row-mac, intake-wrap or signing.
        why: The reason; it stands in the event and on the audit trail.
    """
    made = await ask(signs, Operation.FLEET_ROTATE, FleetRotateBody(kind=kind, why=why), FleetKeyResult)
    if json:
        show_json(made)
        return
    show(f"{made.key.kind} version {made.key.number} is the active one")
    say(f"  {_NEXT[kind]}\n  Back up the token now, and say so: keyriver init --backup-recorded")


@fleet.command(name="show")
async def show_(*, signs: As = None, json: Json = False) -> None:
    """Show every version of the fleet's keys, and how many rows or intake keys still rest on it.

    ```
    keyriver fleet show
    ```
    """
    told = await ask(signs, Operation.FLEET_SHOW, FleetShowBody(), FleetShowResult)
    if json:
        show_json(told)
        return
    show_table(("KEY", "VERSION", "STATE", "SINCE", "RESTS ON IT", "PUBLIC KEY"), [_row(one) for one in told.keys])


def _row(view: FleetKeyView) -> tuple[object, ...]:
    since = "init" if view.since_ms is None else datetime.fromtimestamp(view.since_ms / 1000, UTC).date().isoformat()
    public = "-" if view.public_key is None else b64encode(view.public_key).decode()
    return view.kind, view.number, view.state, since, "-" if view.rests is None else view.rests, public
