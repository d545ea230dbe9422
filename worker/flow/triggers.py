"""The duty that looks for occasions which rules of triggers wait for (S18), and does what they say.

One process at a time leads it; nothing depends on that, for each step rests on the revisions of its rows. It walks over
all keys, some pages a turn, so that keys for which nothing can be done now hide no other ones.
"""

import logging
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from worker.chain.resolve import Chains
from worker.chain.trigger_dues import due, occurred, settlement
from worker.chain.triggers import rules_page
from worker.chain.work import Commanding
from worker.flow.authentic import authenticated
from worker.flow.trigger_knowing import of_key
from worker.flow.trust import Trust
from worker.model.effects import Settled
from worker.model.facts import Facts, Question
from worker.model.hsm import CreateMaster, HsmResult
from worker.model.ids import NO_ID
from worker.model.outcomes import Commanded
from worker.model.triggers import Found
from worker.ports import Dues, FleetKeys, Hsm, Store

log = logging.getLogger(__name__)

LEAD_S = 20.0
"""Several turns; so long an occasion waits when its leader dies."""
HSM_S = 5.0
PAGE, PAGES = 1000, 20
"""Keys looked at in one statement, and pages in one turn."""


class Occasions(Protocol):
    """Where occasions are found."""

    async def watched(self) -> bool:
        """Whether any rule waits for something that the fleet sees by itself."""
        ...

    async def page(self, after: UUID, size: int) -> tuple[list[Found], UUID | None]:
        """What has come for the next keys after this one, and the last key that was looked at; None: of all."""
        ...


@dataclass(slots=True)
class Triggering:
    """The duty. `serial` is this process's token: L1 of another one are left to its workers."""

    holder: str
    serial: str
    occasions: Occasions
    dues: Dues
    store: Store
    trust: Trust
    fleet_keys: FleetKeys
    hsm: Hsm
    _after: UUID = field(default=NO_ID)

    async def turn(self) -> int:
        """Look at some pages and do what is due there; how many steps were done."""
        if not await self.dues.lead(f"triggers/{self.serial}", self.holder, LEAD_S):
            return 0
        if not await self.occasions.watched():
            return 0
        done = 0
        for _ in range(PAGES):
            found, last = await self.occasions.page(self._after, PAGE)
            self._after = NO_ID if last is None else last
            for one in found:
                done += await self._answered(one)
            if last is None:
                break
        return done

    async def _answered(self, found: Found) -> bool:
        """One occasion, on rows as they are now: those before it may have changed them."""
        facts = await self._known(found)
        step = due(facts, Chains(facts), found)
        if step is None or not self._is_ours(facts, found, step):
            return False
        result: HsmResult | None = None
        if step.op is not None:
            (result,) = await self.hsm.run([step.op], HSM_S)
        outcome = step.outcome(result)
        if not isinstance(outcome, Commanded):
            log.info("%s of %s: not now, %s", found.occasion, found.key, outcome)
            return False
        made = await authenticated(self.fleet_keys, settlement(facts, found, step, result))
        (settled,) = await self.store.settle([made])
        return isinstance(settled, Settled)

    async def _known(self, found: Found) -> Facts:
        """The key, its versions and the tenant's rules; then the campaigns, and what they would move."""
        question = Question(
            trees=frozenset({found.key}),
            tenants=frozenset({found.tenant}),
            pages=frozenset({rules_page(found.tenant)}),
        )
        facts = await self.trust.verified(await self.store.know(question))
        key = facts.keys.get(found.key)
        active = None if key is None else facts.versions.get((key.id, key.active_version))
        if key is None or active is None:
            return facts
        more = of_key(occurred(facts, found, key, active), list(facts.versions.values()))
        question = Question(
            trees=question.trees, tenants=question.tenants, pages=question.pages, refs=more.refs, needs=more.needs
        )
        return await self.trust.verified(await self.store.know(question))

    def _is_ours(self, facts: Facts, found: Found, step: Commanding) -> bool:
        """Whether this process may do it: a new version of an L1 is made where the one before is."""
        if not isinstance(step.op, CreateMaster):
            return True
        key = facts.keys[found.key]
        return facts.versions[(key.id, key.active_version)].serial == self.serial
