"""`execute`: all HSM operations of a batch in one go, then what they mean, then the MACs of rows to be written."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from worker.chain.conclude import conclude
from worker.chain.plan import Conclusion, NewIds, Plan
from worker.chain.work import Rewrapping, Step, Wrapping
from worker.flow.pacing import paced
from worker.flow.uses import Uses, VersionId
from worker.model.codes import Code
from worker.model.effects import Effect, PutRow
from worker.model.hsm import HsmOp
from worker.model.outcomes import Failed
from worker.ports import FleetKeys, Hsm
from worker.seal.rowmac import mac_input

HSM_S = 1.0
"""Deferred items end within their deadline or this, whichever is sooner (D4)."""


@dataclass(frozen=True, slots=True)
class Executing:
    """The `execute` stage."""

    hsm: Hsm
    fleet_keys: FleetKeys
    uses: Uses
    new_ids: NewIds

    async def execute(self, plans: Sequence[Plan], now_ms: int) -> list[Conclusion]:
        """Run the plans; one conclusion per plan. A failed operation is an outcome of its item and of no other."""
        admitted = await self._admit(plans)
        ops: list[HsmOp] = []
        for plan in admitted:
            ops.extend(plan.ops)
        results = iter(await self.hsm.run(ops, _patience(admitted, now_ms)) if ops else ())
        conclusions = [
            conclude(plan, list(islice(results, len(plan.ops))), self.new_ids) async for plan in paced(admitted)
        ]
        return await self._authenticate(conclusions)

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
        """Give every row to be written its MAC (S7)."""
        puts = [effect for done in conclusions for effect in done.settlement.effects if isinstance(effect, PutRow)]
        if not puts:
            return conclusions
        macs = iter(await self.fleet_keys.mac([mac_input(put.row) for put in puts]))
        authenticated = []
        for done in conclusions:
            effects: list[Effect] = []
            for effect in done.settlement.effects:
                if isinstance(effect, PutRow):
                    mac = next(macs)
                    effects.append(PutRow(effect.row, mac.version, mac.value))
                else:
                    effects.append(effect)
            authenticated.append(replace(done, settlement=replace(done.settlement, effects=tuple(effects))))
        return authenticated


def _encrypts_under(step: Step) -> VersionId | None:
    match step:
        case Wrapping(op=op):
            return op.kek.key, op.kek.version
        case Rewrapping(op=op):
            return op.target.key, op.target.version
        case _:
            return None


def _unless(exhausted: frozenset[VersionId], step: Step) -> Step:
    return Failed(Code.KEY_EXHAUSTED) if _encrypts_under(step) in exhausted else step


def _patience(plans: Sequence[Plan], now_ms: int) -> float:
    """Seconds until the first deadline of the batch, at most `HSM_S`."""
    deadlines = [plan.request.deadline_ms for plan in plans if plan.request.deadline_ms is not None]
    return min([HSM_S, *(max(0.05, (deadline - now_ms) / 1000) for deadline in deadlines)])
