"""`keyriver grant`: for a day at most, one client may do something with one key, even under a compromised version."""

from typing import Annotated
from uuid import UUID

from cyclopts import App, Parameter

from worker.cli.body import body, chosen
from worker.cli.key import TenantOf, tenant_of
from worker.cli.officer import As, Json, Officer, ask
from worker.cli.output import show, show_json, show_table
from worker.cli.pages import every
from worker.cli.times import moment
from worker.model.operations import Operation, Permission
from worker.model.policies import GrantGiveBody, GrantListBody, GrantListResult, GrantResult, GrantRevokeBody, GrantView

grant = App(
    name="grant",
    help="""For a few hours one client may unwrap or rewrap under one key, a compromised version included. Giving one
    needs a second officer, taking one back does not.""",
    help_format="markdown",
)
Client = Annotated[str | None, Parameter(name="--client", help="Only this client's.")]


@grant.command
async def give(
    client: str,
    key: str,
    operations: str,
    /,
    *,
    why: str,
    version: int | None = None,
    hours: float = 4.0,
    tenant: TenantOf = None,
    signs: As = None,
    json: Json = False,
) -> None:
    """Give a grant. A compromised version is opened for nobody else; keys below it are opened through it, too.

    ```
    keyriver grant give billing acme/eu/payments rewrap --version 1 --why 'incident 17: move our own blobs'
    keyriver grant give forensics acme/eu/payments unwrap --hours 1 --why 'incident 17'
    ```

    Args:
        client: The client.
        key: The key, alias or id.
        operations: Comma-separated: unwrap, rewrap, rewrap-from.
        why: The reason; it stands in the event and on the audit trail.
        version: Only this version; else any.
        hours: For how long: 24 at most.
    """
    asked = body(
        GrantGiveBody,
        tenant=tenant_of(key, tenant),
        client=client,
        key=key,
        version=version,
        permissions=list(chosen(operations, Permission, "OPERATIONS")),
        for_s=round(hours * 3600),
        why=why,
    )
    _show((await ask(signs, Operation.GRANT_GIVE, asked, GrantResult)).grant, json=json)


@grant.command
async def revoke(tenant: str, grant_id: UUID, /, *, why: str = "", signs: As = None, json: Json = False) -> None:
    """Take a grant back before its time. One officer is enough.

    ```
    keyriver grant revoke acme 01936120-0000-7000-8000-00000000ad01
    ```

    Args:
        tenant: Its tenant.
        grant_id: Its id, from `keyriver grant list`.
        why: The reason.
    """
    asked = body(GrantRevokeBody, tenant=tenant, grant=grant_id, why=why)
    _show((await ask(signs, Operation.GRANT_REVOKE, asked, GrantResult)).grant, json=json)


@grant.command(name="list")
async def list_grants(tenant: str, /, *, client: Client = None, signs: As = None, json: Json = False) -> None:
    """List a tenant's grants, the revoked and the ended ones too.

    ```
    keyriver grant list acme
    keyriver grant list acme --client billing
    ```

    Args:
        tenant: The tenant.
    """
    async with Officer(signs) as asking:
        grants = await every(
            asking,
            Operation.GRANT_LIST,
            body(GrantListBody, tenant=tenant, client=client),
            GrantListResult,
            lambda page: page.grants,
            lambda page: page.after if page.more else None,
        )
    if json:
        show_json(grants)
        return
    heads = ("GRANT", "CLIENT", "MAY", "KEY", "VERSION", "UNTIL", "GIVEN BY", "REVOKED", "WHY")
    show_table(heads, [_row(one) for one in grants])


def _row(view: GrantView) -> tuple[object, ...]:
    until = moment(view.not_after_ms)
    may, version, revoked = ",".join(view.permissions), view.version or "any", "REVOKED" if view.revoked else "no"
    return view.id, view.client, may, view.key, version, until, view.given_by, revoked, view.why


def _show(view: GrantView, *, json: bool) -> None:
    if json:
        show_json(view)
        return
    id_, client, may, key, version, until, given_by, *_ = _row(view)
    show(f"grant {id_}: {client} may {may} under {key}, version {version}, until {until}; given by {given_by}")
    if view.revoked:
        show("REVOKED")
