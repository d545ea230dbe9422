"""`keyriver trigger`: which events rotate which keys and start campaigns, the dry run, and reporting an event."""

import time
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from worker.cli.body import body
from worker.cli.config import load
from worker.cli.errors import Usage
from worker.cli.key import TenantOf, tenant_of
from worker.cli.officer import TIMEOUT_S, As, Json, Officer, ask
from worker.cli.output import show, show_json, show_table, working
from worker.cli.pages import every
from worker.client import KafkaTransport, KeyriverClient, Options, load_identity
from worker.model.campaign_bodies import FULL_SHARE
from worker.model.operations import Operation
from worker.model.triggering import (
    TriggerAddBody,
    TriggerBody,
    TriggerCheckBody,
    TriggerCheckResult,
    TriggerListBody,
    TriggerListResult,
    TriggerRemoveBody,
    TriggerResult,
    TriggerRuleResult,
    TriggerRuleView,
    misfit,
)
from worker.model.triggers import Occasion, TriggerAction, TriggerEvent
from worker.parts import kafka_access
from worker.settings import Reach

DAY_S = 24 * 3600
NOTHING = 1
"""The exit code of a dry run that found no rule."""
trigger = App(
    name="trigger",
    help="""Let events rotate keys and start campaigns.

    A rule says: on this event, for keys with these aliases, do that. Events come from registered clients that may
    `trigger`, or the fleet sees them by itself: key-age, use-count, parent-rotated, provider-version.

    ```
    keyriver trigger add acme yearly --on key-age --days 365 --keys 'acme/*'
    keyriver trigger add acme left --on member-left --do emergency --keys 'acme/eu/*'
    keyriver trigger check member-left acme/eu/payments
    keyriver trigger send member-left acme/eu/payments --as hr.json
    ```""",
    help_format="markdown",
)
Why = Annotated[str, Parameter(name="--why", help="The reason, for the event and the audit trail.")]


@trigger.command
async def add(
    tenant: str,
    name: str,
    /,
    *,
    on: Occasion,
    do: TriggerAction = TriggerAction.ROTATE,
    keys: str = "*",
    days: int = 0,
    items_per_second: int = 0,
    hsm_share: int = FULL_SHARE,
    destroy_after: float = 0,
    why: Why = "",
    signs: As = None,
    json: Json = False,
) -> None:
    """Add a rule, or put another in the place of the one of this name. A second officer has to approve.

    The most specific rule answers an event: the one with the longest pattern.

    ```
    keyriver trigger add acme yearly --on key-age --days 365 --keys 'acme/*' --items-per-second 5000
    keyriver trigger add acme below --on parent-rotated --do move --keys 'acme/eu'
    ```

    Args:
        tenant: The tenant.
        name: The rule's name: a-z, 0-9 and dashes.
        on: The event.
        do: move (a campaign from the newest old version), rotate (a new version, then that campaign) or emergency
            (the version before is compromised; all keys below get new versions, too).
        keys: A shell pattern over aliases.
        days: The crypto period, with key-age.
        items_per_second: The speed of the campaigns that it starts; 0: no limit.
        hsm_share: Percent of the token's time that they may take, of all processes together.
        destroy_after: Days of grace before a version that they emptied is destroyed; 0: it is kept.
    """
    if wrong := misfit(on, do, days * DAY_S):
        raise Usage(wrong)
    asked = body(
        TriggerAddBody,
        tenant=tenant,
        name=name,
        event=on,
        pattern=keys,
        action=do,
        period_s=days * DAY_S,
        items_s=items_per_second,
        hsm_share=hsm_share,
        destroy_after_s=round(destroy_after * DAY_S),
        why=why,
    )
    _show((await ask(signs, Operation.TRIGGER_ADD, asked, TriggerRuleResult)).trigger, json=json)


@trigger.command
async def remove(tenant: str, name: str, /, *, why: Why = "", signs: As = None, json: Json = False) -> None:
    """Take a rule back: it answers nothing from the next settlement on. One officer is enough.

    ```
    keyriver trigger remove acme yearly
    ```

    Args:
        tenant: The tenant.
        name: The rule's name.
    """
    asked = body(TriggerRemoveBody, tenant=tenant, name=name, why=why)
    _show((await ask(signs, Operation.TRIGGER_REMOVE, asked, TriggerRuleResult)).trigger, json=json)


@trigger.command(name="list")
async def list_rules(tenant: str, /, *, signs: As = None, json: Json = False) -> None:
    """List a tenant's rules, the removed ones too.

    ```
    keyriver trigger list acme
    ```

    Args:
        tenant: The tenant.
    """
    async with Officer(signs) as asking:
        rules = await every(
            asking,
            Operation.TRIGGER_LIST,
            body(TriggerListBody, tenant=tenant),
            TriggerListResult,
            lambda page: page.triggers,
            lambda page: page.after if page.more else None,
        )
    if json:
        show_json(rules)
        return
    show_table(("NAME", "ON", "KEYS", "DO", "PERIOD", "ITEMS/S", "HSM SHARE", "REMOVED"), [_row(one) for one in rules])


@trigger.command
async def check(event: Occasion, key: str, /, *, tenant: TenantOf = None, signs: As = None, json: Json = False) -> int:
    """Say which rule would answer this event for this key, and what it would start now. Nothing is done.

    Exit code 1: no rule answers it.

    ```
    keyriver trigger check key-compromised acme/eu/payments
    ```

    Args:
        event: The event.
        key: The key's alias or id.
    """
    asked = body(TriggerCheckBody, tenant=tenant_of(key, tenant), event=event, key=key)
    told = await ask(signs, Operation.TRIGGER_CHECK, asked, TriggerCheckResult)
    if json:
        show_json(told)
    else:
        show(f"{event} {key}: {_foreseen(told)}")
    return NOTHING if told.rule is None else 0


@trigger.command
async def send(
    event: TriggerEvent,
    key: str,
    /,
    *,
    occurred: int | None = None,
    why: Why = "",
    signs: Annotated[
        Path | None,
        Parameter(name="--as", env_var="KEYRIVER_IDENTITY", help="Identity file of a service that may trigger."),
    ] = None,
    json: Json = False,
) -> None:
    """Report an event, as a service. Reporting the same again (with the same --occurred) does nothing twice.

    ```
    keyriver trigger send member-left acme/eu/payments --why 'HR 4711' --as hr.json
    ```

    Args:
        event: What happened.
        key: To which key: alias or id.
        occurred: When, in Unix milliseconds; else now.
    """
    if signs is None:
        raise Usage("--as: name an identity file")
    when = time.time_ns() // 1_000_000 if occurred is None else occurred
    asked = body(TriggerBody, event=event, key=key, occurred_ms=when, why=why)
    reach, identity = load(Reach), load_identity(signs)
    options = Options(prefix=reach.topic_prefix, timeout_s=TIMEOUT_S)
    async with KeyriverClient(identity, KafkaTransport(kafka_access(reach).options()), options) as client:
        with working("trigger: waiting for the fleet's answer"):
            told = await client.command(Operation.TRIGGER, asked)
    assert isinstance(told, TriggerResult)  # noqa: S101 - the client parsed it by the operation
    if json:
        show_json(told)
        return
    did = f"rotated to version {told.version}" if told.rotated else f"version {told.version} is younger than that"
    show(f"{key}: {did if told.action is not TriggerAction.MOVE else f'version {told.version}'}, by rule {told.fired}")
    if told.campaign is not None:
        moved = f"version {told.campaign.from_version} to {told.campaign.to_version}"
        show(f"campaign {told.campaign.id}: {moved}, {told.campaign.state}")


def _foreseen(told: TriggerCheckResult) -> str:
    if told.rule is None:
        return told.why
    by = f"rule {told.rule.name} ({told.rule.action})"
    if told.why:
        return f"{by}: {told.why}"
    rotates = "a new version" if told.would_rotate else "no new version"
    if told.from_version is None:
        return f"{by}: {rotates}, nothing to move"
    starts = "starts" if told.begins else "is there already:"
    return f"{by}: {rotates}; a {told.kind} campaign {starts} from version {told.from_version} to {told.to_version}"


def _row(view: TriggerRuleView) -> tuple[object, ...]:
    period = f"{view.period_s / DAY_S:g} d" if view.period_s else ""
    removed = "REMOVED" if view.revoked else "no"
    return view.name, view.event, view.pattern, view.action, period, view.items_s, view.hsm_share, removed


def _show(view: TriggerRuleView, *, json: bool) -> None:
    if json:
        show_json(view)
        return
    name, on, keys, do, period, *_ = _row(view)
    show(f"rule {name}: on {on}{period and f' of {period}'}, {do} {keys}{', REMOVED' if view.revoked else ''}")
