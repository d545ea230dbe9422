"""A process has several slices at once, of which one is on the token: the others are read or settled meanwhile."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from tests.unit.campaigns.office import Office
from worker.model.campaigns import CampaignState
from worker.model.hsm import Condemned, HsmOp, HsmResult
from worker.ports import Hsm

ROUNDS = 200
"""Of the event loop: long enough for every other lane to go as far as it can."""


@dataclass
class Watched:
    """A token that lets the others go on, and counts who is there and how many slices are under way."""

    hsm: Hsm
    office: Office
    inside: int = 0
    most: int = 0
    under_way: list[int] = field(default_factory=list)

    async def run(self, ops: Sequence[HsmOp], timeout_s: float) -> list[HsmResult]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        for _ in range(ROUNDS):
            await asyncio.sleep(0)
        slices = self.office.rig.memory.slices.slices.values()
        self.under_way.append(sum(one.done is None for one in slices))
        self.inside -= 1
        return await self.hsm.run(ops, timeout_s)

    def drop(self, keys: Iterable[UUID] | None) -> None:
        self.hsm.drop(keys)

    def condemn(self, versions: Iterable[Condemned]) -> frozenset[Condemned]:
        return self.hsm.condemn(versions)


async def test_one_slice_is_on_the_token_and_others_are_under_way() -> None:
    office = await Office.opened()
    await office.wrapped(30)
    await office.rotated()
    process = office.process()
    token = Watched(process.hsm, office)
    view = await office.started()
    await replace(process, hsm=token).turn()
    shown = await office.shown(view.id)
    assert (shown.state, shown.moved) == (CampaignState.DONE, 30)
    assert token.most == 1
    assert max(token.under_way) > 1
