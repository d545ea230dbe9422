"""Wraps in the small world: asked, carried out, kept in the ledger."""

from collections.abc import Sequence

from tests.unit.chain.token import answer
from tests.unit.chain.world import EU, PAYMENTS, ROOT, World, chain_refs
from worker.chain.conclude import conclude
from worker.chain.plan import Conclusion
from worker.model.bodies import SealedDeks, WrapBody, WrapItem
from worker.model.effects import Count, StoreDeks
from worker.model.hsm import Fault, HsmFault, HsmResult
from worker.model.operations import Operation
from worker.model.outcomes import Wrapped
from worker.model.requests import Request
from worker.model.rows import Client, Dek, RowRef

KEY = "acme/eu/payments"
SEALED = SealedDeks(sequence=1, ciphertext=b"sealed")
WRAP_CHAIN = (RowRef(Client.TABLE, "billing"), *chain_refs(ROOT, EU, PAYMENTS))
AWAY = HsmFault(Fault.UNAVAILABLE)


def ask(world: World, items: int = 1, **body: object) -> Request:
    made = {"key": KEY, "items": [WrapItem() for _ in range(items)], **body}
    return world.request(Operation.WRAP, WrapBody.model_validate(made))


def finished(world: World, request: Request, results: Sequence[HsmResult | None] | None = None) -> Conclusion:
    """Decide, conclude and keep; None in `results` is a healthy answer."""
    plan = world.plan(request)
    pairs = zip(plan.ops, [None] * len(plan.ops) if results is None else results, strict=True)
    done = conclude(plan, [answer(op) if result is None else result for op, result in pairs], world.new_ids)
    if done.settlement.ledger is not None:
        world.keep(done)
    return done


def wrapped(done: Conclusion) -> list[Wrapped]:
    found = [outcome for outcome in done.outcomes if isinstance(outcome, Wrapped)]
    assert len(found) == len(done.outcomes)
    return found


def counts(done: Conclusion) -> list[Count]:
    return [effect for effect in done.settlement.effects if isinstance(effect, Count)]


def stored(done: Conclusion) -> list[Dek]:
    return [dek for effect in done.settlement.effects if isinstance(effect, StoreDeks) for dek in effect.deks]


def wrapped_of(done: Conclusion, index: int) -> Wrapped:
    outcome = done.outcomes[index]
    assert isinstance(outcome, Wrapped)
    return outcome
