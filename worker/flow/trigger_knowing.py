"""What reports and their rules have to know: the tenant's rules, then what the key's old versions wrap and became."""

from collections.abc import Sequence
from uuid import UUID

from worker.chain.trigger_commands import trigger_paging
from worker.chain.triggers import Occurred, campaigns_of, old_version, rules_page
from worker.model.facts import Question
from worker.model.rows import Alias, Key, Row, Version
from worker.model.triggering import (
    AnyTriggerBody,
    TriggerAddBody,
    TriggerBody,
    TriggerCheckBody,
    TriggerListBody,
    TriggerRemoveBody,
)
from worker.model.triggers import Occasion, TriggerAction, trigger_ref


def first(tenant: str, body: AnyTriggerBody) -> Question:
    """By the body, and by the tenant of who sent it."""
    match body:
        case TriggerBody():
            return Question(pages=frozenset({rules_page(tenant)}))
        case TriggerCheckBody():
            return Question(pages=frozenset({rules_page(body.tenant)}))
        case TriggerListBody():
            return Question(pages=frozenset({trigger_paging(body)}))
        case TriggerRemoveBody():
            return Question(refs=frozenset({trigger_ref(body.tenant, body.name)}))
        case TriggerAddBody():
            return Question(
                refs=frozenset({trigger_ref(body.tenant, body.name)}), pages=frozenset({rules_page(body.tenant)})
            )


def wider(body: TriggerBody | TriggerCheckBody, rows: Sequence[Row]) -> Question:
    """By the key that was found: what is under its active version, and under the old one that would be emptied."""
    named = {row.name: row.key for row in rows if isinstance(row, Alias)}
    key = next((row for row in rows if isinstance(row, Key) and _is(row, body.key, named.get(body.key))), None)
    if key is None:
        return Question()
    occasion = Occasion(body.event)
    before_ms = body.occurred_ms if body.occurred_ms is not None else _EVER_MS
    return of_key(Occurred(occasion, key, before_ms, ""), [row for row in rows if isinstance(row, Version)])


def of_key(what: Occurred, versions: Sequence[Version]) -> Question:
    """The same for one occasion, whichever action answers it."""
    key = what.key
    found = (old_version(what, action, versions) for action in (TriggerAction.MOVE, TriggerAction.ROTATE))
    old = {version.number for version in found if version is not None}
    refs = [ref for number in old for ref in campaigns_of(key, number)]
    places = {(key.id, number) for number in (*old, key.active_version)}
    return Question(refs=frozenset(refs), needs=frozenset(places))


_EVER_MS = 2**63
"""Later than any version."""


def _is(row: Key, name: str, named: UUID | None) -> bool:
    return row.id == named or str(row.id) == name
