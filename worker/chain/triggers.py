"""What an occasion starts (S18): purely, and the same for a client's report as for what the fleet sees by itself.

Idempotent by construction. A rotation is done only if the active version was made before the occasion, and a campaign
is the one of its versions: the same report, however often and under whatever ids, finds what the first one did.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from worker.chain import campaigns, policy, rotation
from worker.chain.campaigns import campaign_id, campaign_ref, moves_deks, new_campaign, remaining, seen_view
from worker.chain.lifecycle import Change
from worker.chain.rotation import Ground
from worker.chain.versions import retiring
from worker.chain.work import Commanding
from worker.model.campaign_replies import CampaignTold, CampaignView
from worker.model.campaigns import Campaign, CampaignKind, CampaignState
from worker.model.codes import Code
from worker.model.effects import Seen
from worker.model.facts import Facts, Needs, RowPage
from worker.model.fields import Answer, Reason
from worker.model.outcomes import Commanded
from worker.model.rows import Key, RowRef, State, Table, Version
from worker.model.triggering import TriggerResult, TriggerTold
from worker.model.triggers import Occasion, TriggerAction, TriggerRule

MOST = 1000
"""Rules of one tenant, whether in force or not: all of them are read with each report."""
FIRED = "keyriver.trigger.fired.v1"
OLD = (State.DEACTIVATED, State.COMPROMISED)
_REASONS = {Occasion.KEY_AGE: Reason.AGE, Occasion.USE_COUNT: Reason.USAGE}


@dataclass(frozen=True, slots=True)
class Occurred:
    """What happened to a key. Versions made at `before_ms` or later are answers to it already.

    `from_version` is which old version it is about, if it is about one.
    """

    occasion: Occasion
    key: Key
    before_ms: int
    why: str
    from_version: int | None = None


def rules_page(tenant: str) -> RowPage:
    """All rules of a tenant."""
    return RowPage(Table.TRIGGER_RULES, tenant, "", MOST)


def rule_for(facts: Facts, occasion: Occasion, key: Key) -> TriggerRule | Code:
    """The most specific rule in force, or `NOT_FOUND`. One that somebody edited might be it: then nothing is done."""
    refs = facts.pages.get(rules_page(key.tenant), ())
    if not facts.tampered.isdisjoint(refs):
        return Code.INTEGRITY
    names = facts.names.get(key.id, ())
    rows = [facts.rows.get(ref) for ref in refs]
    fitting = [
        row
        for row in rows
        if isinstance(row, TriggerRule)
        and row.event is occasion
        and not row.revoked
        and policy.fits(row.pattern, names)
    ]
    return min(fitting, key=lambda row: (-len(row.pattern), row.id), default=Code.NOT_FOUND)


def old_version(what: Occurred, action: TriggerAction, versions: Iterable[Version]) -> Version | None:
    """Which old version the key's things are moved from: of a move the newest one, else the newest before it."""
    older = [
        version
        for version in versions
        if version.key == what.key.id
        and version.number < what.key.active_version
        and version.state is not State.PRE_ACTIVE
        and what.from_version in (None, version.number)
        and (version.state in OLD if action is TriggerAction.MOVE else version.created_ms < what.before_ms)
    ]
    return max(older, key=lambda version: version.number, default=None)


def campaigns_of(key: Key, old: int) -> list[RowRef]:
    """Every campaign that an occasion may have started from this version, the first one first."""
    return [campaign_ref(campaign_id(key.id, old, to)) for to in range(old + 1, key.active_version + 1)]


def answer(ground: Ground, rule: TriggerRule, what: Occurred) -> Commanding | Commanded | Code:
    """What the rule does: a rotation and its campaign, a campaign, or only telling how what was started stands."""
    active = ground.facts.versions.get((what.key.id, what.key.active_version))
    if active is None:
        return Code.INTEGRITY
    if rule.action is not TriggerAction.MOVE and active.created_ms < what.before_ms:
        return _rotated(ground, rule, what, active)
    old = old_version(what, rule.action, ground.facts.versions.values())
    if old is None:
        return Commanded(_result(rule, what.key, None))
    return _moved(ground, rule, what, old)


def _rotated(ground: Ground, rule: TriggerRule, what: Occurred, active: Version) -> Commanding | Code:
    emergency = rule.action is TriggerAction.EMERGENCY
    reason = Reason.COMPROMISE if emergency else _REASONS.get(what.occasion, Reason.SCHEDULED)
    step = rotation.rotated(ground, what.key, reason, what.why)
    if isinstance(step, Code):
        return step
    key = next(row for row in step.rows if isinstance(row, Key))
    old = next((row for row in step.rows if isinstance(row, Version)), active)
    begun = _begun(ground, rule, key, old, what.why) if old.state in OLD else None
    shown = None if begun is None else seen_view(ground.facts, begun)
    result = _result(rule, key, shown, rotated=True)
    also = ((step.event, step.result), *step.also)
    return _telling(ground, rule, what, replace(step, result=result, also=also), begun)


def _moved(ground: Ground, rule: TriggerRule, what: Occurred, old: Version) -> Commanding | Commanded | Code:
    facts, key, refs = ground.facts, what.key, campaigns_of(what.key, old.number)
    if not facts.tampered.isdisjoint(refs):
        return Code.INTEGRITY
    rows = [row for ref in refs if isinstance(row := facts.rows.get(ref), Campaign)]
    known = next((row for row in rows if not _leads_nowhere(row, key)), None)
    retired: tuple[Version, ...] = ()
    also: tuple[tuple[str, Answer], ...] = ()
    if rule.action is TriggerAction.EMERGENCY:  # a rotation came before the news, and was none of an emergency
        retired, also = retiring(ground.tells, key, old, Change.COMPROMISE, what.why, Reason.COMPROMISE)
    begun = None if known or old.state not in OLD else _begun(ground, rule, key, (*retired, old)[0], what.why)
    stands = begun or known
    result = _result(rule, key, None if stands is None else seen_view(facts, stands))
    if begun is None and not retired:
        return Commanded(result)
    step = Commanding(
        op=None,
        version=None,
        rows=retired,
        changes=tuple(row.ref for row in retired),
        rests=(Seen(key.ref, key.revision), Seen(old.ref, old.revision)),
        result=result,
        event=FIRED,
        also=also,
        drops=(key.id,) if retired else (),
    )
    return _telling(ground, rule, what, step, begun)


def _leads_nowhere(campaign: Campaign, key: Key) -> bool:
    """Whether the key was rotated again before it was done: it can't be replayed, and answers nothing any more."""
    return campaign.state is CampaignState.FAILED and campaign.to_version != key.active_version


def _begun(ground: Ground, rule: TriggerRule, key: Key, old: Version, why: str) -> Campaign:
    """The campaign as it starts, at the speed that the rule says."""
    known_to_others = rule.action is TriggerAction.EMERGENCY or old.state is State.COMPROMISED
    kind = CampaignKind.DEEP if known_to_others and not moves_deks(key) else CampaignKind.SHALLOW
    planned = new_campaign(key, old, key.active_version, kind, ground.tells.who, ground.facts.now_ms)
    running = campaigns.went(planned, CampaignState.RUNNING, ground.facts.now_ms)
    items = remaining(ground.facts.needs.get((key.id, old.number), Needs()))
    return replace(
        running,
        items=items,
        items_s=rule.items_s,
        hsm_share=rule.hsm_share,
        why=why,
        revision=1,
        destroy_after_s=rule.destroy_after_s if kind is CampaignKind.SHALLOW else 0,
    )


def _telling(ground: Ground, rule: TriggerRule, what: Occurred, step: Commanding, begun: Campaign | None) -> Commanding:
    """The step with its campaign, and with the facts that tell of both and of the rule; it rests on the rule, too."""
    assert isinstance(step.result, TriggerResult)  # noqa: S101 - both callers made it
    tells, started, rows = ground.tells, step.also, step.rows
    if begun is not None:
        told = CampaignTold(campaign=seen_view(ground.facts, begun), who=tells.who, why=what.why)
        started, rows = (*started, (campaigns.EVENTS[begun.state], told)), (*rows, begun)
    fired = TriggerTold(
        tenant=rule.tenant,
        event=what.occasion,
        occurred_ms=what.before_ms,
        result=step.result,
        who=tells.who,
        why=what.why,
        request=tells.request,
        correlation=tells.correlation,
    )
    rests = (*step.rests, Seen(rule.ref, rule.revision))
    return replace(step, rows=rows, rests=rests, event=FIRED, told=fired, also=started)


def _result(rule: TriggerRule, key: Key, campaign: CampaignView | None, *, rotated: bool = False) -> TriggerResult:
    return TriggerResult(
        fired=name_of(rule),
        action=rule.action,
        triggered_key=key.id,
        version=key.active_version,
        rotated=rotated,
        campaign=campaign,
    )


def name_of(rule: TriggerRule) -> str:
    """The rule's name within its tenant."""
    return rule.id.removeprefix(f"{rule.tenant}/")
