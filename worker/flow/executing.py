"""`execute`: all HSM operations of a batch in one go, then what they mean, then the MACs of rows to be written."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from worker.chain.conclude import conclude
from worker.chain.plan import Conclusion, NewIds, Plan
from worker.chain.work import Refreshing, Rewrapping, Step, Wrapping
from worker.flow.authentic import authentic_rows
from worker.flow.importing import Statements
from worker.flow.pacing import paced
from worker.flow.uses import Uses, VersionId
from worker.model.codes import Code
from worker.model.effects import Effect, PutRow
from worker.model.hsm import HsmOp, HsmResult
from worker.model.outcomes import Failed
from worker.ports import FleetKeys, Hsm, TokenUnavailable

HSM_S = 1.0
"""Deferred items end within their deadline or this many seconds, whichever is sooner (D4)."""
HURRIED_S = 0.25
"""For requests whose deadline comes sooner; in a run of their own, so that nobody's hurry harms a neighbour."""


@dataclass(frozen=True, slots=True)
class Executing:
    """The `execute` stage."""

    hsm: Hsm
    fleet_keys: FleetKeys
    uses: Uses
    new_ids: NewIds
    statements: Statements

    async def execute(self, plans: Sequence[Plan], now_ms: int) -> list[Conclusion]:
        """Run the plans; one conclusion per plan. A failed operation is an outcome of its item and of no other."""
        admitted = await self._admit(plans)
        hurried = [_is_hurried(plan, now_ms) for plan in admitted]
        usual, urgent = await asyncio.gather(
            self._run([plan for plan, hurries in zip(admitted, hurried, strict=True) if not hurries], HSM_S),
            self._run([plan for plan, hurries in zip(admitted, hurried, strict=True) if hurries], HURRIED_S),
        )
        conclusions = [
            conclude(plan, list(islice(urgent if hurries else usual, len(plan.ops))), self.new_ids)
            async for plan, hurries in paced(zip(admitted, hurried, strict=True))
        ]
        return await self._authenticate(conclusions)

    async def _run(self, plans: Sequence[Plan], patience_s: float) -> Iterator[HsmResult]:
        ops: list[HsmOp] = []
        for plan in plans:
            ops.extend(plan.ops)
        results = await self.hsm.run(ops, patience_s) if ops else []
        return iter(await self.statements.signed(plans, results))

    async def _admit(self, plans: Sequence[Plan]) -> Sequence[Plan]:
        """Lease the encryptions of the batch; items under an exhausted version are refused."""
        wanted = Counter(
            version for plan in plans for step in plan.steps if (version := _encrypts_under(step)) is not None
        )
        exhausted = await self.uses.take(wanted) if wanted else frozenset()
        if not exhausted:
            return plans
        return [replace(plan, steps=tuple(_unless(exhausted, step) for step in plan.steps)) for plan in plans]

    async def _authenticate(self, conclusions: list[Conclusion]) -> list[Conclusion]:
        """Give every row to be written its MAC, and have its change told (S7)."""
        puts = [effect for done in conclusions for effect in done.settlement.effects if isinstance(effect, PutRow)]
        if not puts:
            return conclusions
        try:
            made = iter(await authentic_rows(self.fleet_keys, [put.row for put in puts], self.new_ids))
        except TokenUnavailable:
            return [self._deferred(done) if _puts_rows(done) else done for done in conclusions]
        given: list[Conclusion] = []
        for done in conclusions:
            effects: list[Effect] = []
            for effect in done.settlement.effects:
                effects += next(made) if isinstance(effect, PutRow) else (effect,)
            given.append(replace(done, settlement=replace(done.settlement, effects=tuple(effects))))
        return given

    def _deferred(self, done: Conclusion) -> Conclusion:
        """The same request with nothing done: without its MAC a row must not be written."""
        steps = (Failed(Code.DEFERRED),) * len(done.plan.steps)
        return conclude(replace(done.plan, steps=steps), (), self.new_ids)


def _puts_rows(done: Conclusion) -> bool:
    return any(isinstance(effect, PutRow) for effect in done.settlement.effects)


def _encrypts_under(step: Step) -> VersionId | None:
    match step:
        case Wrapping(op=op):
            return op.kek.key, op.kek.version
        case Rewrapping(op=op) | Refreshing(op=op):
            return op.target.key, op.target.version
        case _:
            return None


def _unless(exhausted: frozenset[VersionId], step: Step) -> Step:
    if _encrypts_under(step) not in exhausted:
        return step
    return step.plain if isinstance(step, Refreshing) else Failed(Code.KEY_EXHAUSTED)


def _is_hurried(plan: Plan, now_ms: int) -> bool:
    """Whether its deadline is so near that it must not wait for the HSM as long as its neighbours do."""
    return plan.request.deadline_ms is not None and plan.request.deadline_ms - now_ms < HSM_S * 1000
