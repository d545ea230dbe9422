"""What the fleet sees by itself (S18): age, use, a parent or a customer's key rotated. Decided as a report is."""

from worker.chain.due import effects
from worker.chain.leaves import ACTOR
from worker.chain.resolve import Chains
from worker.chain.rotation import Ground
from worker.chain.told import Teller
from worker.chain.triggers import Occurred, answer, rule_for
from worker.chain.work import Commanding
from worker.model.effects import Settlement
from worker.model.facts import Facts
from worker.model.hsm import HsmResult
from worker.model.rows import Key, Link, RowRef, Table, Version
from worker.model.triggers import Found, Occasion, TriggerRule


def due(facts: Facts, chains: Chains, found: Found) -> Commanding | None:
    """What is to be done now, or None: no rule says so, it was done, or it can't be."""
    key = facts.keys.get(found.key)
    active = None if key is None else facts.versions.get((key.id, key.active_version))
    if key is None or active is None or key.tenant != found.tenant:
        return None
    rule = rule_for(facts, found.occasion, key)
    if not isinstance(rule, TriggerRule):
        return None
    name = _name(found, key)
    ground = Ground(facts, chains, Teller(facts, ACTOR, None, name, name))
    step = answer(ground, rule, occurred(facts, found, key, active, rule.period_s))
    return step if isinstance(step, Commanding) else None


def occurred(facts: Facts, found: Found, key: Key, active: Version, period_s: int = 0) -> Occurred:
    """Since when it is so: what was made later answers it."""
    match found.occasion:
        case Occasion.KEY_AGE:
            return Occurred(found.occasion, key, facts.now_ms - period_s * 1000 + 1, "its period is over")
        case Occasion.USE_COUNT:
            is_now = found.version == key.active_version
            return Occurred(found.occasion, key, facts.now_ms + 1 if is_now else 0, "it was used often enough")
        case Occasion.PROVIDER_VERSION:
            links = [row for row in facts.rows.values() if isinstance(row, Link) and row.key == key.parent]
            since = max((link.rotated_ms for link in links if link.version == active.parent_version), default=0)
            return Occurred(found.occasion, key, since, "the customer rotated the key above it")
        case _:
            why = f"keys below stand under version {found.version}"
            return Occurred(found.occasion, key, facts.now_ms, why, found.version)


def settlement(facts: Facts, found: Found, step: Commanding, result: HsmResult | None) -> Settlement:
    """All that it leaves behind. Whoever does it again finds that the rows have moved."""
    key = facts.keys[found.key]
    told = step.facts(step.outcome(result))
    ref = RowRef(Table.KEYS, _name(found, key))
    done = effects(facts.now_ms, key.tenant, ref, step.written(result), told, step.drops)
    return Settlement(None, None, step.rests, step.changes, done)


def _name(found: Found, key: Key) -> str:
    return f"{found.occasion} {key.id}/{found.version} at revision {key.revision}"
