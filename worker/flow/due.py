"""The duty that carries out what falls due, on the database's clock: activations, destructions, expired approvals.

One process at a time leads it, and what a dead one left is found again. No row depends on that: each step rests on the
rows' revisions, so a second one that comes late is refused. The token knows no revisions, and imported material may be
back by then: who was frozen past its lead touches no object. A destruction waits until every living worker has
confirmed that its handles are gone (S15). What can't be done now is tried later, and others pass it.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from worker.chain.approvals import approval_ref
from worker.chain.due import Due, approval_due, version_due
from worker.chain.importing import import_ref
from worker.chain.importing_due import import_due, is_closed, material_due
from worker.flow.attendance import Presence
from worker.flow.authentic import authenticated
from worker.flow.clock import boottime
from worker.flow.failpoints import NONE, Failpoints
from worker.flow.later import Later
from worker.flow.trust import Trust
from worker.model.effects import Settled
from worker.model.facts import Facts, Question
from worker.model.hsm import Condemned, DestroyedMaster, DestroyMaster
from worker.model.imports import Import
from worker.model.rows import State, Version
from worker.ports import Dues, FleetKeys, Hsm, Store

log = logging.getLogger(__name__)

LEAD_S = 5.0
"""Several turns; so long what is due waits when its leader dies."""
AT_ONCE = 100
Place = tuple[UUID, int]


@dataclass(frozen=True, slots=True)
class DueWork:
    """Does it. `serial` is this process's token: objects of another one are left to its workers."""

    holder: str
    serial: str
    recoverable_ms: int | None
    dues: Dues
    presence: Presence
    store: Store
    trust: Trust
    fleet_keys: FleetKeys
    hsm: Hsm
    failpoints: Failpoints = NONE
    clock: Callable[[], float] = boottime
    """Seconds, as `flow.clock`."""
    later: Later = field(default_factory=Later)

    async def turn(self) -> int:
        """Do what is due now; how many steps were done. A step that fails is logged and tried again next time."""
        until = self.clock() + LEAD_S
        if not await self.dues.lead(f"due/{self.serial}", self.holder, LEAD_S):
            return 0
        versions, approvals, imports = await self._found()
        if not (versions or approvals or imports):
            return 0
        question = Question(
            versions=frozenset(versions),
            trees=frozenset(key for key, _ in versions),
            needs=frozenset(versions),
            refs=frozenset([*map(approval_ref, approvals), *map(import_ref, imports)]),
        )
        facts = await self.trust.verified(await self.store.know(question))
        self.failpoints.reach("due-known")
        ready = await self._without_handles(facts, versions)
        parameters = ((id_, facts.rows.get(import_ref(id_))) for id_ in imports)
        ended = [(id_, import_due(facts, row)) for id_, row in parameters if isinstance(row, Import)]
        dues = [*self._all(facts, ready, approvals), *((id_, due) for id_, due in ended if due is not None)]
        done = [name for name, due in dues if await self._carry_out(due, until)]
        self.later.tried([*versions, *approvals, *imports], done)
        return len(done)

    async def _found(self) -> tuple[Sequence[Place], Sequence[UUID], Sequence[UUID]]:
        """What is due, without what is to be tried later: the longest due first."""
        limit = AT_ONCE + len(self.later)
        versions, approvals = await self.dues.due(limit, self.serial)
        imports = await self.dues.imports_due(limit, self.serial)
        waits = self.later.waits
        return (
            [place for place in versions if not waits(place)][:AT_ONCE],
            [id_ for id_ in approvals if not waits(id_)][:AT_ONCE],
            [id_ for id_ in imports if not waits(id_)][:AT_ONCE],
        )

    async def _without_handles(self, facts: Facts, places: Sequence[tuple[UUID, int]]) -> list[tuple[UUID, int]]:
        """What waits for no worker: everything but destructions, of material too, that somebody has not confirmed."""
        found = [facts.versions[place] for place in places if place in facts.versions]
        asked = [_condemned(one) for one in found if one.state is State.DESTROY_SCHEDULED or is_closed(one)]
        awaited = await self.presence.awaited(asked) if asked else {}
        for one, names in awaited.items():
            log.info("the destruction of %s/%d waits for %s", one.key, one.version, ", ".join(names))
        waiting = {(one.key, one.version) for one in awaited}
        return [place for place in places if place not in waiting]

    def _all(
        self, facts: Facts, versions: Sequence[Place], approvals: Sequence[UUID]
    ) -> Iterator[tuple[Place | UUID, Due]]:
        for place in versions:
            version = facts.versions.get(place)
            key = None if version is None else facts.keys.get(version.key)
            if version is None or key is None:
                log.error("what is due of %s/%d can't be believed and is not done", *place)
                continue
            due = version_due(facts, key, version, self.recoverable_ms or 0) or material_due(facts, key, version)
            if due is not None:
                yield place, due
        for id_ in approvals:
            approval = facts.approvals.get(id_)
            due = None if approval is None else approval_due(facts, approval)
            if due is not None:
                yield id_, due

    async def _carry_out(self, due: Due, until: float) -> bool:
        if due.op is not None:
            left = until - self.clock()
            if left <= 0:
                return False
            if isinstance(due.op, DestroyMaster):
                self.hsm.drop([due.op.key])
            (result,) = await self.hsm.run([due.op], left)
            if not isinstance(result, DestroyedMaster):
                log.warning("the token object %s is not destroyed yet: %s", due.op.material, result)
                return False
            self.failpoints.reach("due-executed")
        (settled,) = await self.store.settle([await authenticated(self.fleet_keys, due.settlement)])
        self.failpoints.reach("due-settled")
        return isinstance(settled, Settled)


def _condemned(version: Version) -> Condemned:
    return Condemned(version.key, version.number, version.revision)
