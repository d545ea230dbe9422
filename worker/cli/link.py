"""`keyriver link`: tenants whose master key stays in the customer's keystore (HYOK)."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import App, Parameter

from worker.cli.body import body
from worker.cli.officer import As, Json, Officer, ask
from worker.cli.output import show, show_json, show_table
from worker.cli.pages import every
from worker.model.keystores import Provider
from worker.model.linked import LinkListResult, LinkReport, LinkResult, LinkView, Standing, UnlinkResult
from worker.model.linking import (
    KeystoreTarget,
    LinkCreateBody,
    LinkCutBody,
    LinkDeclareBody,
    LinkListBody,
    LinkRestoreBody,
    LinkShowBody,
    LinkUnlinkBody,
)
from worker.model.operations import Operation
from worker.model.rows import Suite

link = App(
    name="link",
    help="""Links to customers' keystores (HYOK): a tenant's master key (L1) that the customer keeps. Without his
    keystore's answer nothing under it opens. A link is named by its tenant, and by the L1's version where there are
    several.""",
    help_format="markdown",
)
Version = Annotated[int | None, Parameter(name="--version", help="Version of the L1; else the active one.")]
Why = Annotated[str, Parameter(name="--why", help="The reason, for the event and the audit trail.")]
Endpoint = Annotated[str, Parameter(name="--endpoint", help="https://host/path, or for pkcs11 MODULE/TOKEN-LABEL.")]
KeyThere = Annotated[str, Parameter(name="--key", help="The key's id there; for pkcs11 its label.")]
Credential = Annotated[str, Parameter(name="--credential", help="Name of a credential in the workers' settings.")]


@link.command
async def create(
    tenant: str,
    /,
    *,
    provider: Provider,
    endpoint: Endpoint,
    key: KeyThere,
    credential: Credential,
    layers: int = 3,
    minimum_suite: Suite = Suite.P256,
    signs: As = None,
    json: Json = False,
) -> None:
    """Create a tenant whose master key stays with the customer. The key is tried before it is linked.

    ```
    keyriver link create acme --provider xks --endpoint https://xks.acme.example --key kek-2026 --credential acme
    keyriver link create bank --provider pkcs11 --endpoint luna/bank --key kek-2026 --credential bank
    ```

    Args:
        tenant: Its name.
        provider: What the keystore speaks.
        layers: Key layers above its DEKs, the master key included: 2 to 8.
        minimum_suite: The weakest HPKE suite that its DEKs may travel under.
    """
    there = target(provider, endpoint, key, credential)
    asked = body(LinkCreateBody, tenant=tenant, layers=layers, minimum_suite=minimum_suite, keystore=there)
    _show((await ask(signs, Operation.LINK_CREATE, asked, LinkResult)).link, json=json)


def target(provider: Provider, endpoint: str, key: str, credential: str) -> KeystoreTarget:
    """Where the customer's key is. Raises `Usage`."""
    return body(KeystoreTarget, provider=provider, endpoint=endpoint, key=key, credential=credential)


@link.command(name="show")
async def show_link(tenant: str, /, *, version: Version = None, signs: As = None, json: Json = False) -> None:
    """Show a link, every version of its L1, and what keeps it from being called sovereign.

    ```
    keyriver link show acme
    ```

    Args:
        tenant: Its tenant.
    """
    asked = body(LinkShowBody, tenant=tenant, key=tenant, version=version)
    report = await ask(signs, Operation.LINK_SHOW, asked, LinkReport)
    if json:
        show_json(report)
        return
    _show(report.link, json=False)
    show_standing(report.versions)
    if not report.link.sovereign:
        left = "; `keyriver link declare` may say so" if report.could_be_sovereign else ""
        show(f"not sovereign{left}")


@link.command(name="list")
async def list_links(tenant: str | None = None, /, *, signs: As = None, json: Json = False) -> None:
    """List links, of one tenant or of all.

    ```
    keyriver link list
    ```

    Args:
        tenant: Only this one's.
    """
    async with Officer(signs) as asking:
        links = await every(
            asking,
            Operation.LINK_LIST,
            body(LinkListBody, tenant=tenant),
            LinkListResult,
            lambda page: page.links,
            lambda page: page.links[-1].id if page.more and page.links else None,
        )
    if json:
        show_json(links)
        return
    heads = ("TENANT", "VERSION", "STATE", "PROVIDER", "ENDPOINT", "KEY", "SOVEREIGN")
    show_table(heads, [_row(each) for each in links])


@link.command
async def cut(tenant: str, /, *, version: Version = None, why: Why = "", signs: As = None, json: Json = False) -> None:
    """Stop everything under a link at once, until two officers restore it. The customer's key is not touched.

    ```
    keyriver link cut acme --why 'the customer called'
    ```

    Args:
        tenant: Its tenant.
    """
    asked = body(LinkCutBody, tenant=tenant, key=tenant, version=version, why=why)
    _show((await ask(signs, Operation.LINK_CUT, asked, LinkResult)).link, json=json)


@link.command
async def restore(
    tenant: str,
    /,
    *,
    revision: int,
    version: Version = None,
    why: Why = "",
    signs: As = None,
    json: Json = False,
) -> None:
    """Lift a cut. A second officer has to approve it.

    ```
    keyriver link restore acme --revision 2
    ```

    Args:
        tenant: Its tenant.
        revision: The revision that the cut made, as it was shown.
    """
    asked = body(LinkRestoreBody, tenant=tenant, key=tenant, version=version, revision=revision, why=why)
    _show((await ask(signs, Operation.LINK_RESTORE, asked, LinkResult)).link, json=json)


@link.command
async def unlink(
    tenant: str,
    /,
    *,
    version: int,
    force: str | None = None,
    why: Why = "",
    signs: As = None,
    json: Json = False,
) -> None:
    """End a link for ever: its inner key is destroyed, and nothing wrapped under it ever opens again.

    A second officer has to approve it. It is refused while keys stand under the link.

    ```
    keyriver link unlink acme --version 1
    keyriver link unlink acme --version 1 --force acme     # although keys stand under it
    ```

    Args:
        tenant: Its tenant.
        version: Version of the L1.
        force: The tenant's name again: end it though keys still stand under it.
    """
    asked = body(LinkUnlinkBody, tenant=tenant, key=tenant, version=version, force=force, why=why)
    done = await ask(signs, Operation.LINK_UNLINK, asked, UnlinkResult)
    if json:
        show_json(done)
    else:
        _show(done.link, json=False)
        show(f"its inner key goes now; recoverable until {_date(done.end.recoverable_until_ms)}")


@link.command
async def declare(
    tenant: str, /, *, version: Version = None, why: Why = "", signs: As = None, json: Json = False
) -> None:
    """Call a link sovereign: from now on nothing but the customer's keystore opens the tenant's keys.

    Refused while another version of the L1 is not destroyed, or a key version stands under one.

    ```
    keyriver link declare acme
    ```

    Args:
        tenant: Its tenant.
    """
    asked = body(LinkDeclareBody, tenant=tenant, key=tenant, version=version, why=why)
    _show((await ask(signs, Operation.LINK_DECLARE, asked, LinkResult)).link, json=json)


def show_standing(versions: list[Standing]) -> None:
    """The versions of an L1 and what is left under each."""
    rows = [
        (one.version, one.state.value, "token" if one.link is None else "keystore", one.children) for one in versions
    ]
    show_table(("VERSION", "STATE", "WHERE", "KEYS UNDER IT"), rows)


def _show(view: LinkView, *, json: bool) -> None:
    if json:
        show_json(view)
        return
    for name, value in _lines(view):
        show(f"{name:<12}{value}")


def _lines(view: LinkView) -> Iterator[tuple[str, object]]:
    yield "link", view.id
    yield "tenant", f"{view.tenant}, L1 version {view.version}"
    yield "keystore", f"{view.provider.value} {view.endpoint}"
    yield "key there", view.external_key + (f", version {view.external_version}" if view.external_version else "")
    yield "credential", view.credential
    cut_at = f", by revision {view.cut_revision}" if view.cut_revision else ""
    yield "state", f"{view.state.value}{cut_at}{', sovereign' if view.sovereign else ''}"


def _row(view: LinkView) -> tuple[object, ...]:
    sovereign = "yes" if view.sovereign else "no"
    return view.tenant, view.version, view.state.value, view.provider.value, view.endpoint, view.external_key, sovereign


def _date(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
