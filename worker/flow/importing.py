"""What the fleet's own key says of import parameters (S1): signed between the token's answer and its conclusion."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from worker.chain.importing import Offering
from worker.chain.plan import Plan
from worker.model.hsm import (
    Fault,
    HsmFault,
    HsmResult,
)
from worker.model.import_ops import (
    ImportPair,
)
from worker.model.imported import ImportParametersResult
from worker.ports import FleetKeys, TokenUnavailable
from worker.seal.importing import ImportStatement


@dataclass(frozen=True, slots=True)
class Statements:
    """Signs them. A batch without import parameters costs nothing."""

    fleet: str
    fleet_keys: FleetKeys

    async def signed(self, plans: Sequence[Plan], results: Sequence[HsmResult]) -> list[HsmResult]:
        """The results, one per operation of the plans in their order; unsigned parameters are never given out."""
        if not any(isinstance(result, ImportPair) for result in results):
            return list(results)
        steps = [step for plan in plans for step in plan.steps if getattr(step, "op", None) is not None]
        pairs = zip(steps, results, strict=True)
        return [
            await self._signed(step.result, result)
            if isinstance(step, Offering) and isinstance(step.result, ImportParametersResult)
            else result
            for step, result in pairs
        ]

    async def _signed(self, told: ImportParametersResult, result: HsmResult) -> HsmResult:
        if not isinstance(result, ImportPair):
            return result
        statement = ImportStatement(
            fleet=self.fleet,
            tenant=told.tenant,
            key=told.key,
            parameters=told.parameters,
            algorithm=told.algorithm,
            public_key=result.public_key,
            serial=result.serial,
            expires_ms=told.expires_ms,
        )
        try:
            signature = await self.fleet_keys.sign(statement.payload())
        except TokenUnavailable as away:
            return HsmFault(Fault.UNAVAILABLE, str(away))
        return replace(result, fleet=self.fleet, signature=signature)
