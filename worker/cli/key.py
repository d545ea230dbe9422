"""`keyriver key`: keys by alias path (`acme/eu/payments`) or by id."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from uuid import UUID

from cyclopts import App, Parameter
from rich.console import Console
from rich.tree import Tree

from worker.cli.body import body
from worker.cli.errors import Usage
from worker.cli.officer import As, Json, Officer, ask
from worker.cli.output import show, show_json, show_table
from worker.cli.retreat import every_key
from worker.model.bodies import KeyCreateBody, KeyRotateBody, KeyShowBody
from worker.model.fields import Reason
from worker.model.operations import Operation
from worker.model.replies import KeyResult, KeyView

key = App(
    name="key",
    help="""Keys of a tenant's chain. A key is named by its alias path, which begins with the tenant
    (`acme/eu/payments`), or by its id, together with `--tenant`.""",
    help_format="markdown",
)
TenantOf = Annotated[str | None, Parameter(name="--tenant", help="Its tenant; of an alias it is the first part.")]

PreActive = Annotated[
    bool, Parameter(name="--pre-active", negative="", help="It does nothing before `keyriver key activate`.")
]


@key.command
async def create(
    alias: str,
    /,
    *,
    parent: str | None = None,
    region: str = "",
    pre_active: PreActive = False,
    tenant: TenantOf = None,
    signs: As = None,
    json: Json = False,
) -> None:
    """Create a key inside the token, wrapped under its parent.

    ```
    keyriver key create acme/eu                    # L2, under the master key `acme`
    keyriver key create acme/eu/payments           # L3, under acme/eu
    keyriver key create acme/hr --parent acme/eu
    ```

    Args:
        alias: Its name from now on.
        parent: The key above it, alias or id; else the alias without its last part.
        region: Bind it to a region, one of `keyriver region list`: it works only in that region's tokens.
    """
    above = parent or alias.rpartition("/")[0]
    if not above:
        raise Usage(f"{alias} has no parent: an alias begins with its tenant, as in acme/eu")
    words = {"parent": above, "alias": alias, "region": region, "pre_active": pre_active}
    asked = body(KeyCreateBody, tenant=tenant_of(alias, tenant), **words)
    show_view((await ask(signs, Operation.KEY_CREATE, asked, KeyResult)).key, json=json)


@key.command
async def rotate(
    name: str,
    /,
    *,
    reason: Reason = Reason.OPERATOR,
    pre_active: PreActive = False,
    why: str = "",
    tenant: TenantOf = None,
    signs: As = None,
    json: Json = False,
) -> None:
    """Make a new active version. The one before still unwraps; nothing is rewrapped.

    ```
    keyriver key rotate acme/eu/payments
    keyriver key rotate acme/eu/payments --reason compromise    # the one before is refused from now on
    ```

    Args:
        name: The key's alias or id.
        reason: Why; `compromise` is the emergency.
        why: The same in words, for the event and the audit trail.
    """
    words = {"reason": reason, "pre_active": pre_active, "why": why}
    asked = body(KeyRotateBody, tenant=tenant_of(name, tenant), key=name, **words)
    show_view((await ask(signs, Operation.KEY_ROTATE, asked, KeyResult)).key, json=json)


@key.command(name="show")
async def show_key(name: str, /, *, tenant: TenantOf = None, signs: As = None, json: Json = False) -> None:
    """Show one key with its versions and their states.

    ```
    keyriver key show acme/eu/payments
    ```

    Args:
        name: The key's alias or id.
    """
    asked = body(KeyShowBody, tenant=tenant_of(name, tenant), key=name)
    show_view((await ask(signs, Operation.KEY_SHOW, asked, KeyResult)).key, json=json)


@key.command(name="list")
async def list_keys(tenant: str, /, *, signs: As = None, json: Json = False) -> None:
    """List a tenant's keys.

    ```
    keyriver key list acme
    keyriver key list acme --json | jq '.[].id'
    ```

    Args:
        tenant: The tenant.
    """
    keys = await _all(tenant, signs)
    if json:
        show_json(keys)
        return
    heads = ("ALIAS", "ID", "LAYER", "PURPOSE", "VERSION", "ENABLED")
    show_table(heads, [_row(each) for each in keys])


@key.command
async def tree(tenant: str, /, *, signs: As = None, json: Json = False) -> None:
    """Show a tenant's chain as a tree.

    ```
    keyriver key tree acme
    ```

    Args:
        tenant: The tenant.
    """
    keys = await _all(tenant, signs)
    if json:
        show_json(nested(by_parent(keys), None))
        return
    below = by_parent(keys)
    for root in below.get(None, ()):
        Console(highlight=False, markup=False, soft_wrap=True).print(_grown(root, below))


Below = Mapping[UUID | None, Sequence[KeyView]]
"""Keys by the one above them."""


def by_parent(keys: Iterable[KeyView]) -> Below:
    """Keys by the one above them, in the order of their aliases."""
    below: dict[UUID | None, list[KeyView]] = {}
    for one in sorted(keys, key=lambda one: one.alias):
        below.setdefault(one.parent, []).append(one)
    return below


def nested(below: Below, parent: UUID | None) -> list[dict[str, object]]:
    """The keys below one, each with those below it."""
    return [{**one.model_dump(mode="json"), "children": nested(below, one.id)} for one in below.get(parent, ())]


def _grown(root: KeyView, below: Below) -> Tree:
    label = f"{root.alias or root.id}  L{root.layer}  v{root.active_version}{'' if root.enabled else '  DISABLED'}"
    branch = Tree(label)
    for child in below.get(root.id, ()):
        branch.add(_grown(child, below))
    return branch


async def _all(tenant: str, signs: Path | None) -> list[KeyView]:
    async with Officer(signs) as asking:
        return await every_key(asking, tenant)


def _row(view: KeyView) -> tuple[object, ...]:
    enabled = "yes" if view.enabled else "NO"
    return view.alias or "-", view.id, f"L{view.layer}", view.purpose, view.active_version, enabled


def tenant_of(name: str, given: str | None) -> str:
    """Whose key it is. Raises `Usage`."""
    if given:
        return given
    try:
        UUID(name)
    except ValueError:
        return name.partition("/")[0]
    raise Usage("--tenant: an id does not say whose key it is")


def show_view(view: KeyView, *, json: bool) -> None:
    """One key, for people or for programs."""
    if json:
        show_json(view)
        return
    where = f", region {view.region}" if view.region else ""
    switch = "" if view.enabled else f", DISABLED by revision {view.disabled_revision}"
    show(f"{view.alias or '-'}  {view.id}")
    show(f"layer {view.layer}, {view.purpose}, {view.origin}{where}{switch}, active version {view.active_version}")
    for version in view.versions:
        made = _moment(version.created_ms)
        due = f", due {_moment(version.due_ms)}" if version.due_ms else ""
        gone = ", WITHOUT ITS MATERIAL: import it" if version.absent else ""
        until = f", material until {_moment(version.not_after_ms)}" if version.not_after_ms else ""
        show(f"  v{version.number}  {version.state}{gone}{due}{until}  {made}")


def _moment(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
