"""`keyriver tenant`."""

from typing import Literal

from cyclopts import App

from worker.cli.body import body
from worker.cli.officer import As, Json, ask
from worker.cli.output import show, show_json
from worker.model.bodies import TenantCreateBody
from worker.model.operations import Operation
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
