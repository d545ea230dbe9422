"""A client's report of an occasion, and the officers' commands on the rules that answer it (S18)."""

from dataclasses import replace

from worker.chain import keys, triggers
from worker.chain.clients import enrolled_by
from worker.chain.lifecycle import Use
from worker.chain.listed import next_after, unbelieved
from worker.chain.plan import Case
from worker.chain.policy import Shown
from worker.chain.rotation import Ground
from worker.chain.told import teller
from worker.chain.triggers import MOST, Occurred, name_of, rule_for, rules_page
from worker.chain.versions import grace_refused
from worker.chain.work import Commanding, Step
from worker.model.campaigns import Campaign
from worker.model.codes import Code
from worker.model.effects import Seen
from worker.model.facts import RowPage
from worker.model.operations import Permission
from worker.model.outcomes import Commanded, Failed
from worker.model.rows import Client, Table
from worker.model.triggering import (
    AnyTriggerBody,
    TriggerAddBody,
    TriggerBody,
    TriggerChange,
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
from worker.model.triggers import Occasion, TriggerRule, trigger_ref


def command(case: Case, body: AnyTriggerBody) -> Step | Code:
    """One of them."""
    match body:
        case TriggerBody():
            return fire(case, body)
        case TriggerAddBody():
            return add(case, body)
        case TriggerRemoveBody():
            return remove(case, body)
        case TriggerListBody():
            return list_page(case, body)
        case _:
            return check(case, body)


def fire(case: Case, body: TriggerBody) -> Step | Code:
    """A client's report, in this order.

    1. The key is one of the client's own tenant, and its row or a rule allows it to report on that.
    2. What it reports has happened.
    3. A rule of the tenant answers it.
    """
    client = case.client
    key = keys.find(case, client.tenant, body.key)
    if isinstance(key, Code):
        return key
    licence = case.chains.licence(client, Permission.TRIGGER, key, key.active_version, Use.WRAP, Shown())  # 1
    if licence is None:
        return Code.INTEGRITY if client.id in case.facts.distrusted else Failed(Code.NOT_FOUND, "forbidden", key.id)
    if body.occurred_ms > case.facts.now_ms:  # 2
        return Code.MALFORMED
    occasion = Occasion(body.event)
    rule = rule_for(case.facts, occasion, key)  # 3
    if isinstance(rule, Code):
        return Failed(rule, "no rule" if rule is Code.NOT_FOUND else "", key.id)
    step = triggers.answer(_ground(case), rule, Occurred(occasion, key, body.occurred_ms, body.why))
    if isinstance(step, Commanding) and not isinstance(licence, Client):
        return replace(step, rests=(*step.rests, Seen(licence.ref, licence.revision)))
    return step


def add(case: Case, body: TriggerAddBody) -> Step | Code:
    """A rule, or another in the place of the one of this name."""
    if misfit(body.event, body.action, body.period_s):
        return Code.MALFORMED
    if refused := grace_refused(body.destroy_after_s, case.limits):
        return refused
    tenant = case.facts.tenants.get(body.tenant)
    if tenant is None:
        return Code.NOT_FOUND
    ref = trigger_ref(body.tenant, body.name)
    if ref in case.facts.tampered:
        return Code.INTEGRITY
    before = case.facts.rows.get(ref)
    if before is None and len(case.facts.pages.get(rules_page(body.tenant), ())) >= MOST:
        return Code.TOO_MANY
    rule = TriggerRule(
        id=ref.key,
        tenant=body.tenant,
        event=body.event,
        pattern=body.pattern,
        action=body.action,
        period_s=body.period_s,
        items_s=body.items_s,
        hsm_share=body.hsm_share,
        why=body.why,
        enrolled_by=enrolled_by(case),
        created_ms=case.facts.now_ms,
        revoked=False,
        revision=1 if before is None else before.revision + 1,
        destroy_after_s=body.destroy_after_s,
    )
    mine = () if before is None else (Seen(ref, before.revision),)
    return _put(case, rule, (Seen(tenant.ref, tenant.revision), *mine), "keyriver.trigger.added.v1", body.why)


def remove(case: Case, body: TriggerRemoveBody) -> Step | Code:
    """The rule answers nothing any more; doing it again changes nothing and is no error."""
    ref = trigger_ref(body.tenant, body.name)
    rule = case.facts.rows.get(ref)
    if not isinstance(rule, TriggerRule):
        return Code.INTEGRITY if ref in case.facts.tampered else Code.NOT_FOUND
    if rule.revoked:
        return Commanded(TriggerRuleResult(trigger=rule_view(rule)))
    gone = replace(rule, revoked=True, revision=rule.revision + 1)
    return _put(case, gone, (Seen(ref, rule.revision),), "keyriver.trigger.removed.v1", body.why)


def list_page(case: Case, body: TriggerListBody) -> Step | Code:
    """One page of a tenant's rules, the removed ones too."""
    if body.tenant not in case.facts.tenants:
        return Code.NOT_FOUND
    found = case.facts.pages.get(trigger_paging(body), ())
    shown = found[: body.limit]
    rows = [case.facts.rows.get(ref) for ref in shown]
    views = [rule_view(row) for row in rows if isinstance(row, TriggerRule)]
    after = shown[-1].key if shown else ""
    more = len(found) > body.limit
    return Commanded(
        TriggerListResult(
            triggers=views,
            after=after,
            more=more,
            tampered=unbelieved(case.facts, shown),
            next_after=next_after(shown, more=more),
        )
    )


def trigger_paging(body: TriggerListBody) -> RowPage:
    """The page that this body asks for."""
    return RowPage(Table.TRIGGER_RULES, body.tenant, body.after, body.limit + 1)


def check(case: Case, body: TriggerCheckBody) -> Step | Code:
    """The dry run: the same decision, and nothing of it is done. Whether the occasion has come is not asked."""
    key = keys.find(case, body.tenant, body.key)
    if isinstance(key, Code):
        return key
    rule = rule_for(case.facts, body.event, key)
    if rule is Code.NOT_FOUND:
        return Commanded(TriggerCheckResult(would_rotate=False, begins=False, why="no rule answers it"))
    if isinstance(rule, Code):
        return rule
    before_ms = case.facts.now_ms if body.occurred_ms is None else body.occurred_ms
    step = triggers.answer(_ground(case), rule, Occurred(body.event, key, before_ms, ""))
    if isinstance(step, Code):
        told = TriggerCheckResult(would_rotate=False, rule=rule_view(rule), begins=False, why=f"it would fail: {step}")
        return Commanded(told)
    assert isinstance(step.result, TriggerResult)  # noqa: S101 - `answer` made it
    campaign = step.result.campaign
    begins = isinstance(step, Commanding) and any(isinstance(row, Campaign) for row in step.rows)
    return Commanded(
        TriggerCheckResult(
            would_rotate=step.result.rotated,
            rule=rule_view(rule),
            from_version=None if campaign is None else campaign.from_version,
            to_version=None if campaign is None else campaign.to_version,
            kind=None if campaign is None else campaign.kind,
            begins=begins,
        )
    )


def rule_view(rule: TriggerRule) -> TriggerRuleView:
    """One rule as people see it."""
    return TriggerRuleView(
        tenant=rule.tenant,
        name=name_of(rule),
        event=rule.event,
        pattern=rule.pattern,
        action=rule.action,
        period_s=rule.period_s,
        items_s=rule.items_s,
        hsm_share=rule.hsm_share,
        destroy_after_s=rule.destroy_after_s,
        why=rule.why,
        enrolled_by=rule.enrolled_by,
        created_ms=rule.created_ms,
        revoked=rule.revoked,
    )


def _ground(case: Case) -> Ground:
    return Ground(case.facts, case.chains, teller(case))


def _put(case: Case, rule: TriggerRule, rests: tuple[Seen, ...], event: str, why: str) -> Commanding:
    by, view = teller(case), rule_view(rule)
    change = TriggerChange(
        tenant=rule.tenant,
        trigger=view,
        who=by.who,
        approved_by=by.approved_by,
        why=why,
        request=by.request,
        correlation=by.correlation,
        revision=rule.revision,
    )
    changes = tuple(seen.ref for seen in rests if seen.ref == rule.ref)
    result = TriggerRuleResult(trigger=view)
    return Commanding(
        op=None, version=None, rows=(rule,), changes=changes, rests=rests, result=result, event=event, told=change
    )
