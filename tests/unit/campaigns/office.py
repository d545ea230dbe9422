"""A rig's fleet whose officer runs campaigns: commands, a process of the bulk lane, and what came of it."""

from dataclasses import dataclass
from uuid import UUID

from tests.unit.flow_river.rig import FLEET, PAYMENTS, Rig
from worker.client.answers import Refusal, Result, Wrap
from worker.flow.campaign_verify import Verifying
from worker.flow.campaigns import Campaigning
from worker.flow.failpoints import NONE
from worker.flow.standing import Standings
from worker.flow.trust import Trust
from worker.flow.uses import Uses
from worker.model.bodies import AnyBody, KeyRotateBody, WrapBody, WrapItem
from worker.model.campaign_bodies import CampaignShowBody, CampaignStartBody
from worker.model.campaign_replies import CampaignResult, CampaignView
from worker.model.campaigns import Campaign
from worker.model.facts import Facts, Question
from worker.model.fields import Reason
from worker.model.operations import Operation
from worker.model.rows import Alias, Key, RowRef, Table, Version
from worker.watch import Metrics


@dataclass
class Office:
    """See the module."""

    rig: Rig

    @classmethod
    async def opened(cls) -> "Office":
        return cls(await Rig.made())

    def process(self, sizes: tuple[int, int] = (3, 1)) -> Campaigning:
        rig, token = self.rig, self.rig.token
        standings = Standings(rig.store, Trust(token.fleet_keys), token.fleet_keys)
        verifying = Verifying(
            FLEET, "p", rig.memory.slices, standings, token.fleet_keys, rig.memory, rig.limits.recoverable_ms
        )
        uses = Uses(rig.memory)
        return Campaigning(
            "p", rig.memory.slices, standings, rig.hiccups, uses, verifying, NONE, Metrics(), sizes=sizes
        )

    async def ask(self, operation: Operation, body: AnyBody) -> Result:
        (result,) = (await self.rig.ask(operation, body, self.rig.ann)).results
        return result

    async def refused(self, operation: Operation, body: AnyBody) -> str:
        """The code."""
        result = await self.ask(operation, body)
        assert isinstance(result, Refusal), result
        return str(result.code)

    async def view(self, operation: Operation, body: AnyBody) -> CampaignView:
        result = await self.ask(operation, body)
        assert isinstance(result, CampaignResult), result
        return result.campaign

    async def wrapped(self, number: int, key: str = PAYMENTS) -> list[UUID]:
        body = WrapBody(key=key, items=[WrapItem() for _ in range(number)])
        told = await self.rig.ask(Operation.WRAP, body)
        return [one.id for one in told.results if isinstance(one, Wrap) and one.id is not None]

    async def rotated(self, key: str = PAYMENTS, reason: Reason = Reason.OPERATOR) -> None:
        await self.rig.command(Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key=key, reason=reason))

    async def started(self, key: str = PAYMENTS, **words: object) -> CampaignView:
        body = CampaignStartBody.model_validate({"tenant": "acme", "key": key} | words)
        return await self.view(Operation.CAMPAIGN_START, body)

    async def shown(self, id_: UUID) -> CampaignView:
        return await self.view(Operation.CAMPAIGN_SHOW, CampaignShowBody(tenant="acme", campaign=id_))

    async def ran(self, view: CampaignView, turns: int = 20) -> CampaignView:
        """A process works until it finds nothing more to do; leases run out meanwhile."""
        for _ in range(turns):
            self.rig.clock.ms += 6000
            await self.process().turn()
        return await self.shown(view.id)

    def key(self, name: str) -> Key:
        alias = self.rig.memory.rows[RowRef(Table.ALIASES, name)].row
        assert isinstance(alias, Alias)
        row = self.rig.memory.rows[RowRef(Table.KEYS, str(alias.key))].row
        assert isinstance(row, Key)
        return row

    def versions(self, name: str) -> list[Version]:
        id_ = self.key(name).id
        rows = [stored.row for stored in self.rig.memory.rows.values()]
        found = [row for row in rows if isinstance(row, Version) and row.key == id_]
        return sorted(found, key=lambda row: row.number)

    def row(self, id_: UUID) -> Campaign:
        found = self.rig.memory.rows[RowRef(Table.CAMPAIGNS, str(id_))].row
        assert isinstance(found, Campaign)
        return found

    async def facts(self, question: Question) -> Facts:
        return await Trust(self.rig.token.fleet_keys).verified(await self.rig.memory.know(question))
