"""The caller's own DEKs out of their seal (S4), before `decide`, and only where something is still open."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from worker.chain.decide import is_answered
from worker.chain.plan import Unsealed
from worker.flow.pacing import paced
from worker.model.bodies import WrapBody
from worker.model.codes import Code
from worker.model.facts import Facts
from worker.model.requests import Request
from worker.model.rows import IntakeKey
from worker.ports import TokenUnavailable
from worker.seal.errors import SealError
from worker.seal.hpke import Opener, info, unpack_slots


class Openers(Protocol):
    """The private halves of the fleet's intake keys."""

    async def opener(self, key: IntakeKey) -> Opener | None:
        """The private half, or None where it is deleted. Raises `TokenUnavailable`."""
        ...


@dataclass(frozen=True, slots=True)
class Unsealing:
    """Opens what callers sealed to the intake keys."""

    fleet: str
    openers: Openers

    async def unseal(self, requests: list[Request], facts: Facts) -> Mapping[int, Unsealed]:
        """The DEKs of each request that brings some, by its place in the batch."""
        found: dict[int, Unsealed] = {}
        async for index, request in paced(enumerate(requests)):
            body = request.body
            if (
                isinstance(body, WrapBody)
                and body.sealed is not None
                and not is_answered(facts.ledger.get(request.key))
            ):
                found[index] = await self._open(request, body, facts)
        return found

    async def _open(self, request: Request, body: WrapBody, facts: Facts) -> Unsealed:
        assert body.sealed is not None  # noqa: S101 - the caller looked
        key = facts.intake_keys.get(body.sealed.sequence)
        if key is None or not key.not_before_ms <= request.time_ms <= key.not_after_ms:
            return Code.INTAKE_KEY_UNKNOWN
        tenant = facts.tenants.get(request.key.tenant)
        if tenant is None:
            return Code.INTEGRITY  # the client's row names it
        if not key.suite.at_least(tenant.minimum_suite):
            return Code.SUITE_TOO_WEAK
        try:
            opener = await self.openers.opener(key)
        except TokenUnavailable:
            return Code.DEFERRED
        except ValueError:
            return Code.INTEGRITY
        if opener is None:
            return Code.INTAKE_KEY_UNKNOWN
        bound = info(
            "request",
            key.suite,
            self.fleet,
            request.key.tenant,
            request.key.client,
            request.operation.value,
            request.key.id,
            key.public_key,
        )
        try:
            return tuple(unpack_slots(opener.open(bound, body.sealed.ciphertext), len(body.items)))
        except SealError:
            return Code.SEALED_UNREADABLE
