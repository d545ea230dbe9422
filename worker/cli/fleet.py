"""`keyriver fleet`: the fleet's own keys. They never leave the token; every customer's rows rest on them."""

from base64 import b64encode
from datetime import UTC, datetime

from cyclopts import App

from worker.cli.body import body
from worker.cli.officer import As, Json, Officer, ask
from worker.cli.output import say, show, show_json, show_table
from worker.client import RequestRefused
from worker.model.codes import Code
from worker.model.fleet import (
    FleetKeyResult,
    FleetKeyView,
    FleetKind,
    FleetRetireBody,
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
    After a leak a rotation alone is not enough. Rows with a MAC of a leaked version are still read, until
    `keyriver fleet retire` ends that. A leaked signing key means nothing any more to those who heard of the rotation;
    who only pinned it can still be shown another chain, until the new key is pinned there by hand.

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


@fleet.command
async def retire(
    kind: FleetKind, number: int, /, *, leaving: int = 0, why: str = "", signs: As = None, json: Json = False
) -> None:
    """Believe an older version of the row MAC key no more, after a leak. A second officer has to approve it.

    Rotate first; then every row gets a MAC of the new version in the background, and `keyriver fleet show` counts what
    still rests on the old one. From then on rows with its MAC count as tampered with, and the token's object is
    destroyed: it is for good, and a backup of the database from before is of no use without the token's.
    What somebody forged badly gets no new MAC and stays: find it in the workers' logs, then say how much with
    `--leaving`. What he forged well does get one: look at officers, clients and rules afterwards.

    ```
    keyriver fleet rotate row-mac --why "a backup of the token is lost"
    keyriver fleet show
    keyriver fleet retire row-mac 1 --why "a backup of the token is lost"
    ```

    Args:
        kind: row-mac; the others are not retired.
        number: The version.
        leaving: So many rows may stay behind.
        why: The reason; it stands in the event and on the audit trail.
    """
    asked = body(FleetRetireBody, kind=kind, number=number, leaving=leaving, why=why)
    async with Officer(signs) as officer:
        try:
            gone = await officer.ask(Operation.FLEET_RETIRE, asked, FleetKeyResult)
        except RequestRefused as refused:
            if refused.code == Code.STILL_NEEDED:
                told = await officer.ask(Operation.FLEET_SHOW, FleetShowBody(), FleetShowResult)
                rests = next((one.rests for one in told.keys if (one.kind, one.number) == (kind, number)), 0)
                say(f"{rests} rows, or words about rows, still rest on {kind} version {number}")
            raise
    if json:
        show_json(gone)
        return
    show(f"{gone.key.kind} version {gone.key.number} is {gone.key.state}: nothing that it made is believed")


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
