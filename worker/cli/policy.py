"""`keyriver policy`: rules, which allow a client more than its own row does."""

from typing import Annotated
from uuid import UUID

from cyclopts import App, Parameter

from worker.cli.body import body, chosen
from worker.cli.officer import As, Json, Officer, ask
from worker.cli.output import show, show_json, show_table
from worker.cli.pages import every
from worker.cli.times import in_days, moment
from worker.model.operations import Operation, Permission
from worker.model.policies import (
    CheckResult,
    GrantView,
    PolicyAllowBody,
    PolicyCheckBody,
    PolicyListBody,
    PolicyRevokeBody,
    RuleListResult,
    RuleResult,
    RuleView,
)
from worker.model.rows import Suite

policy = App(
    name="policy",
    help="""What clients may do besides what they were registered with. Rules only allow: what nothing allows is
    refused. Adding one needs a second officer, taking one back does not.""",
    help_format="markdown",
)
Client = Annotated[str | None, Parameter(name="--client", help="Only this client's.")]
ContextKeys = Annotated[str, Parameter(name="--context", help="Comma-separated keys of an item's context.")]
NOT_ALLOWED = 1


@policy.command
async def allow(
    tenant: str,
    client: str,
    operations: str,
    /,
    *,
    keys: str = "*",
    region: str = "",
    days: int = 365,
    context: ContextKeys = "",
    suite: Suite | None = None,
    why: str = "",
    signs: As = None,
    json: Json = False,
) -> None:
    """Add a rule. What it demands is demanded of each item.

    ```
    keyriver policy allow acme billing unwrap --keys 'acme/eu/*' --days 90 --why 'quarterly report'
    keyriver policy allow acme billing wrap,unwrap --region eu --context table,row
    keyriver policy allow acme archive rewrap-from --keys acme/eu/payments
    keyriver policy allow acme vault unwrap --suite mlkem768-x25519
    ```

    Args:
        tenant: The client's tenant.
        client: The client.
        operations: Comma-separated: wrap, unwrap, rewrap, rewrap-from, rewrap-to.
        keys: A shell pattern over aliases; `*` also crosses slashes.
        region: Only keys of this region.
        days: For how long.
        suite: The weakest HPKE suite that plaintext may travel under.
        why: The reason; it stands in the event and on the audit trail.
    """
    asked = body(
        PolicyAllowBody,
        tenant=tenant,
        client=client,
        permissions=list(chosen(operations, Permission, "OPERATIONS")),
        pattern=keys,
        region=region,
        not_after_ms=in_days(days),
        context_keys=_words(context),
        minimum_suite=suite,
        why=why,
    )
    _show((await ask(signs, Operation.POLICY_ALLOW, asked, RuleResult)).rule, json=json)


@policy.command
async def revoke(tenant: str, rule: UUID, /, *, why: str = "", signs: As = None, json: Json = False) -> None:
    """Take a rule back: it allows nothing from the next settlement on. One officer is enough.

    ```
    keyriver policy revoke acme 01936120-0000-7000-8000-00000000ac01
    ```

    Args:
        tenant: Its tenant.
        rule: Its id, from `keyriver policy list`.
        why: The reason.
    """
    asked = body(PolicyRevokeBody, tenant=tenant, rule=rule, why=why)
    _show((await ask(signs, Operation.POLICY_REVOKE, asked, RuleResult)).rule, json=json)


@policy.command(name="list")
async def list_rules(tenant: str, /, *, client: Client = None, signs: As = None, json: Json = False) -> None:
    """List a tenant's rules, the revoked and the ended ones too.

    ```
    keyriver policy list acme
    keyriver policy list acme --client billing
    ```

    Args:
        tenant: The tenant.
    """
    async with Officer(signs) as asking:
        rules = await every(
            asking,
            Operation.POLICY_LIST,
            body(PolicyListBody, tenant=tenant, client=client),
            RuleListResult,
            lambda page: page.rules,
            lambda page: page.after if page.more else None,
        )
    if json:
        show_json(rules)
        return
    heads = ("RULE", "CLIENT", "MAY", "KEYS", "REGION", "CONTEXT", "SUITE", "UNTIL", "REVOKED")
    show_table(heads, [_row(one) for one in rules])


@policy.command
async def check(
    tenant: str,
    client: str,
    operation: Permission,
    key: str,
    /,
    *,
    version: int | None = None,
    context: ContextKeys = "",
    suite: Suite | None = None,
    signs: As = None,
    json: Json = False,
) -> int:
    """Say whether a client would be allowed something, and by what. Nothing is done. Exit code 1: it would not.

    ```
    keyriver policy check acme billing unwrap acme/eu/payments
    keyriver policy check acme billing unwrap acme/eu/payments --version 1 --context table,row
    ```

    Args:
        tenant: The client's tenant.
        client: The client.
        operation: What it would do.
        key: The key, alias or id.
        version: Of the key; else the active one.
        suite: The HPKE suite that the plaintext would travel under; else that of its registered recipient key.
    """
    asked = body(
        PolicyCheckBody,
        tenant=tenant,
        client=client,
        permission=operation,
        key=key,
        version=version,
        context_keys=_words(context),
        suite=suite,
    )
    told = await ask(signs, Operation.POLICY_CHECK, asked, CheckResult)
    if json:
        show_json(told)
    else:
        show(f"{client} {operation} {key}: {_verdict(told)}")
    return 0 if told.allowed else NOT_ALLOWED


def _verdict(told: CheckResult) -> str:
    if not told.allowed:
        return f"refused, {told.code}{told.why and f' ({told.why})'}"
    by: RuleView | GrantView | None = told.rule or told.grant
    if by is None:
        return "allowed by what it was registered with"
    return f"allowed by the {'rule' if told.rule else 'grant'} {by.id} until {moment(by.not_after_ms)}"


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _row(view: RuleView) -> tuple[object, ...]:
    context, suite = ",".join(view.context_keys) or "any", view.minimum_suite or "any"
    may, until, region = ",".join(view.permissions), moment(view.not_after_ms), view.region or "any"
    revoked = "REVOKED" if view.revoked else "no"
    return view.id, view.client, may, view.pattern, region, context, suite, until, revoked


def _show(view: RuleView, *, json: bool) -> None:
    if json:
        show_json(view)
        return
    id_, client, may, keys, region, context, suite, until, _ = _row(view)
    show(f"rule {id_}: {client} may {may} on {keys}, region {region}, context {context}, suite {suite}, until {until}")
    if view.revoked:
        show("REVOKED")
