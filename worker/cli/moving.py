"""`keyriver tenant move|follow`: a tenant's master key goes to another provider, and its layer 2 follows."""

from uuid import UUID

from worker.cli.body import body
from worker.cli.errors import Usage
from worker.cli.link import show_standing, target
from worker.cli.officer import As, Json, Officer, ask
from worker.cli.output import show, show_json, show_table
from worker.cli.tenant import tenant
from worker.model.bodies import KeyListBody, KeyRotateBody, KeyShowBody
from worker.model.keystores import Provider
from worker.model.linked import MoveResult
from worker.model.linking import TenantMoveBody
from worker.model.operations import Operation
from worker.model.replies import KeyListResult, KeyResult, KeyView

__all__ = ["tenant"]


@tenant.command
async def move(
    name: str,
    /,
    *,
    provider: Provider | None = None,
    endpoint: str = "",
    key: str = "",
    credential: str = "",
    why: str = "",
    signs: As = None,
    json: Json = False,
) -> None:
    """Give the master key a new version in a customer's keystore, or (without --provider) in our own token.

    A second officer has to approve it. Then `keyriver tenant follow` moves layer 2, and campaigns what is below.

    ```
    keyriver tenant move acme --provider xks --endpoint https://xks.acme.example --key kek-2026 --credential acme
    keyriver tenant move acme                 # back into our token
    ```

    Args:
        name: The tenant.
        provider: What the customer's keystore speaks; none: our token.
        endpoint: https://host/path, or for pkcs11 MODULE/TOKEN-LABEL.
        key: The key's id there; for pkcs11 its label.
        credential: Name of a credential in the workers' settings.
        why: The reason, for the event and the audit trail.
    """
    if provider is None and (endpoint or key or credential):
        raise Usage("--provider: name what the keystore speaks, or leave all of it out to move into our token")
    keystore = None if provider is None else target(provider, endpoint, key, credential)
    asked = body(TenantMoveBody, tenant=name, key=name, keystore=keystore, why=why)
    done = await ask(signs, Operation.TENANT_MOVE, asked, MoveResult)
    if json:
        show_json(done)
    else:
        show(f"the master key of {done.tenant} has version {done.to_version} now")
        show_standing(done.versions)


@tenant.command
async def follow(name: str, /, *, why: str = "", signs: As = None, json: Json = False) -> None:
    """Rotate every layer 2 key that is still under an older version of the master key, and tell what is left.

    Safe to run again. What stands under the old layer 2 versions is a campaign's work.

    ```
    keyriver tenant follow acme
    ```

    Args:
        name: The tenant.
        why: The reason, for the events and the audit trail.
    """
    async with Officer(signs) as officer:
        root = await _shown(officer, name, name)
        keys = [await _shown(officer, name, str(one.id)) for one in await _layer_2(officer, name)]
        behind = [one for one in keys if _is_behind(one, root.active_version)]
        for one in behind:
            asked = body(KeyRotateBody, tenant=name, key=str(one.id), why=why)
            await officer.ask(Operation.KEY_ROTATE, asked, KeyResult)
        after = [await _shown(officer, name, str(one.id)) for one in keys]
    if json:
        show_json(after)
        return
    show(f"{len(behind)} of {len(keys)} layer 2 keys were rotated to the master key's version {root.active_version}")
    rows = [
        (one.alias or one.id, version.number, version.state.value, version.parent_version)
        for one in after
        for version in one.versions
        if version.parent_version != root.active_version
    ]
    show_table(("LAYER 2 KEY", "VERSION", "STATE", "UNDER L1 VERSION"), rows)


async def _shown(officer: Officer, tenant_name: str, key: str) -> KeyView:
    return (await officer.ask(Operation.KEY_SHOW, body(KeyShowBody, tenant=tenant_name, key=key), KeyResult)).key


async def _layer_2(officer: Officer, tenant_name: str) -> list[KeyView]:
    found: list[KeyView] = []
    page = KeyListResult(keys=[], more=True)
    while page.more:
        after = None if page.next_after is None else UUID(page.next_after)
        page = await officer.ask(Operation.KEY_LIST, body(KeyListBody, tenant=tenant_name, after=after), KeyListResult)
        found += [one for one in page.keys if one.layer == 2]  # noqa: PLR2004 - what hangs on the master key
    return found


def _is_behind(key: KeyView, l1_version: int) -> bool:
    active = next((one for one in key.versions if one.number == key.active_version), None)
    return active is not None and active.parent_version != l1_version
