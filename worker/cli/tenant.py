"""`keyriver tenant`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from worker.cli.body import body
from worker.cli.errors import Usage
from worker.cli.officer import As, Json, Officer, ask
from worker.cli.output import show, show_json, show_table
from worker.cli.pages import every
from worker.model.bodies import TenantCreateBody
from worker.model.operations import Operation
from worker.model.policies import QuotaListResult, QuotaResult, QuotaView, TenantQuotaBody, TenantQuotasBody
from worker.model.replies import TenantResult
from worker.model.rows import Suite

tenant = App(name="tenant", help="Customers of the fleet.", help_format="markdown")


@tenant.command
async def create(
    name: str,
    /,
    *,
    layers: int = 3,
    minimum_suite: Suite = Suite.P256,
    origin: Literal["generated", "imported"] = "generated",
    signs: As = None,
    json: Json = False,
) -> None:
    """Create a tenant and its master key (L1), a token object. The master key's alias is the tenant's name.

    ```
    keyriver tenant create acme                # L1 → L2 → L3 → DEKs
    keyriver tenant create shop --layers 2     # L1 → L2 → DEKs
    keyriver tenant create bank --layers 5
    keyriver tenant create acme --origin imported    # it waits for a key of the customer's (`key import-parameters`)
    ```

    Args:
        name: Its name: a-z, 0-9 and dashes.
        layers: Key layers above its DEKs, the master key included: 2 to 8. It can't be changed later.
        minimum_suite: The weakest HPKE suite that its DEKs may travel under.
        origin: Where the master key's material comes from: made in the token, or imported.
    """
    asked = body(TenantCreateBody, tenant=name, layers=layers, minimum_suite=minimum_suite, origin=origin)
    made = await ask(signs, Operation.TENANT_CREATE, asked, TenantResult)
    if json:
        show_json(made)
    else:
        show(f"tenant {made.tenant}: {made.layers} layers, master key {made.key.id} ({made.key.alias})")


@tenant.command
async def quota(
    name: str,
    /,
    *,
    per_second: int | None = None,
    burst: int | None = None,
    unlimited: Annotated[bool, Parameter(name="--unlimited", negative="")] = False,
    client: str | None = None,
    why: str = "",
    signs: As = None,
    json: Json = False,
) -> None:
    """Show a tenant's quotas, or set one. A wrapped or unwrapped DEK costs 1, a rewrapped one 2.

    ```
    keyriver tenant quota acme
    keyriver tenant quota acme --per-second 500 --burst 2000
    keyriver tenant quota acme --client batch --per-second 50
    keyriver tenant quota acme --unlimited
    ```

    Args:
        name: The tenant.
        per_second: What it may cost in a second.
        burst: What it may cost at once after a rest; else as much as in a second.
        unlimited: There is no bound any more.
        client: One of its clients; else the tenant as a whole.
        why: The reason; it stands in the event and on the audit trail.
    """
    if per_second is None and not unlimited:
        if burst is not None or client is not None:
            raise Usage("--per-second: how much? Or --unlimited")
        quotas = await _quotas(name, signs)
        if json:
            show_json(quotas)
        else:
            show_table(("WHOSE", "A SECOND", "AT ONCE", "SET BY", "WHY"), [_row(one) for one in quotas])
        return
    if per_second is not None and unlimited:
        raise Usage("--unlimited: not together with --per-second")
    asked = body(TenantQuotaBody, tenant=name, client=client, per_second=per_second, burst=burst, why=why)
    put = (await ask(signs, Operation.TENANT_QUOTA, asked, QuotaResult)).quota
    if json:
        show_json(put)
    else:
        whose, rate, at_once, *_ = _row(put)
        show(f"quota of {whose}: {rate} a second, {at_once} at once")


async def _quotas(name: str, signs: Path | None) -> list[QuotaView]:
    async with Officer(signs) as asking:
        return await every(
            asking,
            Operation.TENANT_QUOTAS,
            body(TenantQuotasBody, tenant=name),
            QuotaListResult,
            lambda page: page.quotas,
            lambda page: _id(page.quotas[-1]) if page.more and page.quotas else None,
        )


def _id(view: QuotaView) -> str:
    return view.tenant if view.client is None else f"{view.tenant}/{view.client}"


def _row(view: QuotaView) -> tuple[object, ...]:
    return _id(view), view.per_second or "unlimited", view.burst or "unlimited", view.set_by, view.why
