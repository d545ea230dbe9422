"""The officers' commands: tenants, keys and clients. Each has one item and one result."""

from worker.chain import clients, keys
from worker.chain.outcomes import recall
from worker.chain.plan import Case, Decision, Plan
from worker.chain.work import Commanding, Step
from worker.model.bodies import (
    AnyBody,
    ClientAddBody,
    ClientListBody,
    ClientRevokeBody,
    ClientRotateBody,
    KeyCreateBody,
    KeyListBody,
    KeyRotateBody,
    KeyShowBody,
    TenantCreateBody,
)
from worker.model.codes import Code
from worker.model.effects import Seen
from worker.model.outcomes import Commanded, Failed


def plan(case: Case) -> Decision:
    """Plan a command; one that was answered before is answered with what the ledger kept."""
    (kept,) = recall(case.opened, 1, Commanded)
    decided = _step(case, case.request.body) if kept is None else kept
    step: Step = Failed(decided) if isinstance(decided, Code) else decided
    return Plan(case.request, (step,), _seen(case, step), case.opened)


def _step(case: Case, body: AnyBody) -> Step | Code:
    match body:
        case TenantCreateBody():
            return keys.create_tenant(case, body)
        case KeyCreateBody():
            return keys.create(case, body)
        case KeyRotateBody():
            return keys.rotate(case, body)
        case KeyShowBody():
            return keys.show(case, body)
        case KeyListBody():
            return keys.list_page(case, body)
        case ClientAddBody():
            return clients.add(case, body)
        case ClientRotateBody():
            return clients.rotate(case, body)
        case ClientRevokeBody():
            return clients.revoke(case, body)
        case ClientListBody():
            return clients.list_page(case, body)
        case _:
            return Code.MALFORMED


def _seen(case: Case, step: Step) -> tuple[Seen, ...]:
    """A command rests on the rows that it changes, on its tenant and on its parent's whole chain."""
    if not isinstance(step, Commanding):
        return ()
    facts = case.facts
    tenant = facts.tenants.get(getattr(case.request.body, "tenant", ""))
    rests = [Seen(tenant.ref, tenant.revision)] if tenant is not None else []
    return (*rests, *step.rests)
