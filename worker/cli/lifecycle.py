"""`keyriver key activate|suspend|…|disable|enable|destroy`: the life of a key's versions, and its switch."""

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any, cast

from cyclopts import Parameter

from worker.cli.body import body
from worker.cli.errors import Usage
from worker.cli.key import TenantOf, key, show_view, tenant_of
from worker.cli.officer import As, Json, Officer, ask
from worker.cli.output import say, show, show_json, show_table
from worker.cli.retreat import retreat, together
from worker.model.bodies import CommandBody
from worker.model.control import (
    KeyActivateBody,
    KeyCancelDestroyBody,
    KeyCompromiseBody,
    KeyDeactivateBody,
    KeyDestroyBody,
    KeyDisableBody,
    KeyEnableBody,
    KeyResumeBody,
    KeySuspendBody,
    VersionBody,
)
from worker.model.operations import Operation
from worker.model.replies import DestroyResult, DisableResult, KeyResult
from worker.model.views import Blast

Version = Annotated[int | None, Parameter(name="--version", help="Which version; else the active one.")]
Why = Annotated[str, Parameter(name="--why", help="The reason, for the event and the audit trail.")]
__all__ = ["key"]
_Change = Callable[..., Coroutine[Any, Any, None]]


def _change(operation: Operation, kind: type[VersionBody], text: str) -> _Change:
    async def change(
        name: str,
        /,
        *,
        version: Version = None,
        why: Why = "",
        tenant: TenantOf = None,
        signs: As = None,
        json: Json = False,
    ) -> None:
        asked = body(kind, tenant=tenant_of(name, tenant), key=name, version=version, why=why)
        show_view((await ask(signs, operation, cast("CommandBody", asked), KeyResult)).key, json=json)

    change.__doc__ = text
    return change


for _word, _operation, _kind, _text in (
    ("suspend", Operation.KEY_SUSPEND, KeySuspendBody, "Let a version only unwrap, until it is resumed."),
    ("resume", Operation.KEY_RESUME, KeyResumeBody, "Make a suspended version active again."),
    ("deactivate", Operation.KEY_DEACTIVATE, KeyDeactivateBody, "Let a version only unwrap and be rewrapped from."),
    ("compromise", Operation.KEY_COMPROMISE, KeyCompromiseBody, "Refuse a version to all callers, for good."),
):
    key.command(_change(_operation, _kind, _text), name=_word)


@key.command
async def activate(
    name: str,
    /,
    *,
    version: Version = None,
    at: datetime | None = None,
    why: Why = "",
    tenant: TenantOf = None,
    signs: As = None,
    json: Json = False,
) -> None:
    """Activate a pre-active version (else the newest), at once or at a time.

    ```
    keyriver key activate acme/eu/payments --at 2027-01-01T00:00:00+00:00
    ```

    Args:
        name: The key's alias or id.
        at: When, with a zone; the database's clock decides.
    """
    if at is not None and at.tzinfo is None:
        raise Usage("--at: a time with its zone, as in 2027-01-01T00:00:00+00:00")
    at_ms = None if at is None else round(at.timestamp() * 1000)
    asked = body(KeyActivateBody, tenant=tenant_of(name, tenant), key=name, version=version, at_ms=at_ms, why=why)
    show_view((await ask(signs, Operation.KEY_ACTIVATE, asked, KeyResult)).key, json=json)


@key.command
async def disable(
    name: str | None = None,
    /,
    *,
    region: str | None = None,
    dry_run: Annotated[bool, Parameter(name="--dry-run", negative="")] = False,
    why: Why = "",
    tenant: TenantOf = None,
    signs: As = None,
    json: Json = False,
) -> None:
    """The red button: nothing under the key works any more, until two officers enable it.

    ```
    keyriver key disable acme/eu --dry-run     # what would stop?
    keyriver key disable acme/eu --why 'an intruder in eu'
    keyriver key disable --region us --tenant acme --dry-run     # a country retreats
    ```

    Args:
        name: The key's alias or id.
        region: Instead of a key: every topmost key of the tenant that is bound to this region.
        dry_run: Change nothing; only tell what would stop.
    """
    if (name is None) is (region is None):
        raise Usage("name a key, or a --region with its --tenant")
    if name is None:
        await _retreat(region or "", tenant, signs, dry_run=dry_run, why=why, json=json)
        return
    asked = body(KeyDisableBody, tenant=tenant_of(name, tenant), key=name, dry_run=dry_run, why=why)
    done = await ask(signs, Operation.KEY_DISABLE, asked, DisableResult)
    if json:
        show_json(done)
        return
    show_view(done.key, json=False)
    _show_blast(done.blast)
    if done.press:
        say(f"Nothing has changed. To press it:\n  {done.press}")
    else:
        revision = done.key.disabled_revision
        say(f"To bring it back, two officers:\n  keyriver key enable {name} --revision {revision}")


async def _retreat(region: str, tenant: str | None, signs: As, *, dry_run: bool, why: str, json: bool) -> None:
    if tenant is None:
        raise Usage("--tenant: whose keys of the region?")
    async with Officer(signs) as asking:
        done = await retreat(asking, tenant, region, dry_run=dry_run, why=why)
    if json:
        show_json(done)
        return
    for one in done:
        show_view(one.key, json=False)
    _show_blast(together([one.blast for one in done], tenant))
    if dry_run:
        say(f"Nothing has changed. To press all of it:\n  keyriver key disable --region {region} --tenant {tenant}")
        return
    back = [f"  keyriver key enable {one.key.alias} --revision {one.key.disabled_revision}" for one in done]
    say("\n".join(["To bring it back, two officers:", *back]) if back else "All of it is disabled already.")


@key.command
async def enable(
    name: str,
    /,
    *,
    revision: int,
    why: Why = "",
    tenant: TenantOf = None,
    signs: As = None,
    json: Json = False,
) -> None:
    """Lift a disable. A second officer has to approve it.

    ```
    keyriver key enable acme/eu --revision 7
    ```

    Args:
        name: The key's alias or id.
        revision: Of the disable that is lifted; its answer and `key show` tell it.
    """
    asked = body(KeyEnableBody, tenant=tenant_of(name, tenant), key=name, revision=revision, why=why)
    show_view((await ask(signs, Operation.KEY_ENABLE, asked, KeyResult)).key, json=json)


@key.command
async def destroy(
    name: str,
    /,
    *,
    version: int,
    grace_days: float | None = None,
    force: str | None = None,
    why: Why = "",
    tenant: TenantOf = None,
    signs: As = None,
    json: Json = False,
) -> None:
    """Destroy a version after a grace of 7 to 30 days. A second officer has to approve it.

    ```
    keyriver key destroy acme/eu/payments --version 1
    ```

    Args:
        name: The key's alias or id.
        version: Which version; it must not be active.
        grace_days: How long it can be cancelled; else the fleet's shortest.
        force: The key's name again: destroy it though something still needs it.
    """
    grace_s = None if grace_days is None else round(grace_days * 24 * 3600)
    asked = body(
        KeyDestroyBody,
        tenant=tenant_of(name, tenant),
        key=name,
        version=version,
        grace_s=grace_s,
        force=force,
        why=why,
    )
    show_destroyed(await ask(signs, Operation.KEY_DESTROY, asked, DestroyResult), json=json)


@key.command(name="cancel-destroy")
async def cancel_destroy(
    name: str,
    /,
    *,
    version: int,
    why: Why = "",
    tenant: TenantOf = None,
    signs: As = None,
    json: Json = False,
) -> None:
    """Call a scheduled destruction off. A second officer has to approve it.

    ```
    keyriver key cancel-destroy acme/eu/payments --version 1
    ```

    Args:
        name: The key's alias or id.
        version: Which version.
    """
    asked = body(KeyCancelDestroyBody, tenant=tenant_of(name, tenant), key=name, version=version, why=why)
    show_view((await ask(signs, Operation.KEY_CANCEL_DESTROY, asked, KeyResult)).key, json=json)


def show_destroyed(done: DestroyResult, *, json: bool) -> None:
    """The key, when it goes, and until when backups could bring it back (S15)."""
    if json:
        show_json(done)
        return
    show_view(done.key, json=False)
    due, until = (_date(at) for at in (done.destruction.due_ms, done.destruction.recoverable_until_ms))
    show(f"version {done.destruction.version} is destroyed at {due}, recoverable until {until}")


def _show_blast(blast: Blast) -> None:
    heads = ("LAYER", "REGION", "KEYS", "VERSIONS", "DEKS", "OUTSIDE")
    rows = [
        (f"L{one.layer}", one.region or "-", one.keys, one.versions, one.deks, one.issued_outside)
        for one in blast.layers
    ]
    show_table(heads, rows)
    services = [(one.alias or one.key, one.region or "-", one.deks, one.issued_outside) for one in blast.services]
    show_table(("SERVICE KEY", "REGION", "DEKS", "OUTSIDE"), services)
    if blast.more:
        show(f"and {blast.more} more")


def _date(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
